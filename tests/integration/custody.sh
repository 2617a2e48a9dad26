#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A key's whole life, and a council's: every command of hsmctl in anger, with the real hsmd, two
# SoftHSM tokens, a CA, and gateways that sign and decrypt with the openssl command.
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/integration/officers.sh
. "$(dirname "$0")/officers.sh"

tear_down() {
    officers_stop
    [[ $FAILED -eq 0 ]] || tail -n 20 "$HSMD_LOG"
}
says() { # TEXT COMMAND...: its output has the text
    local text=$1
    shift
    "$@" >"$WORK/said" 2>&1
    grep -qF -- "$text" "$WORK/said" || {
        cat "$WORK/said"
        return 1
    }
}
shows() { # FILTER COMMAND...: one JSON document, of which the filter is true
    local filter=$1
    shift
    as dave "$@" --json >"$WORK/shown" && jq -es "length == 1 and (.[0] | $filter)" "$WORK/shown"
}
agreed_json() { # FILTER COMMAND...: both answers are JSON, and the filter is true of the second
    local filter=$1 number
    shift
    as alice "$@" --json >"$WORK/first" || return
    number=$(jq -es 'if length == 1 then .[0].number else error("several") end' "$WORK/first") || return
    as bob approve "$number" --json >"$WORK/second"
    jq -es "length == 1 and (.[0] | $filter)" "$WORK/second"
}
refused_json() { # COMMAND...: an error in JSON
    ! as alice "$@" --json >"$WORK/first" || return
    jq -es 'length == 1 and (.[0].error | (.class | length > 0) and (.detail | length > 0))' "$WORK/first"
}
plain() { OPENSSL_CONF=$WORK/plain.cnf openssl "$@"; }
gateway() { # NAME COMMAND...: openssl with hsmd's keys, as that client
    local name=$1
    shift
    OPENSSL_CONF=$WORK/$name.cnf openssl "$@"
}
write_openssl_conf() { # CLIENT
    provider_conf "ipc://$CUSTODY/data.sock" "$CUSTODY/server.pub" "$CUSTODY/$1" >"$WORK/$1.cnf"
}
signs() { # CLIENT KEY
    gateway "$1" cms -sign -in "$WORK/m.txt" -signer "$WORK/$2.pem" -inkey "hsmd:$2" \
        -out "$WORK/s.eml" && plain cms -verify -in "$WORK/s.eml" -CAfile "$WORK/ca.pem" \
        -purpose any -out "$WORK/verified"
}
encrypt_to() { # KEY FILE
    plain cms -encrypt -aes-128-cbc -in "$WORK/m.txt" -out "$2" "$WORK/$1.pem"
}
decrypts() { # CLIENT KEY FILE
    gateway "$1" cms -decrypt -in "$3" -recip "$WORK/$2.pem" -inkey "hsmd:$2" -out "$WORK/d.txt" &&
        grep -q 'from the box' "$WORK/d.txt"
}
certified() { # KEY USAGE [OPTION...]: the CA signs the request of $WORK/KEY.csr
    local key=$1 usage=$2
    shift 2
    printf '%s\n' "keyUsage = critical,$usage" 'extendedKeyUsage = emailProtection' \
        'subjectAltName = email:office@a.example' >"$WORK/ext"
    plain x509 -req "$@" -in "$WORK/$key.csr" -CA "$WORK/ca.pem" -CAkey "$WORK/ca.key" \
        -extfile "$WORK/ext" -days 30 -out "$WORK/$key.pem"
}
is_key() { # NAME STATE
    shows "if type == \"array\" then .[0] else . end | .state == \"$2\"" key show "$1"
}

# shellcheck disable=SC2034 # officers.sh reads it
TOKENS=(main spare)
officers_up 'self-test-interval = 0'
printf '[req]\ndistinguished_name = dn\n[dn]\n' >"$WORK/plain.cnf"
printf 'Content-Type: text/plain\r\n\r\nGreetings from the box.\r\n' >"$WORK/m.txt"
plain req -x509 -newkey rsa:2048 -nodes -keyout "$WORK/ca.key" -out "$WORK/ca.pem" -days 30 \
    -subj /CN=CA -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,keyCertSign,cRLSign >/dev/null 2>&1 || give_up "no CA"

# ---- two tokens, a council of three ----

check "both tokens are locked" shows '.state == "locked" and (.tokens | length == 2)' status
check "main is unlocked" unlocked main
check "half of it is" shows '[.tokens[].state] | sort | unique | length == 2' status
check "spare is unlocked" unlocked spare
check "all is ready" shows '.state == "ready" and .quorum == 2' status
check "tokens" shows 'length == 2' token list
check "a key in each of two tokens needs its token said" says 'say which one' as alice key generate x \
    --type ec:p256 --purpose general

