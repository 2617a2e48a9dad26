# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A real Postfix before a sandbox, and a sink for what it sends on. Sourced after common.sh; for root
# alone. Sets box, postfix, and with take_ports submission, inbound, reinject, milter and sink.
[[ $(id -u) -eq 0 ]] || {
    echo "SKIPPED: Postfix is started by root only"
    rm -rf "$WORK"
    trap - EXIT
    exit 77
}
# shellcheck source=tools/demo-postfix.sh
. "$ROOT/tools/demo-postfix.sh"
# shellcheck source=tools/lib.sh
. "$ROOT/tools/lib.sh"
box=$WORK/box
postfix=$WORK/postfix

take_ports() { # BASE COUNT: sets first and the names of five; further ones are first + 5 and on
    local port
    first=$(($1 + $$ % 4000))
    for ((port = first; port < first + $2; port++)); do
        ! listens "$port" || give_up "port $port is taken"
    done
    submission=$first inbound=$((first + 1)) reinject=$((first + 2)) milter=$((first + 3))
    sink=$((first + 4))
}

# Each message is a file in $WORK/sunk.
start_sink() { # NAME: of the files, as smtp-sink(1) takes it
    mkdir -m 777 "$WORK/sunk"
    start_process "$WORK/sink.pid" "$WORK/sink.log" \
        /usr/sbin/smtp-sink -u nobody -d "$WORK/sunk/$1." "127.0.0.1:$sink" 10
}

# For domains that go to the sink.
start_postfix_before() { # DOMAIN...
    local domain transports=
    for domain in "$@"; do
        transports+="${transports:+, }{ $domain = smtp:[127.0.0.1]:$sink }"
    done
    make_postfix "$postfix" a.example bob "$submission" "$inbound" "$reinject" "$milter" "$transports"
    start_postfix "$postfix" || give_up "no Postfix"
}

postfix_down() {
    stop_postfix "$postfix"
    stop_process "$WORK/sink.pid" smtp-sink
    "$ROOT/tools/sandbox" down "$box"
}

last_reply() { # what the server said at last, of the output of curl -v
    sed -n 's/\r$//; s/^< \([245][0-9][0-9]\)/\1/p' | grep -v '^221' | tail -n 1
}
