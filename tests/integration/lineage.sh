#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The real hsmd, and a registry that is removed, or put back from a copy.
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/integration/officers.sh
. "$(dirname "$0")/officers.sh"

tear_down() { officers_stop; }
REGISTRY=$CUSTODY/state/registry.db

refused() { # TEXT: hsmd does not start, and says so
    local status=0
    SOFTHSM2_CONF=$CUSTODY/token/softhsm2.conf timeout 60 \
        "$BUILD/bin/hsmd" -c "$CUSTODY/hsmd.conf" >"$WORK/said" 2>&1 || status=$?
    [[ $status == 78 ]] && grep -qF -- "$1" "$WORK/said" || {
        cat "$WORK/said"
        return 1
    }
}
has_problem() { as dave status --json | grep -q '"registry: '; }
has_none() { as dave status --json >"$WORK/status" && ! grep '"registry: ' "$WORK/status"; }
look() { ls -lA --time-style=full-iso "$CUSTODY/state"; }
starts() { grep -c '"event":"start"' "$AUDIT_LOG"; }
stops() { grep -c '"event":"stop"' "$AUDIT_LOG"; }
last_start() { grep '"event":"start"' "$AUDIT_LOG" | tail -n 1; }
found() { "$BUILD/bin/hsmd" found -c "$CUSTODY/hsmd.conf"; }

officers_up

# Many officers and no word of how many must agree.
sed '/quorum/d; s/^\(\s*state-directory = \).*/\1"loose"/' "$CUSTODY/hsmd.conf" >"$CUSTODY/loose.conf"
says_quorum() { # COMMAND...
    "$@" >"$WORK/said" 2>&1 && grep -q 'warning.*says no quorum' "$WORK/said"
}
mkdir -m 0700 "$CUSTODY/loose"
check "no quorum: hsmd -t warns" says_quorum "$BUILD/bin/hsmd" -t -c "$CUSTODY/loose.conf"
check "... and so does whoever takes the officers" says_quorum \
    "$BUILD/bin/hsmd" found -c "$CUSTODY/loose.conf"
check_not "a quorum: it does not" says_quorum "$BUILD/bin/hsmd" -t -c "$CUSTODY/hsmd.conf"
check "... and finds all well" "$BUILD/bin/hsmd" -t -c "$CUSTODY/hsmd.conf"

check "a new hsmd takes its officers from hsmd.conf" grep -q 'first quorum' "$AUDIT_LOG"
check "... and nothing is wrong with its registry" has_none
as alice quorum 1 >/dev/null
officers_stop
cp "$REGISTRY" "$WORK/copy.db"
officers_start
check "... nor the next time" has_none
check "the start names the registry, and how far it is" \
    grep -qE '"instance":"[0-9a-f]{32}","proposal":1,' <(last_start)
as alice quorum 1 >/dev/null
officers_stop

cp "$REGISTRY" "$WORK/later.db"
cp "$WORK/copy.db" "$REGISTRY"
officers_start
check "an old copy: the log says so" grep -q 'older than the audit log' <(last_start)
check "... and so do officers' eyes" has_problem
officers_stop

rm -f "$REGISTRY"*
count=$(starts) stopped=$(stops)
check "a registry that was removed is not founded anew" refused "hsmd found -c $CUSTODY/hsmd.conf"
check "... nor at the second try" refused 'had some by the audit log'
check "... and that was no start" test "$(starts)" = "$count"
check "... nor a stop" test "$(stops)" = "$stopped"
mv "$AUDIT_LOG" "$AUDIT_LOG.1"
check "... nor if the log was moved away as well" refused 'had some by the audit log'
mv "$AUDIT_LOG.1" "$AUDIT_LOG"
if [[ $(id -u) -eq 0 ]]; then
    chown nobody "$CUSTODY/state"
    before=$(look)
    check "root cannot in another's directory" grep -qF "'runuser -u nobody -- '" <(found 2>&1)
    check "... nor start it there" refused "'runuser -u nobody -- '"
    check "... and leaves nothing of root's there" test "$(look)" = "$before"
    chown root "$CUSTODY/state"
else
    echo "SKIPPED: only root can be another than the owner"
fi
check "who owns it can" found
check "... which is in the log" \
    grep -q '"event":"found","instance":"[0-9a-f]*","budgets":[1-9][0-9]*,"what":' "$AUDIT_LOG"
check_status "... once" 78 found
officers_start
check "then it starts" as dave officer list
check "... well" has_none
officers_stop

# Whoever edits it while hsmd is down.
edit() { # SQL
    python3 -c 'import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit()' \
        "$REGISTRY" "$1"
}
while read -r sql; do
    edit "$sql"
    officers_start
    check "$sql: the log says so" grep -q '"reason":"registry: .*somebody else has changed it"' \
        <(last_start)
    check "... and so do officers' eyes" has_problem
    officers_stop
    officers_start
    check "... once" has_none
    kill -KILL "$(cat "$CUSTODY/hsmd.pid")"
    officers_stop
    officers_start
    check "... nor is there anything wrong after a crash" has_none
    officers_stop
done <<'END'
UPDATE custodian SET quorum = 1
INSERT INTO client VALUES ('evil', 'rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7', '')
DELETE FROM officer WHERE name = 'bob'
END
cp "$WORK/later.db" "$REGISTRY"
officers_start
check "another registry: the log says so" grep -q 'not the one that the audit log knows' <(last_start)
check "... and so do officers' eyes" has_problem
officers_stop
mv "$AUDIT_LOG" "$AUDIT_LOG.1"
check_status "a registry that has officers is not founded" 78 found
check_not "... and a log that was moved away is left alone" test -e "$AUDIT_LOG"
officers_start
check "a log that was moved away goes on" \
    "$HSMCTL" audit verify --no-key "$AUDIT_LOG.1" "$AUDIT_LOG"
officers_stop
instance=$(grep -o '"instance":"[0-9a-f]*"' "$AUDIT_LOG.1" | tail -n 1)
check "... and knows the registry, from its first line" \
    grep -q "\"event\":\"rotate\",$instance" <(head -n 1 "$AUDIT_LOG")
check "... what it says, and the budgets" \
    grep -qE '"registry_sha256":"[0-9a-f]{64}","budgets":[1-9]' <(head -n 1 "$AUDIT_LOG")
mv "$AUDIT_LOG" "$WORK/away"
rm "$AUDIT_LOG.1"
check "one that was taken away is not begun anew" refused 'Put that back'
rm -f "$REGISTRY"*
check "... not by root either" grep -qF 'Put that back' <(found 2>&1)