# ---- keys are made, brought, found ----

check "an EC key" agreed_json '.state == "done" and (.result.public_key_sha256 | length > 0)' \
    key generate office --type ec:p256 --purpose smime-sign --token main
check "an RSA key" agreed_json '.state == "done"' \
    key generate opener --type rsa:2048 --purpose smime-decrypt --token main
check "a key for the audit log" agreed_json '.state == "done"' \
    key generate audit --type ec:p256 --purpose audit --token main
check "... enabled" agreed key enable audit
check "the name is taken" refused_json key generate office --type ec:p256 --purpose general --token main

plain req -x509 -newkey rsa:2048 -nodes -keyout "$WORK/brought.key" -out "$WORK/brought.pem" \
    -days 30 -subj /CN=brought.a.example -addext subjectAltName=email:brought@a.example \
    -addext keyUsage=critical,digitalSignature,nonRepudiation 2>/dev/null
echo 'the passphrase of the file' >"$WORK/import-passphrase"
plain pkcs12 -export -inkey "$WORK/brought.key" -in "$WORK/brought.pem" -out "$WORK/brought.p12" \
    -passout "file:$WORK/import-passphrase"
bring() { # FD 3: passphrases
    "$HSMCTL" -c "$CUSTODY/alice.conf" key import brought --pkcs12 "$WORK/brought.p12" \
        --purpose smime-sign --token main,spare --yes --json --import-passphrase-fd 3 \
        --passphrase-fd 3
}
check_not "not with a wrong passphrase" bring 3< <(echo wrong && passphrase_of alice)
number=$(bring 3< <(cat "$WORK/import-passphrase" && passphrase_of alice) | jq -r .number)
check "a PKCS#12 file goes into both tokens" as bob approve "$number"
check "... main has it" shows '[.[].label] | index("brought")' token show main
check "... spare has it" shows '[.[].label] | index("brought")' token show spare

SOFTHSM2_CONF=$CUSTODY/token/softhsm2.conf pkcs11-tool --module "$(softhsm_module)" \
    --token-label main --login --pin "$PIN" --keypairgen --key-type rsa:2048 --sensitive \
    --usage-sign --usage-decrypt --label found --id 77 >"$WORK/keygen" 2>&1 || give_up "no key found"
check "a key that was there is adopted" agreed key adopt found --token main --label found \
    --id 77 --purpose general
check "... and it is known" shows '[.[] | select(.label == "found")][0].known_as == "found"' \
    token show main
check "no copy of it is in spare" says 'no such private key' agreed key place found --token spare --label found

# One key that somebody had put into both.
plain genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$WORK/twin.key" 2>/dev/null
plain pkey -in "$WORK/twin.key" -outform DER -out "$WORK/twin.der"
plain pkey -in "$WORK/twin.key" -pubout -outform DER -out "$WORK/twin.pub"
for token in main spare; do
    for half in 'privkey der --sensitive' 'pubkey pub'; do
        read -r type end more <<<"$half"
        # shellcheck disable=SC2086
        SOFTHSM2_CONF=$CUSTODY/token/softhsm2.conf pkcs11-tool --module "$(softhsm_module)" \
            --token-label "$token" --login --pin "$PIN" --write-object "$WORK/twin.$end" \
            --type "$type" --label twin --id 78 --usage-sign $more >"$WORK/written" 2>&1 ||
            give_up "no key in $token: $(cat "$WORK/written")"
    done
done
check "a twin is adopted" agreed key adopt twin --token main --label twin --purpose general
check "... and used in the other token, too" agreed key place twin --token spare --label twin
check "... it is in both" shows '(if type == "array" then .[0] else . end).places | length == 2' \
    key show twin

# ---- a certificate ----

check "a request needs names that are fully qualified" refused_json key csr office \
    --common-name box --domains box
agreed key csr office --common-name office.a.example --domains office.a.example \
    --emails office@a.example >"$WORK/office.csr" 2>/dev/null
check "a request" plain req -in "$WORK/office.csr" -noout -verify
agreed key csr opener --common-name office.a.example --emails office@a.example \
    >"$WORK/opener.csr" 2>"$WORK/said" || cat "$WORK/opener.csr"
check "the CA certifies the signer" certified office digitalSignature,nonRepudiation \
    -subj /C=IT/ST=Roma/L=Roma/O=Example/OU=Mail/CN=office.a.example
check "the CA certifies the opener" certified opener keyEncipherment
cp "$WORK/opener.csr" "$WORK/misplaced.csr"
check "the CA certifies another key as a signer" certified misplaced digitalSignature,nonRepudiation
check "the certificate of another key is refused" refused_json key certificate office \
    "$WORK/misplaced.pem"
