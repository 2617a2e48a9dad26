#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hsmd down, token gone, wrong PIN, disk full: the sender gets 451, nothing goes out in clear, and
# mail goes through when it is back, by the same sealgated. With a real Postfix.
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/integration/postfix.sh
. "$(dirname "$0")/postfix.sh"
tear_down() {
    postfix_down
    umount "$WORK/small" 2>/dev/null
}
take_ports 21000 5

up() {
    "$ROOT/tools/sandbox" up "$box" --milter "inet:$milter@127.0.0.1" \
        --reinject "smtp://127.0.0.1:$reinject"
}
up >"$WORK/up.log" 2>&1 || give_up "$(cat "$WORK/up.log")"
start_sink %s
start_postfix_before b.example

gateway=$(cat "$box/gateway/sealgated.pid")
number=0
send() { # PORT FROM TO FILE: prints what the server said at last
    curl -sS -v --crlf "smtp://127.0.0.1:$1/test" --mail-from "$2" --mail-rcpt "$3" -T "$4" 2>&1 |
        last_reply
}
write_as_bob() {
    number=$((number + 1))
    letter bob@a.example dave@b.example "Secret number $number." >"$WORK/m.eml"
    send "$submission" bob@a.example dave@b.example "$WORK/m.eml"
}
in_sink() { # N: so many messages arrived there
    [[ $(find "$WORK/sunk" -type f | wc -l) -eq $1 ]]
}

goes_through() { # WHEN
    local before said
    before=$(find "$WORK/sunk" -type f | wc -l)
    said=$(write_as_bob)
    if [[ $said == 250* ]] && wait_for 20 in_sink $((before + 1)); then
        pass "mail goes through $1"
    else
        fail "mail goes through $1: $said"
    fi
    check "... by the same sealgated" test "$gateway" = "$(cat "$box/gateway/sealgated.pid")" \
        -a -e "/proc/$gateway/exe"
}
is_put_off() { # WHEN
    local before said
    before=$(find "$WORK/sunk" -type f | wc -l)
    said=$(write_as_bob)
    if [[ $said == 451* ]]; then
        pass "451 while $1: $said"
    else
        fail "451 while $1: $said"
    fi
    check "... and nothing went out" in_sink "$before"
    check "... and nothing is queued" test -z \
        "$(find "$postfix"/queue/{active,incoming,deferred,hold,maildrop} -type f)"
}
restart_hsmd() {
    stop_process "$box/hsmd/hsmd.pid" hsmd
    up >"$WORK/up.log" 2>&1
}

goes_through "at first"
check_not "what went out is not readable" grep -rq 'Secret number' "$WORK/sunk"

# hsmd down
stop_process "$box/hsmd/hsmd.pid" hsmd
is_put_off "hsmd is down"
up >"$WORK/up.log" 2>&1 || fail "hsmd again: $(cat "$WORK/up.log")"
goes_through "when hsmd is back"

# incoming mail that cannot be decrypted for now waits as well
openssl cms -encrypt -aes256 -in <(printf 'Content-Type: text/plain\r\n\r\nFor bob.\r\n') \
    -from dave@b.example -to bob@a.example -subject x -out "$WORK/e.eml" \
    "$box/certs/decryption.pem"
stop_process "$box/hsmd/hsmd.pid" hsmd
said=$(send "$inbound" dave@b.example bob@a.example "$WORK/e.eml")
check "incoming while hsmd is down: 451 ($said)" test "${said:0:3}" = 451
up >"$WORK/up.log" 2>&1
# sealgated looks for hsmd again after some seconds, and an MTA sends again after more.
for ((i = 0; i < 20; i++)); do
    said=$(send "$inbound" dave@b.example bob@a.example "$WORK/e.eml")
    [[ $said != 250* ]] || break
    sleep 1
done
check "incoming when it is back: 250 ($said)" test "${said:0:3}" = 250
wait_for 20 mailbox "$postfix" bob 1 >/dev/null
check "... decrypted" grep -rq 'For bob' "$postfix/mail/bob/new"

# hsmd killed in the middle of everything
kill -9 "$(cat "$box/hsmd/hsmd.pid")"
is_put_off "hsmd was killed"
up >"$WORK/up.log" 2>&1
goes_through "after that"

# hsmd hangs: the gateway's deadline ends it
kill -STOP "$(cat "$box/hsmd/hsmd.pid")"
is_put_off "hsmd hangs"
kill -CONT "$(cat "$box/hsmd/hsmd.pid")"
goes_through "when it goes on"

