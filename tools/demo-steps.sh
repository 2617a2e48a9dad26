# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What tools/demo shows, step by step. Sourced by it, after it has set DEMO and the ports.

PASSED=0 FAILED=0 STEP=0
SECRET_B2B="The merger is planned for the ninth of May."
SECRET_BACK="Agreed, the ninth of May it is."
SECRET_B2C="My blood group is AB negative."
SECRET_OUT="Your results are ready, Erin."

step() { # TEXT
    STEP=$((STEP + 1))
    printf '\n%d. %s\n' "$STEP" "$1"
}

show() { # N: so many lines of standard input, set in
    sed -n "1,${1:-12}p" | cut -c1-130 | sed 's/^/   | /'
}
show_message() { # FILE N: without the trace of its way
    sed -e 's/\r$//' "$1" | awk '
        body { print; next }
        /^$/ { body = 1; print; next }
        /^[ \t]/ { if (!skip) print; next }
        { skip = /^(Received|Return-Path|Delivered-To|X-[A-Za-z-]*):/; if (!skip) print }' |
        show "$2"
}

check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then
        PASSED=$((PASSED + 1))
        echo "   ok    $what"
    else
        FAILED=$((FAILED + 1))
        echo "   FAIL  $what"
    fi
}

has() { # FILE TEXT, in one line and without regard to folded header lines
    grep -qF -e "$2" <(unfolded "$1")
}
has_not() {
    [[ -s $1 ]] && ! has "$1" "$2"
}
unfolded() {
    sed -e 's/\r$//' "$1" | sed -e ':more' -e 'N' -e '$!bmore' -e 's/\n[ \t]\+/ /g'
}
header() { # FILE NAME...
    local name
    for name in "${@:2}"; do
        unfolded "$1" | sed '/^$/q' | grep -i "^$name:" || true
    done
}

letter() { # FROM TO SUBJECT TEXT
    printf '%s\n' "From: $1" "To: $2" "Subject: $3" "Date: $(date -R)" \
        "Message-ID: <$RANDOM.$RANDOM@${1#*@}>" 'MIME-Version: 1.0' \
        'Content-Type: text/plain; charset=utf-8' '' "$4"
}

send() { # PORT FROM TO FILE
    curl -sS --crlf "smtp://127.0.0.1:$1/client.example" --mail-from "$2" --mail-rcpt "$3" -T "$4"
}

