#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Officers at work with the real hsmd and a real token: two of three can do everything, one alone
# nothing, an auditor looks on.
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/integration/officers.sh
. "$(dirname "$0")/officers.sh"

tear_down() { officers_stop; }
says() { # TEXT COMMAND...: its output has the text
    local text=$1
    shift
    "$@" >"$WORK/said" 2>&1
    grep -qF -- "$text" "$WORK/said" || {
        cat "$WORK/said"
        return 1
    }
}
is_key() { # NAME STATE
    as dave key show "$1" --json | grep -q "\"state\": \"$2\""
}

officers_up
check "hsmd starts locked" says '"state": "locked"' as dave status --json
check "alice, bob, carol and dave are known" says carol as dave officer list
check "two unlock the token" unlocked
check "... and it is ready" says '"state": "ready"' as dave status --json

as alice key generate signing --type ec:p256 --purpose smime-sign >"$WORK/out"
check "one alone only proposes" grep -q 'waits for 1 more signature' "$WORK/out"
check "... and nothing is there" says 'no key "signing"' as dave key show signing
check_status "she cannot approve it herself" 1 as alice approve 2
check_status "an auditor cannot approve" 1 as dave approve 2
check "another sees what it is" says 'ec:p256' as bob proposals 2
check "... and approves" as bob approve 2
check_status "a third comes too late" 1 as carol approve 2
check "the key is there, disabled" is_key signing disabled

agreed key csr signing --common-name mail.a.example --domains mail.a.example >"$WORK/csr.pem" 2>/dev/null
check "a request, and its signature" openssl req -in "$WORK/csr.pem" -noout -verify
agreed key self-sign signing --common-name mail.a.example --domains mail.a.example --days 30 \
    >"$WORK/own.pem" 2>/dev/null
check "a certificate of its own" openssl x509 -in "$WORK/own.pem" -noout -checkend 86400
for type in rsa:2048 ec:p256; do
    agreed key generate "decryption-${type%:*}" --type "$type" --purpose smime-decrypt >/dev/null
    agreed key csr "decryption-${type%:*}" --common-name mail.a.example >"$WORK/csr.pem" 2>/dev/null
    check "a request of a key that decrypts, $type" openssl req -in "$WORK/csr.pem" -noout -verify
done
as dave key show signing --public >"$WORK/public.pem"
check "the public half, as the certificate has it" \
    cmp "$WORK/public.pem" <(openssl x509 -in "$WORK/own.pem" -noout -pubkey)
check "it is put beside the key" agreed key certificate signing "$WORK/own.pem"
check "... where all see it" says 'BEGIN CERTIFICATE' as dave key show signing --pem
check "enabled" agreed key enable signing
check "... it is" is_key signing enabled
check "an enabled key is not destroyed" says 'is enabled: disable it before' as alice \
    key destroy signing --name-again signing
check_status "not without its name" 2 as alice key destroy signing --name-again singing
check "limited" agreed key limit signing --per-hour 100

check "a client" add_client gw1
check "... and its grant" agreed grant gw1 signing sign --per-minute 10
check "... which is seen" says signing as dave client list
check "revoked" agreed client revoke gw1

openssl req -x509 -newkey rsa:2048 -nodes -keyout "$WORK/k.pem" -out "$WORK/c.pem" -days 30 \
    -subj "/CN=old.a.example" -addext keyUsage=critical,digitalSignature,nonRepudiation 2>/dev/null
openssl pkcs12 -export -inkey "$WORK/k.pem" -in "$WORK/c.pem" -out "$WORK/old.p12" \
    -passout pass:old
number=$("$HSMCTL" -c "$CUSTODY/alice.conf" key import old --pkcs12 "$WORK/old.p12" \
    --purpose smime-sign --yes --json --import-passphrase-fd 3 --passphrase-fd 3 \
    3< <(echo old && passphrase_of alice) | json_number)
check "a key from a PKCS#12 file" as bob approve "$number"
check "... is in the token" says '"label": "old"' as dave token show main --json

as alice client add gw2 --public-key-file "$CUSTODY/gw1.pub" --json >"$WORK/json"
number=$(json_number <"$WORK/json")
as bob reject "$number" >/dev/null
check "... said" says 'rejected' as carol reject "$number"
check "... and can still be looked at" as dave proposals "$number"
check "locked again" agreed lock main
check "... said" says '"state": "locked"' as dave status --json
as dave audit fetch --out "$WORK/audit.log"
check "the log is whole" "$HSMCTL" audit verify --no-key "$WORK/audit.log"
live() { # FILE
    "$HSMCTL" audit verify --no-key --live --config "$CUSTODY/dave.conf" --passphrase-fd 3 "$1" \
        3< <(passphrase_of dave)
}
check "... and hsmd says so" live "$AUDIT_LOG"
sed '$d' "$AUDIT_LOG" >"$WORK/cut.log"
check "a log that was cut looks whole" "$HSMCTL" audit verify --no-key "$WORK/cut.log"
check_status "... but hsmd knows better" 1 live "$WORK/cut.log"
sed '$s/"result":"ok"/"result":"no"/; $s/"time":"2/"time":"1/' "$AUDIT_LOG" >"$WORK/changed.log"
check_status "... of a last line changed, too" 1 live "$WORK/changed.log"
officers_stop
check_status "hsmd that is not there: 3" 3 live "$AUDIT_LOG"
check_not "no passphrase or PIN in the logs" grep -qF -e "$PIN" -e 'the passphrase of' \
    "$HSMD_LOG" "$AUDIT_LOG"
