# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A custodian with officers alice, bob and carol, of whom two must agree, and the auditor dave; in a
# directory of its own, with a SoftHSM token "main" whose PIN hsmd does not know. Sourced after
# common.sh. Passphrases and PINs go through descriptors, as people's scripts should have it.
#
#   officers_up [LINE...]     makes all of it in $WORK/custody and starts hsmd; LINEs are put into
#                             hsmd.conf, as 'quorum = 1', which takes the place of quorum = 2
#   officers_start, officers_stop
#   as OFFICER COMMAND...     hsmctl as that officer, who signs without being asked
#   agreed COMMAND...         alice proposes, bob approves: prints what came of it
#   unlocked [TOKEN]          alice and bob unlock the token
#   add_client NAME           a CURVE key pair in $CUSTODY/NAME.{key,pub} and a client of it
# Sets CUSTODY, HSMCTL, HSMD_LOG, AUDIT_LOG, PIN; TOKENS may be set to more than main before.
# shellcheck source=tools/lib.sh
. "$ROOT/tools/lib.sh"

CUSTODY=$WORK/custody
HSMCTL=$BUILD/bin/hsmctl
HSMD_LOG=$CUSTODY/hsmd.log
# shellcheck disable=SC2034 # read by those who source this
AUDIT_LOG=$CUSTODY/state/audit.log
OFFICERS=(alice bob carol dave)
TOKENS=(main) # with one PIN

passphrase_of() { # OFFICER
    echo "the passphrase of $1"
}

make_officers_token() {
    mkdir -p "$CUSTODY/token/objects"
    cat >"$CUSTODY/token/softhsm2.conf" <<-END
	directories.tokendir = $CUSTODY/token/objects
	objectstore.backend = file
	log.level = ERROR
	slots.removable = false
	END
    (umask 377 && openssl rand -hex 12 >"$CUSTODY/pin" && openssl rand -hex 12 >"$CUSTODY/so-pin")
    PIN=$(cat "$CUSTODY/pin")
    local token
    for token in "${TOKENS[@]}"; do
        SOFTHSM2_CONF=$CUSTODY/token/softhsm2.conf \
            "$ROOT/tools/answer-pins" --so "$CUSTODY/so-pin" --user "$CUSTODY/pin" -- \
            softhsm2-util --init-token --free --label "$token" >/dev/null || give_up "no token"
    done
}

# hsmctl's own cost of a passphrase is a second, some hundred times in a test. A key file made by
# the openssl command is as good, and its reader is not told what it costs.
cheapen() { # NAME
    local key=$CUSTODY/$1.key
    openssl version >/dev/null || give_up "no openssl"
    csplit -s -f "$key." "$key" '/BEGIN/' '{*}'
    for part in "$key".0[12]; do
        openssl pkcs8 -topk8 -in "$part" -out "$part.new" -scrypt -scrypt_N 1024 -scrypt_r 8 \
            -scrypt_p 1 -v2 aes-256-cbc -passin fd:3 -passout fd:4 3< <(passphrase_of "$1") \
            4< <(passphrase_of "$1") || give_up "openssl cannot read the key of $1"
    done
    (umask 077 && cat "$key".0[12].new >"$key")
    rm -f "$key".0*
}

make_officer() { # NAME
    "$HSMCTL" officer keygen "$1" --out "$CUSTODY/$1" --passphrase-fd 3 \
        3< <(passphrase_of "$1") >/dev/null || give_up "no key for $1"
    cheapen "$1"
    cat >"$CUSTODY/$1.conf" <<-END
	endpoint = "ipc://$CUSTODY/officers.sock"
	server-key-file = officers-server.pub
	key-file = $1.key
	timeout = 60000
	END
}

token_sections() {
    local token
    for token in "${TOKENS[@]}"; do
        echo "token $token { module = '$(softhsm_module)' label = '$token' }"
    done
}

write_officers_conf() { # LINE...
    local quorum='quorum = 2'
    [[ " $* " != *' quorum = '* ]] || quorum=''
    cat >"$CUSTODY/hsmd.conf" <<-END
	listen = { 'ipc://$CUSTODY/data.sock' }
	server-key-file = 'server.key'
	officers-listen = { 'ipc://$CUSTODY/officers.sock' }
	officers-server-key-file = 'officers-server.key'
	state-directory = 'state'
	log = stderr
	$quorum
	$(printf '%s\n' "$@")
	$(token_sections)
	officer alice { role = officer  file = 'alice.pub' }
	officer bob { role = officer  file = 'bob.pub' }
	officer carol { role = officer  file = 'carol.pub' }
	officer dave { role = auditor  file = 'dave.pub' }
	END
}

officers_up() { # LINE...
    local name
    (umask 077 && mkdir -p "$CUSTODY")
    make_officers_token
    "$BUILD/bin/hsmd" keygen "$CUSTODY/server" >/dev/null || give_up "no server key"
    "$BUILD/bin/hsmd" keygen "$CUSTODY/officers-server" >/dev/null ||
        give_up "no officers' server key"
    for name in "${OFFICERS[@]}"; do
        make_officer "$name"
    done
    write_officers_conf "$@"
    officers_start
}

officers_start() {
    local ready=$CUSTODY/ready line=''
    rm -f "$ready"
    mkfifo -m 600 "$ready"
    (
        export SOFTHSM2_CONF=$CUSTODY/token/softhsm2.conf
        # The shell opens the fifo: who reads it sees its end if hsmd ends before it is ready.
        # shellcheck disable=SC2016
        start_process "$CUSTODY/hsmd.pid" "$HSMD_LOG" bash -c 'exec 3>"$0" && exec "$@"' "$ready" \
            "$BUILD/bin/hsmd" -c "$CUSTODY/hsmd.conf" --ready-fd 3
    )
    read -r -t 60 line <"$ready" || true
    rm -f "$ready"
    if [[ -z $line ]]; then
        tail -n 20 "$HSMD_LOG" >&2
        give_up "hsmd did not start"
    fi
}

officers_stop() {
    stop_process "$CUSTODY/hsmd.pid" hsmd
}

# Who signs is asked but where there is nothing to sign.
as() { # OFFICER COMMAND...
    local name=$1 yes=(--yes)
    shift
    case "$1 ${2:-}" in
    status* | proposals* | usage* | result* | *\ list | *\ show | *\ fetch) yes=() ;;
    esac
    "$HSMCTL" -c "$CUSTODY/$name.conf" "$@" "${yes[@]}" --passphrase-fd 3 \
        3< <(passphrase_of "$name")
}

json_number() { # the number of the proposal on standard input
    sed -n 's/^ *"number": \([0-9]*\).*/\1/p' | head -n 1
}

agreed() { # COMMAND...
    local number
    number=$(as alice "$@" --json | json_number)
    [[ -n $number ]] || return 1
    as bob approve "$number"
}

unlocked() { # [TOKEN]
    local number
    # The PIN comes first, then the passphrase, on one descriptor.
    number=$("$HSMCTL" -c "$CUSTODY/alice.conf" unlock "${1:-main}" --yes --json --pin-fd 3 \
        --passphrase-fd 3 3< <(echo "$PIN" && passphrase_of alice) | json_number)
    [[ -n $number ]] || return 1
    as bob approve "$number"
}

add_client() { # NAME
    "$BUILD/bin/hsmd" keygen "$CUSTODY/$1" >/dev/null &&
        agreed client add "$1" --public-key-file "$CUSTODY/$1.pub"
}