check "... for that" grep -q 'another key' "$WORK/first"
check "its own is not" agreed key certificate office "$WORK/office.pem"

# F23: it has no domain. Who proposes and who approves know before it is done.
as alice key certificate opener "$WORK/opener.pem" >"$WORK/first" 2>"$WORK/explained"
number=$(sed -n 's/.*hsmctl approve \([0-9]*\)$/\1/p' "$WORK/first")
check "who proposes the other is warned" grep -q '^Warning: it has no domain' "$WORK/explained"
check "... in the list, too" says 'it has no domain' as dave proposals
check "... and of that one" says 'warning: it has no domain' as dave proposals "$number"
check "... before it is done" shows \
    '(if type == "array" then .[0] else . end) | .state == "pending" and (.warning | test("no domain"))' \
    proposals "$number"
as bob approve "$number" >"$WORK/second" 2>"$WORK/explained"
check "who approves is warned" grep -q 'warning: it has no domain' "$WORK/explained"
check "... and it is done" grep -q '^Done' "$WORK/second"
cat "$WORK/office.pem" "$WORK/ca.pem" >"$WORK/whole.pem"
number=$(as alice key certificate office "$WORK/whole.pem" --json | json_number)
check "nobody is warned of one in order" shows \
    "map(select(.number == $number)) | length == 1 and (.[0].warning // \"\") == \"\"" proposals
check "... and is taken back" as alice reject "$number"
check_status "one that would be refused is not even asked about" 1 as alice \
    key certificate opener "$WORK/office.pem"
check "... for its usages" says 'keyUsage' as alice key certificate opener "$WORK/office.pem"
check "self-signed" agreed key self-sign found --common-name found.a.example --days 3

# ---- a gateway ----

check "a client" add_client gw1
check "another" add_client gw2
write_openssl_conf gw1
write_openssl_conf gw2
check "a grant" agreed grant gw1 office sign --per-hour 50
check "another" agreed grant gw1 opener unwrap --algorithms rsaes-pkcs1,rsaes-oaep
check "another" agreed grant gw2 office sign
check_not "a disabled key signs nothing" signs gw1 office
check "enabled" agreed key enable office
check "enabled" agreed key enable opener
encrypt_to opener "$WORK/old.eml"
check "the gateway signs" signs gw1 office
check "... and decrypts" decrypts gw1 opener "$WORK/old.eml"
check_not "gw2 does not decrypt" decrypts gw2 opener "$WORK/old.eml"
check "general, to sign and to open" agreed grant gw1 found sign,unwrap
check "enabled" agreed key enable found
gateway gw1 pkeyutl -sign -inkey hsmd:found -in <(head -c 32 /dev/zero) -pkeyopt digest:sha256 \
    -out "$WORK/sig" >/dev/null 2>&1
check "it signs" test -s "$WORK/sig"
check "retired" agreed key retire found
check_not "... it does not" gateway gw1 pkeyutl -sign -inkey hsmd:found \
    -in <(head -c 32 /dev/zero) -pkeyopt digest:sha256 -out "$WORK/sig2"

# ---- a key in two tokens of one module, of which one is locked ----

twin_signs() {
    rm -f "$WORK/sig"
    gateway gw1 dgst -sha256 -sign hsmd:twin -out "$WORK/sig" "$WORK/m.txt" &&
        plain dgst -sha256 -verify <(plain pkey -pubin -inform DER -in "$WORK/twin.pub") \
            -signature "$WORK/sig" "$WORK/m.txt"
}
token_is() { # TOKEN STATE
    shows ".tokens[] | select(.name == \"$1\") | .state == \"$2\"" status
}
check "the twin is granted" agreed grant gw1 twin sign
check "... and enabled" agreed key enable twin
check "it signs" twin_signs
for pair in 'main spare' 'spare main'; do
    read -r out in <<<"$pair"
    check "$out is locked" agreed lock "$out"
    check "... it is" token_is "$out" locked
    for _ in 1 2 3; do # wherever it would begin
        check "... the twin signs in $in" twin_signs
    done
    check "$out is unlocked" unlocked "$out"
    check "... it is" token_is "$out" ready
done

# ---- limits ----

check "limited" agreed key limit opener --per-hour 3
for _ in 1 2 3 4; do
    decrypts gw1 opener "$WORK/old.eml" >/dev/null 2>&1
done
check_not "over budget" decrypts gw1 opener "$WORK/old.eml"
check "usage tells of it" shows '[.budgets[] | select(.refused > 0)] | length == 1' usage
check "... and who it was" shows '[.uses[] | select(.client == "gw1" and .key == "office")] | length > 0' usage
check "no limit any more" agreed key limit opener --per-hour 0
check "it decrypts again" decrypts gw1 opener "$WORK/old.eml"

# ---- out of use ----

