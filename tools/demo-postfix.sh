# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A Postfix of one's own in one directory, beside whatever Postfix the host has. Sourced by
# tools/demo. Three ports on 127.0.0.1: submission (milter, ORIGINATING), inbound (milter) and
# reinject (no milter); mail for its domain goes to DIR/mail/USER/new.

make_postfix() { # DIR DOMAIN USER SUBMISSION INBOUND REINJECT MILTER TRANSPORTS
    local dir=$1 domain=$2 user=$3 submission=$4 inbound=$5 reinject=$6 milter=$7 transports=$8
    mkdir -p "$dir/etc" "$dir/queue" "$dir/data" "$dir/mail"
    chown postfix "$dir/data"
    chown nobody "$dir/mail"
    cat >"$dir/etc/main.cf" <<-END
	compatibility_level = 3.6
	queue_directory = $dir/queue
	data_directory = $dir/data
	maillog_file = $dir/maillog
	maillog_file_prefixes = $dir
	myhostname = mx.$domain
	mydestination =
	mynetworks = 127.0.0.0/8
	inet_interfaces = 127.0.0.1
	inet_protocols = ipv4
	alias_maps =
	alias_database =
	virtual_mailbox_domains = $domain
	virtual_mailbox_base = $dir/mail
	virtual_mailbox_maps = inline:{ $user@$domain=$user/ }
	virtual_uid_maps = static:$(id -u nobody)
	virtual_gid_maps = static:$(id -g nobody)
	virtual_minimum_uid = 1
	virtual_mailbox_limit = 0
	# no DNS, no other way out than these
	smtp_dns_support_level = disabled
	smtp_host_lookup = native
	smtpd_peername_lookup = no
	default_transport = error:5.1.2 no route in this demonstration
	transport_maps = inline:{ $transports }
	smtp_tls_security_level = none
	smtpd_tls_security_level = none
	message_size_limit = 52428800
	queue_run_delay = 5s
	minimal_backoff_time = 5s
	maximal_backoff_time = 10s
	# mail from sendmail(1)
	non_smtpd_milters = inet:127.0.0.1:$milter
	milter_macro_daemon_name = ORIGINATING
	# doubt is a temporary failure: mail waits while the milter is away
	milter_default_action = tempfail
	milter_content_timeout = 60s
	END
    cat >"$dir/etc/master.cf" <<-END
	127.0.0.1:$submission inet n - n - - smtpd
	    -o smtpd_milters=inet:127.0.0.1:$milter
	    -o milter_macro_daemon_name=ORIGINATING
	127.0.0.1:$inbound inet n - n - - smtpd
	    -o smtpd_milters=inet:127.0.0.1:$milter
	    -o milter_macro_daemon_name=inbound
	    -o smtpd_relay_restrictions=reject_unauth_destination
	127.0.0.1:$reinject inet n - n - - smtpd
	    -o smtpd_milters=
	pickup unix n - n 60 1 pickup
	cleanup unix n - n - 0 cleanup
	qmgr unix n - n 300 1 qmgr
	rewrite unix - - n - - trivial-rewrite
	bounce unix - - n - 0 bounce
	defer unix - - n - 0 bounce
	trace unix - - n - 0 bounce
	verify unix - - n - 1 verify
	flush unix n - n 1000? 0 flush
	proxymap unix - - n - - proxymap
	smtp unix - - n - - smtp
	relay unix - - n - - smtp
	showq unix n - n - - showq
	error unix - - n - - error
	retry unix - - n - - error
	discard unix - - n - - discard
	virtual unix - n n - - virtual
	anvil unix - - n - 1 anvil
	scache unix - - n - 1 scache
	postlog unix-dgram n - n - 1 postlogd
	END
}

start_postfix() { # DIR
    postfix -c "$1/etc" start >>"$1/start.log" 2>&1 || {
        cat "$1/start.log" >&2
        return 1
    }
}

stop_postfix() { # DIR
    if [[ -f $1/etc/main.cf ]] && postfix -c "$1/etc" status >/dev/null 2>&1; then
        postfix -c "$1/etc" stop >>"$1/start.log" 2>&1
    fi
}

# The N-th message that USER got, once it is there.
mailbox() { # DIR USER N
    local files=()
    mapfile -t files < <(ls -tr "$1/mail/$2/new" 2>/dev/null)
    [[ ${#files[@]} -ge $3 ]] && echo "$1/mail/$2/new/${files[$3 - 1]}"
}
