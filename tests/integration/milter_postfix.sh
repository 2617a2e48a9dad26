#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# sealgated behind a real Postfix: what cannot be seen with a milter client of our own. A message
# split for recipients with and without certificates, its copy handed back; large and odd messages
# there and back.
. "$(dirname "$0")/common.sh"
# shellcheck source=tests/integration/postfix.sh
. "$(dirname "$0")/postfix.sh"
tear_down() {
    stop_process "$WORK/sealgated.pid" sealgated
    postfix_down
}
take_ports 26000 6
nobody=$((first + 5))

"$ROOT/tools/sandbox" up "$box" >"$WORK/up.log" 2>&1 || give_up "$(cat "$WORK/up.log")"
start_sealgated() { # PORT to hand copies back to
    {
        cat "$box/gateway/sealgate.conf"
        echo "listen = \"inet:$milter@127.0.0.1\""
        echo "reinject = \"smtp://127.0.0.1:$1\""
        echo 'profile split { mode = sign-encrypt signer = { signing } missing-key = split }'
        echo 'outbound { profile = split profile-header = "X-Sealgate-Profile" }'
    } >"$box/gateway/split.conf"
    OPENSSL_CONF=$box/openssl.cnf start_process "$WORK/sealgated.pid" "$WORK/sealgated.log" \
        "$BUILD/bin/sealgated" -c "$box/gateway/split.conf"
    wait_for 20 listens "$milter" || give_up "$(cat "$WORK/sealgated.log")"
}
start_sealgated "$reinject"
{
    cat "$box/gateway/sealgate.conf"
    echo 'inbound { signature = remove }'
} >"$box/gateway/bare.conf"
start_sink %M
start_postfix_before b.example c.example

