#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The audit log of a sandbox, read by hsmctl, and by hand as hsmd-audit(5) says.
. "$(dirname "$0")/common.sh"

sandbox=$ROOT/tools/sandbox
hsmctl=$SEALGATE_BUILD/bin/hsmctl
box=$WORK/box
log=$box/hsmd/audit.log
pem=$box/certs/audit.pub.pem

tear_down() { "$sandbox" down "$box"; }
verify() { "$hsmctl" audit verify --key "$pem" "$@"; }

check "up" "$sandbox" up "$box" --no-peer
echo hello >"$WORK/m.txt"
for _ in 1 2 3; do
    OPENSSL_CONF=$box/openssl.cnf openssl cms -sign -in "$WORK/m.txt" -out "$WORK/x" \
        -signer "$box/certs/signing.pem" -inkey hsmd:signing 2>/dev/null ||
        fail "cannot sign"
done
check "a log that is being written is good" verify "$log"
show() { # KEY
    OPENSSL_CONF=$box/openssl.cnf openssl pkey -in "hsmd:$1" -pubout
}
check "a client sees a key of its own" show signing
check_not "no client sees the audit key" show audit
check "down" "$sandbox" down "$box" --keep
check "a log after a stop is closed" verify --closed "$log"
check "the one that asked for it is in the log, as refused" \
    grep -q '"event":"refuse","client":"gateway","key":"audit"' "$log"
check_not "... and nothing else of it" grep -q '"event":"use","client":.*"key":"audit' "$log"

verify --json --closed "$log" >"$WORK/report" || fail "verify --json"
check "--json says good" grep -q '"good": true' "$WORK/report"
seq=$(sed -n 's/.*"last_seq": \([0-9]*\).*/\1/p' "$WORK/report")
hash=$(sed -n 's/.*"last_hash": "\([0-9a-f]*\)".*/\1/p' "$WORK/report")
check "the newest number and hash" verify --expect-seq "$seq" --expect-hash "$hash" "$log"
check_status "a number too high: 1" 1 verify --expect-seq "$((seq + 1))" "$log"
sed '$d' "$log" >"$WORK/cut"
check_status "a cut: 1" 1 verify --closed "$WORK/cut"
check "... without --closed it is an open end" verify "$WORK/cut"
sed '4s/"time":"2/"time":"1/' "$log" >"$WORK/changed"
check_status "a change: 1" 1 verify "$WORK/changed"
verify "$WORK/changed" >"$WORK/said" || true
check "... the line is named" grep -q 'line 4' "$WORK/said"
head -n "$(grep -n '"event":"checkpoint"' "$log" | sed -n '1s/:.*//p')" "$log" >"$WORK/cut"
check "a first check with --state" verify --state "$WORK/seen" "$log"
check "cut behind a checkpoint it is good by itself" verify "$WORK/cut"
check_status "... and not by --state: 1" 1 verify --state "$WORK/seen" "$WORK/cut"
check "... which goes on with the whole one" verify --state "$WORK/seen" "$log"
check_status "standard input" 0 verify - <"$log"
check_status "no file: 2" 2 verify
check_status "no such file: 2" 2 verify "$WORK/none"
check_status "neither --key nor --no-key: 2" 2 "$hsmctl" audit verify "$log"
check_status "--no-key" 0 "$hsmctl" audit verify --no-key "$log"
check_status "a key that is none: 2" 2 "$hsmctl" audit verify --key "$log" "$log"
check_status "no such option: 2" 2 "$hsmctl" audit verify --nonsense "$log"

"$hsmctl" audit show --key-name signing --event use --client gateway "$log" >"$WORK/table"
check "show has a line for each use" test "$(grep -c ' use .* signing ' "$WORK/table")" -eq 3
check "... and nothing else" test "$(wc -l <"$WORK/table")" -eq 4
check "show --since the future" \
    test "$("$hsmctl" audit show --since 2999-01-01 "$log" | wc -l)" -eq 1
check_status "show --since nonsense: 2" 2 "$hsmctl" audit show --since yesterday "$log"
"$hsmctl" audit show --json "$log" >"$WORK/lines"
check "show --json is the log" cmp "$WORK/lines" "$log"
"$hsmctl" audit export --format json "$log" >"$WORK/json"
"$hsmctl" audit export "$log" >"$WORK/csv"
check "json and csv say the same as the log" python3 - "$log" "$WORK/json" "$WORK/csv" <<'END'
import csv, json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert json.load(open(sys.argv[2])) == lines
rows = list(csv.DictReader(open(sys.argv[3], newline="")))
assert [{k: v for k, v in row.items() if v} for row in rows] == \
    [{k: str(v) for k, v in line.items()} for line in lines]
END

# The examples of the page, as they stand there.
mkdir "$WORK/by-hand"
cp "$log" "$WORK/by-hand/audit.log"
cp "$pem" "$WORK/by-hand/audit.pem"
sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/p' "$ROOT/hsmd/audit/hsmd-audit.5" |
    sed -n '/^\.Bd/,/^\.Ed/{/^\.[BE]d/!p}' | sed 's/\\e/\\/g' >"$WORK/by-hand/recipe"
(cd "$WORK/by-hand" && bash -eu recipe >said 2>&1) || fail "the recipe: $(cat "$WORK/by-hand/said")"
said=$WORK/by-hand/said
hash_in() { # LINE of what the recipe said
    sed -n "$1s/^\([0-9a-f]*\).*/\1/p" "$said"
}
check "by hand: the signature" grep -q '^Verified OK' "$said"
for n in 2 4 6; do
    check "by hand: hash $((n / 2))" test "$(hash_in "$n")" = "$(hash_in "$((n + 1))")"
    check "... is one" test "$(hash_in "$n" | wc -c)" -eq 65
done
sed -i '$s/"time":"2/"time":"1/' "$WORK/by-hand/audit.log"
(cd "$WORK/by-hand" && bash -u recipe >said 2>&1) || true
check_not "by hand: a changed checkpoint does not verify" grep -q '^Verified OK' "$said"
check "down" "$sandbox" down "$box"