# token pulled out under a running hsmd, which finds it again by itself
custodian=$(cat "$box/hsmd/hsmd.pid")
mv "$box/token/objects" "$box/token/away"
sleep 1.2 # for so long copies of its keys may be used
is_put_off "the token is pulled out"
mv "$box/token/away" "$box/token/objects"
sleep 1.5 # a second, and some more for a busy machine
goes_through "when the token is in again"
check "... by the same hsmd" test "$custodian" = "$(cat "$box/hsmd/hsmd.pid")" \
    -a -e "/proc/$custodian/exe"

hsmd_says() { # TEXT
    grep -q -- "$1" "$box/hsmd/hsmd.log"
}
# token gone: hsmd starts without it, says so, and finds it
stop_process "$box/hsmd/hsmd.pid" hsmd
mv "$box/token/objects" "$box/token/away"
mkdir -m 700 "$box/token/objects"
: >"$box/hsmd/hsmd.log"
check "hsmd starts without its token" restart_hsmd
check "... and names it" hsmd_says "token main: no token with the label 'a.example'"
is_put_off "the token is gone"
rmdir "$box/token/objects"
mv "$box/token/away" "$box/token/objects"
check "it finds the token that is back" wait_for 30 hsmd_says 'token="main" state="back"'
goes_through "when the token is back"

# wrong PIN: tried once, not again
stop_process "$box/hsmd/hsmd.pid" hsmd
mv "$box/hsmd/pin" "$box/hsmd/pin.right"
(umask 377 && echo 000000 >"$box/hsmd/pin")
: >"$box/hsmd/hsmd.log"
check "hsmd starts with a wrong PIN" restart_hsmd
check "... and says so" hsmd_says 'wrong PIN'
is_put_off "the PIN is wrong"
mv -f "$box/hsmd/pin.right" "$box/hsmd/pin"
is_put_off "the right PIN is there and hsmd has not been started again"
check "it was tried once" test "$(grep -c 'state="given up' "$box/hsmd/hsmd.log")" -eq 1
restart_hsmd
goes_through "with the right PIN and hsmd started again"

# disk full where hsmd writes its audit log: it refuses
mkdir "$WORK/small"
if mount -t tmpfs -o size=64k tmpfs "$WORK/small" 2>"$WORK/mount.log"; then
    cp "$box/hsmd/hsmd.conf" "$WORK/hsmd.conf"
    stop_process "$box/hsmd/hsmd.pid" hsmd
    echo "audit-log = \"$WORK/small/audit.log\"" >>"$box/hsmd/hsmd.conf"
    mv "$box/hsmd/audit.head" "$WORK/audit.head" # a new chain
    restart_hsmd || fail "hsmd with another audit log: $(cat "$WORK/up.log")"
    goes_through "with the audit log on a small disk"
    head -c 100000 /dev/zero >"$WORK/small/ballast" 2>/dev/null
    # what is left of the last block may take a line or two
    for _ in {1..40}; do write_as_bob >"$WORK/said" && grep -q '^451' "$WORK/said" && break; done
    sleep 1
    is_put_off "the audit log's disk is full"
    rm "$WORK/small/ballast"
    goes_through "when there is room again"
    stop_process "$box/hsmd/hsmd.pid" hsmd
    cp "$WORK/hsmd.conf" "$box/hsmd/hsmd.conf"
    mv "$WORK/audit.head" "$box/hsmd/audit.head"
    check "hsmd with its former audit log" restart_hsmd

    # disk full where sealgated spools
    stop_process "$box/gateway/sealgated.pid" sealgated
    mkdir -p "$WORK/small/spool"
    sed -i -e "s|^spool-directory = .*|spool-directory = \"$WORK/small/spool\"\nspool-memory = 4096|" \
        "$box/gateway/sealgate.conf"
    up >"$WORK/up.log" 2>&1 || fail "sealgated with another spool: $(cat "$WORK/up.log")"
    gateway=$(cat "$box/gateway/sealgated.pid")
    letter bob@a.example dave@b.example "$(head -c 300000 /dev/zero | tr '\0' x | fold -w 70)" \
        >"$WORK/big.eml"
    said=$(send "$submission" bob@a.example dave@b.example "$WORK/big.eml")
    check "451 while the spool's disk is full ($said)" test "${said:0:3}" = 451
    goes_through "if it is small enough"
    mount -o remount,size=20m "$WORK/small"
    said=$(send "$submission" bob@a.example dave@b.example "$WORK/big.eml")
    check "and the large one when there is room ($said)" test "${said:0:3}" = 250
else
    fail "no small disk to fill: $(cat "$WORK/mount.log")"
fi

# sealgated itself away: Postfix puts mail off (milter_default_action = tempfail)
stop_process "$box/gateway/sealgated.pid" sealgated
said=$(write_as_bob)
check "451 while sealgated is down ($said)" test "${said:0:3}" = 451
check_not "in all of that nothing went out in clear" grep -rq 'Secret number' "$WORK/sunk"