# Waits for a file that a command names, and says it.
arrived() { # COMMAND...
    wait_for 30 "$@" >/dev/null || die "nothing arrived"
    "$@"
}
wire() { # DIRECTION N
    [[ -f $DEMO/wire/$1/$2.eml ]] && echo "$DEMO/wire/$1/$2.eml"
}
inbox_of_erin() {
    local files=("$DEMO"/erin-inbox/*)
    [[ -s ${files[0]} ]] && echo "${files[0]}"
}

# What the outermost CMS object of a message is, by openssl, without any key
cms_type() {
    openssl cms -cmsout -print -noout -in "$1" 2>/dev/null | sed -n 's/^ *contentType: //p'
}
is_enveloped() {
    grep -q -i 'envelopedData' <(cms_type "$1")
}
verifies() { # FILE DOMAIN: signed by that domain, by a certificate of the CA of the demonstration
    openssl cms -verify -in "$1" -CAfile "$DEMO/ca/certs/ca.pem" -signer "$DEMO/signer.pem" \
        -out /dev/null 2>/dev/null &&
        grep -qF "DNS:$2" <(openssl x509 -in "$DEMO/signer.pem" -noout -ext subjectAltName)
}

# ---- B2B: both sides have a gateway ----

b2b() {
    local message sent got
    message=$DEMO/letter.eml

    step "B2B: bob@a.example writes to dave@b.example, in plain, with any mail client"
    letter bob@a.example dave@b.example "Merger" "$SECRET_B2B" >"$message"
    show <"$message"
    send "$A_SUBMISSION" bob@a.example dave@b.example "$message"
    sent=$(arrived wire a-to-b 1)
    got=$(arrived mailbox "$DEMO/postfix.b" dave 1)

    step "what travelled from the Postfix of a.example to that of b.example"
    show_message "$sent" 14
    check "it is a CMS EnvelopedData: only b.example can open it" is_enveloped "$sent"
    check "what bob wrote is not readable in it" has_not "$sent" "$SECRET_B2B"

    step "what dave has in his mailbox"
    show_message "$got" 22
    check "it can be read" has "$got" "$SECRET_B2B"
    check "the signature of a.example is still there" has "$got" "multipart/signed"
    check "... and openssl verifies it, too" verifies "$got" a.example
    check "b.example's gateway says so: Authentication-Results, smime=pass" \
        grep -q -i '^Authentication-Results:.*smime=pass' <(unfolded "$got")

    step "dave answers bob"
    letter dave@b.example bob@a.example "Re: Merger" "$SECRET_BACK" >"$message"
    send "$B_SUBMISSION" dave@b.example bob@a.example "$message"
    sent=$(arrived wire b-to-a 1)
    got=$(arrived mailbox "$DEMO/postfix.a" bob 1)
    header "$sent" From To Subject Content-Type | show
    check "enveloped on the wire" is_enveloped "$sent"
    check "not readable on the wire" has_not "$sent" "$SECRET_BACK"
    header "$got" From To Subject Authentication-Results Content-Type | show
    check "bob can read it" has "$got" "$SECRET_BACK"
    check "signed by b.example, and verified" verifies "$got" b.example
    check "Authentication-Results says so" \
        grep -q -i '^Authentication-Results:.*smime=pass' <(unfolded "$got")
}

# ---- B2C: the correspondent has a mail client only ----

b2c() {
    local message sent got
    message=$DEMO/letter.eml

    step "B2C: a.example's gateway now takes verified signatures off, and is started anew"
    sed -i 's/signature = keep/signature = remove/' "$DEMO/a.example/gateway/sealgate.conf"
    stop_process "$DEMO/a.example/gateway/sealgated.pid" sealgated
    organisation a.example "$A_MILTER" "$A_REINJECT"
    grep '^inbound' "$DEMO/a.example/gateway/sealgate.conf" | show

    step "erin@c.example signs and encrypts with her mail client (openssl cms), for bob"
    printf 'Content-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n' "$SECRET_B2C" >"$DEMO/erin/text"
    openssl cms -sign -in "$DEMO/erin/text" -signer "$DEMO/erin/erin.pem" \
        -inkey "$DEMO/erin/erin.key" -out "$DEMO/erin/signed"
    {
        echo "Date: $(date -R)"
        openssl cms -encrypt -aes256 -in "$DEMO/erin/signed" -from erin@c.example \
            -to bob@a.example -subject "Before the visit" "$DEMO/a.example/certs/decryption.pem"
    } >"$message"
    show_message "$message" 11
    check "what she sends is enveloped" is_enveloped "$message"
    send "$A_INBOUND" erin@c.example bob@a.example "$message"
    got=$(arrived mailbox "$DEMO/postfix.a" bob 2)

    step "what bob has in his mailbox"
    show_message "$got" 22
    check "it can be read" has "$got" "$SECRET_B2C"
    check "no signature and no S/MIME is left for his mail client" has_not "$got" pkcs7
    check "the gateway says who signed: Authentication-Results, smime=pass" \
        grep -q -i '^Authentication-Results:.*smime=pass' <(unfolded "$got")

    step "bob writes to erin, in plain"
    letter bob@a.example erin@c.example "Results" "$SECRET_OUT" >"$message"
    send "$A_SUBMISSION" bob@a.example erin@c.example "$message"
    sent=$(arrived inbox_of_erin)
    show_message "$sent" 14
    check "what reaches erin's mail server is enveloped" is_enveloped "$sent"
    check "not readable on the way" has_not "$sent" "$SECRET_OUT"

    step "erin opens it with her own key (openssl cms)"
    openssl cms -decrypt -in "$sent" -recip "$DEMO/erin/erin.pem" -inkey "$DEMO/erin/erin.key" \
        -out "$DEMO/erin/opened" || true
    show_message "$DEMO/erin/opened" 12
    check "she can read it" has "$DEMO/erin/opened" "$SECRET_OUT"
    check "signed by a.example, and verified" verifies "$DEMO/erin/opened" a.example
}

# ---- where the keys are ----

# But for the officers' own keys, encrypted, with which they sign what they agree to.
no_private_key_file() {
    ! grep -rlIq --exclude-dir=officer -e 'PRIVATE KEY' "$DEMO/a.example" "$DEMO/b.example" "$DEMO/ca"
}
uses_of() { # DOMAIN OPERATION
    grep -c "\"event\":\"use\".*\"operation\":\"$2\".*\"result\":\"ok\"" \
        "$DEMO/$1/hsmd/audit.log" || true
}

keys_stay() {
    local domain
    step "where the keys are"
    check "no private key of an organisation is in a file: they were made in the token" \
        no_private_key_file
    for domain in a.example b.example; do
        echo "   $domain: the audit log of its hsmd, every use of a key"
        tail -n 4 "$DEMO/$domain/hsmd/audit.log" | sed 's/,"id":.*//' | show
        check "$domain's hsmd recorded signing and unwrapping" \
            test "$(uses_of "$domain" sign)" -ge 1 -a "$(uses_of "$domain" unwrap)" -ge 1
        "$BUILD/bin/hsmctl" audit verify --key "$DEMO/$domain/certs/audit.pub.pem" \
            "$DEMO/$domain/hsmd/audit.log" | show
        check "$domain's audit log is whole and signed: hsmctl audit verify" \
            "$BUILD/bin/hsmctl" audit verify --key "$DEMO/$domain/certs/audit.pub.pem" \
            "$DEMO/$domain/hsmd/audit.log"
    done
}

# ---- the key officers of a.example ----

hsmctl_as() { # officer, second; COMMAND...: as that officer, who signs without being asked
    local dir=$DEMO/a.example/officer
    [[ $1 == officer ]] || dir=$DEMO/second
    "$BUILD/bin/hsmctl" -c "$dir/hsmctl.conf" "${@:2}" --passphrase-fd 3 3<"$dir/passphrase" 2>&1
}
told() { # WHO COMMAND...: shown, and kept in $DEMO/told
    local prompt="$1\$ hsmctl ${*:2}"
    echo "   | ${prompt//$DEMO/DEMO}"
    hsmctl_as "$@" >"$DEMO/told" || true
    grep -v -e '^ ' -e '^$' "$DEMO/told" | sed "s|$DEMO|DEMO|g" | show 6 || true
}
number_of_proposal() {
    sed -n 's/^Proposal \([0-9]*\) waits.*/\1/p' "$DEMO/told"
}

key_officers() {
    local number dir=$DEMO/second
    step "the key officers of a.example: hsmctl. So far one officer's word was enough; a second comes"
    (umask 077 && mkdir "$dir" && openssl rand -hex 12 >"$dir/passphrase")
    "$BUILD/bin/hsmctl" officer keygen second --out "$dir/second" --passphrase-fd 3 \
        3<"$dir/passphrase" >/dev/null
    sed 's/officer\.key/second.key/' "$DEMO/a.example/officer/hsmctl.conf" >"$dir/hsmctl.conf"
    told officer officer add second --file "$dir/second.pub" --yes
    told officer quorum 2 --yes
    check "from now on two must agree" grep -q '^Done' "$DEMO/told"

    step "one proposes to disable the signing key: nothing happens until the other agrees"
    told officer key disable signing --yes
    number=$(number_of_proposal)
    check "it waits" test -n "$number"
    told officer approve "$number" --yes
    check "who proposed it cannot agree to it" grep -q 'each officer counts once' "$DEMO/told"
    check "the key is still enabled" grep -q '"state": "enabled"' \
        <(hsmctl_as second key show signing --json)
    told second approve "$number" --yes
    check "two together can" grep -q '"state": "disabled"' \
        <(hsmctl_as second key show signing --json)
    told second key enable signing --yes
    number=$(number_of_proposal)
    told officer approve "$number" --yes
    check "and back again" grep -q '^Done' "$DEMO/told"

    step "all of it is in the audit log"
    hsmctl_as second audit fetch --out "$DEMO/second/audit.log" >/dev/null
    "$BUILD/bin/hsmctl" audit verify --key "$DEMO/a.example/certs/audit.pub.pem" \
        "$DEMO/second/audit.log" | show
    check "whole and signed: hsmctl audit verify" "$BUILD/bin/hsmctl" audit verify \
        --key "$DEMO/a.example/certs/audit.pub.pem" "$DEMO/second/audit.log"
    sed 's/"act":"key-disable"/"act":"key-retire"/' "$DEMO/second/audit.log" \
        >"$DEMO/second/changed.log"
    "$BUILD/bin/hsmctl" audit verify --key "$DEMO/a.example/certs/audit.pub.pem" \
        "$DEMO/second/changed.log" | sed "s|$DEMO|DEMO|g" | show || true
    check "a copy in which the disabling was made a retiring is found out" audit_is_bad
}
audit_is_bad() {
    ! "$BUILD/bin/hsmctl" audit verify --key "$DEMO/a.example/certs/audit.pub.pem" \
        "$DEMO/second/changed.log"
}

summary() { # SECONDS
    printf '\nSummary: %d things shown, %d failed, %d seconds after the build.\n' \
        "$((PASSED + FAILED))" "$FAILED" "$1"
    if [[ $FAILED -eq 0 ]]; then
        echo "Nobody at a.example or b.example has a certificate, a key or a plug-in: the gateways do it,"
        echo "and no private key ever left its token."
    fi
}