send() { # FILE RECIPIENT...: prints what the server said at last
    local file=$1 rcpt=()
    shift
    for r in "$@"; do
        rcpt+=(--mail-rcpt "$r")
    done
    curl -sS -v "smtp://127.0.0.1:$submission/test" --mail-from bob@a.example "${rcpt[@]}" \
        -T "$file" 2>&1 | last_reply
}
sunk() { # N: so many have arrived, and in full
    [[ $(find "$WORK/sunk" -type f | wc -l) -eq $1 && -z $(postqueue -c "$postfix/etc" -j) ]]
}
forget() {
    find "$WORK/sunk" -type f -delete
}
sunk_for() { # ADDRESS: the file of its message
    grep -l "^X-Rcpt-Args: <$1>" "$WORK"/sunk/*
}
# What the sink got, without its own lines: what travelled.
travelled() { # FILE
    sed -n '/^Received: from/,$p' "$1"
}
opened() { # FILE OUT: as the other side sees it
    travelled "$1" >"$WORK/travelled.eml"
    OPENSSL_CONF=$box/openssl.cnf "$BUILD/bin/sealgate" -c "$box/gateway/sealgate.conf" process \
        --inbound --from bob@a.example --rcpt dave@b.example <"$WORK/travelled.eml" >"$2"
}

# ---- split ----
letter bob@a.example 'dave@b.example, erin@c.example' 'Only dave has a certificate.' >"$WORK/m.eml"
said=$(send "$WORK/m.eml" dave@b.example erin@c.example frank@c.example)
check "a message for three is taken ($said)" test "${said:0:3}" = 250
check "two copies go out" wait_for 20 sunk 2
dave=$(sunk_for dave@b.example) erin=$(sunk_for erin@c.example)
check "dave's is encrypted" grep -q 'smime-type=enveloped-data' "$dave"
check_not "... and does not tell" grep -q 'Only dave' "$dave"
check_not "... and is dave's alone" grep -q 'X-Rcpt-Args: <.*@c.example>' "$dave"
check "erin's is plain" grep -q 'Only dave has a certificate' "$erin"
check "... and frank's is the same" grep -q 'X-Rcpt-Args: <frank@c.example>' "$erin"
check "... and what came back was not treated again" \
    test "$(grep -c 'event=outbound' "$WORK/sealgated.log")" -eq 1
check_not "... and not dave's" grep -q 'X-Rcpt-Args: <dave@b.example>' "$erin"
check "dave's opens" opened "$dave" "$WORK/opened.eml"
check "... with a good signature" smime_result "$WORK/opened.eml" pass
check "... to what was written" grep -q 'Only dave has a certificate' "$WORK/opened.eml"
forget

# ---- from sendmail(1) ----
letter bob@a.example dave@b.example 'From a program of this machine.' | tr -d '\r' |
    sendmail -C "$postfix/etc" -f bob@a.example dave@b.example
check "mail from sendmail(1) goes out" wait_for 20 sunk 1
dave=$(sunk_for dave@b.example)
check "... encrypted" grep -q 'smime-type=enveloped-data' "$dave"
check "... opens" opened "$dave" "$WORK/opened.eml"
check "... with a good signature" smime_result "$WORK/opened.eml" pass
forget

# ---- refused ----
{
    printf 'X-Sealgate-Profile: sign-encrypt\r\n'
    letter bob@a.example erin@c.example 'text'
} >"$WORK/m2.eml"
said=$(send "$WORK/m2.eml" dave@b.example 'erin=100%@c.example')
check "the sender reads who has none, percent sign and all ($said)" \
    test "$said" = '550 5.7.5 no encryption certificate for erin=100%@c.example'

# ---- the copy cannot be handed back ----
stop_process "$WORK/sealgated.pid" sealgated
start_sealgated "$nobody"
said=$(send "$WORK/m.eml" dave@b.example erin@c.example)
check "no way for the copy: 451 ($said)" test "${said:0:3}" = 451
sleep 2
check "... and nothing has happened" sunk 0
check "... nor is anything queued" test -z "$(postqueue -c "$postfix/etc" -j)"
stop_process "$WORK/sealgated.pid" sealgated
start_sealgated "$reinject"
said=$(send "$WORK/m.eml" dave@b.example erin@c.example)
check "the way is back: taken ($said)" test "${said:0:3}" = 250
check "... and two go out" wait_for 20 sunk 2
forget

# ---- odd ones, there and back ----
{
    letter bob@a.example dave@b.example 'begin'
    head -c 2000000 /dev/urandom | base64 -w 70 | sed 's/$/\r/'
} >"$WORK/large.eml"
{
    printf 'From: "B\xc3\xb6b" <bob@a.example>\r\nTo: dave@b.example\r\nSubject: =?utf-8?Q?M=C3=A4rz?=\r\n'
    printf ' folded\r\n\tand again\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\n'
    printf 'Content without a type, gr\xc3\xbc\xc3\x9fe\r\n.\r\n..\r\nFrom here\r\n'
} >"$WORK/odd.eml"
printf 'From: bob@a.example\r\nTo: dave@b.example\r\n\r\n' >"$WORK/empty.eml"
for kind in large odd empty; do
    for profile in sign-opaque sign-encrypt triple; do
        { printf 'X-Sealgate-Profile: %s\r\n' $profile; cat "$WORK/$kind.eml"; } >"$WORK/m.eml"
        said=$(send "$WORK/m.eml" dave@b.example)
        check "$kind, $profile: taken ($said)" test "${said:0:3}" = 250
        check "... goes out" wait_for 20 sunk 1
        dave=$(sunk_for dave@b.example)
        check_not "... without the choice of the profile" grep -qi '^X-Sealgate' "$dave"
        check "... opens" opened "$dave" "$WORK/opened.eml"
        check "... with a good signature" smime_result "$WORK/opened.eml" pass
        if [[ $kind == large ]]; then
            OPENSSL_CONF=$box/openssl.cnf "$BUILD/bin/sealgate" -c "$box/gateway/bare.conf" process \
                --inbound --from bob@a.example --rcpt dave@b.example <"$WORK/travelled.eml" |
                tr -d '\r' | sed '1,/^$/d' >"$WORK/body"
            check "... and whole" cmp "$WORK/body" <(tr -d '\r' <"$WORK/large.eml" | sed '1,/^$/d')
        fi
        forget
    done
done
