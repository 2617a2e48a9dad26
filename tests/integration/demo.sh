#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tools/demo runs to its end, in time, and leaves nothing.
. "$(dirname "$0")/common.sh"
[[ $(id -u) -eq 0 ]] || {
    echo "SKIPPED: Postfix is started by root only"
    rm -rf "$WORK"
    trap - EXIT
    exit 77
}
tear_down() {
    [[ ! -e $WORK/demo ]] || "$ROOT/tools/demo" --stop "$WORK/demo"
}

host_mail() { # the host's own Postfix, as far as it has one
    find /etc/postfix /var/spool/postfix /var/lib/postfix -type f -printf '%p %T@ %s\n' 2>/dev/null |
        sort
}
host_mail >"$WORK/before"
started=$SECONDS
check "the demo" "$ROOT/tools/demo" --dir "$WORK/demo"
cp "$WORK/check.out" "$WORK/demo.out"
check "in under two minutes" test $((SECONDS - started)) -lt 120
check "says what it showed" grep -q '^Summary: .* 0 failed' "$WORK/demo.out"
check_not "and nothing failed" grep -q FAIL "$WORK/demo.out"
check_not "nothing is left of it" test -e "$WORK/demo"
check_not "no process either" pgrep -f "$WORK/demo"

check "the demo, kept" "$ROOT/tools/demo" --dir "$WORK/demo" --keep
cp "$WORK/check.out" "$WORK/demo.out"
sent=$(sed -n 's/^ *write as bob *//p' "$WORK/demo.out")
letter bob@a.example dave@b.example "Poked." >"$WORK/m.eml"
check "the command it names sends mail" bash -c "${sent/FILE/$WORK/m.eml}"
got() {
    grep -rqs 'Poked' "$WORK/demo/postfix.b/mail/dave/new"
}
for _ in {1..100}; do
    got && break
    sleep 0.2
done
check "... which arrives" got
check "its processes are seen" pgrep -f "$WORK/demo"
check "--stop" "$ROOT/tools/demo" --stop "$WORK/demo"
check_not "nothing is left" test -e "$WORK/demo"
check_not "no process either" pgrep -f "$WORK/demo"
host_mail >"$WORK/after"
check "the host's own mail system was not touched" cmp "$WORK/before" "$WORK/after"