check "disabled" agreed key disable office
check_not "it signs no more" signs gw1 office
check "enabled again" agreed key enable office
check "it signs" signs gw1 office
check "... for gw2, too" signs gw2 office
check "revoked" agreed client revoke gw2
check_not "gw2 gets nothing" signs gw2 office
check "... and gw1 all the same" signs gw1 office
check "retired" agreed key retire opener
check "it still opens old mail" decrypts gw1 opener "$WORK/old.eml"
encrypt_to opener "$WORK/new.eml"
check "a key that never decrypts is not retired" refused_json key retire office
check "it is disabled" agreed key disable office
check_not "... and signs no more" signs gw1 office
check "ungrant" agreed ungrant gw1 opener
check_not "what is not granted any more" decrypts gw1 opener "$WORK/old.eml"
check "gw1 is left" shows '[.[].name] == ["gw1"]' client list
check_status "destroy asks for the name" 2 as alice key destroy office --name-again offcie
check "destroyed" agreed key destroy office --name-again office
check "... it is gone" is_key office destroyed
check "... from the token" shows '[.[].label] | index("office") | not' token show main
check "its name is not free" refused_json key generate office --type ec:p256 --purpose general --token main
check "an enabled one is not destroyed" refused_json key destroy audit --name-again audit

# ---- the council changes ----

make_officer erin
check "erin becomes an officer" agreed officer add erin --file "$CUSTODY/erin.pub" --role officer
check "... she is" shows '.officers | length == 5' officer list
check "a quorum of three" agreed quorum 3
number=$(as alice quorum 2 --json | jq -r .number)
as bob approve "$number" >/dev/null
check "two are not enough any more" says 'pending' as dave proposals "$number" --json
check "three are" as erin approve "$number"
check "... two again" shows '.quorum == 2' status
check "erin goes" agreed officer remove erin
check_not "... and gets no answer" as erin status
check "a quorum of four is refused" refused_json quorum 4
number=$(as alice quorum 3 --json | jq -r .number)
check "alice changes her mind" as alice quorum 1 --amend "$number"
check "... and takes it back" as alice reject "$number"
check "it is over" shows '.state == "rejected"' proposals "$number"
check "proposals" shows 'length == 0' proposals
check "all of them" shows 'length > 20' proposals --all
check "result" says 'REQUEST' as dave result "$(as dave proposals --all --json |
    jq '[.[] | select(.kind == "key-csr" and .state == "done")][0].number')"

# ---- locked, logs, secrets ----

check "granted again" agreed grant gw1 opener unwrap
check "it decrypts" decrypts gw1 opener "$WORK/old.eml"
check "locked" agreed lock spare
check "locked" agreed lock main
check_not "nothing is decrypted" decrypts gw1 opener "$WORK/old.eml"
as dave audit fetch --out "$WORK/audit.log"
as dave key show audit --public >"$WORK/audit.pem"
check "the audit key is shown" plain pkey -pubin -in "$WORK/audit.pem" -noout
check "the log is signed" "$HSMCTL" audit verify --key "$WORK/audit.pem" "$WORK/audit.log"
check "every event was written" test "$(jq -r .event "$WORK/audit.log" | sort -u |
    grep -cE '^(start|use|refuse|propose|approve|reject|act|unlock|lock|officer-refused)$')" -eq 10
check "the log is whole" "$HSMCTL" audit verify --no-key "$WORK/audit.log"
sed -i '20s/"result":"ok"/"result":"no"/' "$WORK/audit.log"
check_status "... and what was changed in it is seen" 1 "$HSMCTL" audit verify --no-key "$WORK/audit.log"
check "log in a table" says bob "$HSMCTL" audit show --event approve "$AUDIT_LOG"
check "... for other programs" jq -e 'length > 50' <("$HSMCTL" audit export --format json "$AUDIT_LOG")
officers_stop
for name in "${OFFICERS[@]}"; do
    passphrase_of "$name" >"$WORK/passphrase.$name"
done
echo "$PIN" >"$WORK/pin"
secrets=("$WORK/pin" "$WORK/import-passphrase" "$WORK/brought.key" "$WORK"/passphrase.*)
check "no secret in state directory, logs, or what is beside them" \
    "$ROOT/tests/integration/find_secrets.py" "${secrets[@]}" -- "$CUSTODY/state" "$HSMD_LOG" \
    "$CUSTODY/hsmd.conf" "$WORK/audit.log" "$CUSTODY/token/objects"
check_not "the search finds a key" "$ROOT/tests/integration/find_secrets.py" "$WORK/brought.key" -- \
    "$WORK/brought.key"
check_not "... and a PIN" "$ROOT/tests/integration/find_secrets.py" "$WORK/pin" -- "$CUSTODY/pin"
