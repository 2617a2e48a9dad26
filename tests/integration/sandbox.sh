#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tools/sandbox does what it says, and the plain commands of its documentation work as written.
. "$(dirname "$0")/common.sh"
sandbox=$ROOT/tools/sandbox
box=$WORK/box
tear_down() {
    "$sandbox" down "$box"
    "$sandbox" down "$WORK/second"
}

in_box() { # as a person would: source env, then plain commands
    (
        # shellcheck disable=SC1091
        . "$box/env"
        "$@"
    )
}

check "up" "$sandbox" up "$box" || true
[[ $FAILED -eq 0 ]] || give_up "no sandbox"
pid=$(cat "$box/hsmd/hsmd.pid")
check_not "nothing in its configuration is open to expansion" \
    grep '"' "$box/hsmd/hsmd.conf" "$box/gateway/sealgate.conf"
check "up twice is harmless" "$sandbox" up "$box"
check "the same hsmd still runs" test "$pid" = "$(cat "$box/hsmd/hsmd.pid")"
check_not "another domain is refused" "$sandbox" up "$box" --domain other.example
for name in ca signing decryption ec-signing ec-decryption; do
    check "certs/$name.pem is of the CA" \
        openssl verify -CAfile "$box/certs/ca.pem" "$box/certs/$name.pem"
done
check "signing is RSA-3072" grep -q 'Public-Key: (3072 bit)' \
    <(openssl x509 -in "$box/certs/signing.pem" -noout -text)
check "ec-decryption is P-256" grep -q 'prime256v1' \
    <(openssl x509 -in "$box/certs/ec-decryption.pem" -noout -text)

as_officer() { # COMMAND...
    "$BUILD/bin/hsmctl" "$@" -c "$box/officer/hsmctl.conf" --passphrase-fd 3 \
        3<"$box/officer/passphrase"
}
check "its officer may ask how hsmd is" as_officer status
cp "$WORK/check.out" "$WORK/status"
check "... which is ready" grep -q '^state: *ready$' "$WORK/status"
check "... with six keys" grep -q '^keys enabled: *6$' "$WORK/status"
check_not "hsmd.conf names no key" grep -q '^key ' "$box/hsmd/hsmd.conf"

# openssl with keys in the token
printf 'Content-Type: text/plain\r\n\r\nHello from the box.\r\n' >"$WORK/m.txt"
for name in signing ec-signing; do
    check "openssl cms -sign with hsmd:$name" in_box openssl cms -sign -in "$WORK/m.txt" \
        -signer "$box/certs/$name.pem" -inkey "hsmd:$name" -out "$WORK/s.eml"
    check "... verifies" openssl cms -verify -in "$WORK/s.eml" -CAfile "$box/certs/ca.pem"
done
for name in decryption ec-decryption; do
    openssl cms -encrypt -aes256 -in "$WORK/m.txt" -out "$WORK/e.eml" "$box/certs/$name.pem"
    check "openssl cms -decrypt with hsmd:$name" in_box openssl cms -decrypt -in "$WORK/e.eml" \
        -recip "$box/certs/$name.pem" -inkey "hsmd:$name" -out "$WORK/d.txt"
    check "... gives the text back" cmp "$WORK/m.txt" "$WORK/d.txt"
done

# sealgate process, there and back, in every profile
letter bob@a.example dave@b.example "Hello from bob." >"$WORK/m.eml"
outbound() {
    in_box sealgate process --outbound --from bob@a.example --rcpt dave@b.example "$@" \
        <"$WORK/m.eml" >"$WORK/out.eml"
}
inbound() {
    in_box sealgate process --inbound --from dave@b.example --rcpt bob@a.example \
        <"$WORK/out.eml" >"$WORK/in.eml"
}
check_status "process --outbound" 0 outbound
check "... makes a message" test -s "$WORK/out.eml"
check_not "... that cannot be read" grep -q 'Hello from bob' "$WORK/out.eml"
check_status "process --inbound" 0 inbound
check "... it can be read" grep -q 'Hello from bob' "$WORK/in.eml"
check "... and was verified" smime_result "$WORK/in.eml" pass
for profile in sign sign-opaque encrypt sign-encrypt triple; do
    check_status "profile $profile outbound" 0 outbound --profile "$profile"
    check "... changes the message" grep -q -i pkcs7 "$WORK/out.eml"
    check_status "profile $profile inbound" 0 inbound
    if [[ $profile == sign-opaque ]]; then # the signature is kept, and the text is inside it
        openssl cms -verify -in "$WORK/in.eml" -CAfile "$box/certs/ca.pem" -out "$WORK/text"
        mv "$WORK/text" "$WORK/in.text"
    else
        cp "$WORK/in.eml" "$WORK/in.text"
    fi
    check "... it can be read" grep -q 'Hello from bob' "$WORK/in.text"
    if [[ $profile != encrypt ]]; then
        check "... and was verified" smime_result "$WORK/in.eml" pass
    fi
done
stranger() {
    in_box sealgate process --outbound --from bob@a.example --rcpt eve@nowhere.example \
        --profile encrypt <"$WORK/m.eml"
}
check_status "no certificate for the recipient: bounce" 10 stranger
for operation in sign unwrap agree; do
    check "every use is in the audit log: $operation" \
        grep -q "\"event\":\"use\",\"client\":\"gateway\".*\"operation\":\"$operation\"" \
        "$box/hsmd/audit.log"
done

# a second organisation under the CA of the first
check "up --domain --ca" "$sandbox" up "$WORK/second" --domain b.example --no-peer --ca "$box"
check "its certificate is of the first one's CA" \
    openssl verify -CAfile "$box/certs/ca.pem" "$WORK/second/certs/signing.pem"
check_not "the first one's gateway may not use the CA's key" in_box openssl pkeyutl -sign \
    -inkey hsmd:ca -rawin -in "$WORK/m.txt" -out "$WORK/x"
check "down" "$sandbox" down "$WORK/second"
check_not "down leaves nothing" test -e "$WORK/second"
check "down of what is not there is harmless" "$sandbox" down "$WORK/second"

# stop, keep, and go on
check "down --keep" "$sandbox" down "$box" --keep
check_not "hsmd has ended" test -e "/proc/$pid/exe"
check "the audit log is kept" test -s "$box/hsmd/audit.log"
check_status "without hsmd: temporary failure" 75 outbound
check "up again" "$sandbox" up "$box"
check_status "and it works again" 0 outbound

# it removes only what it made
mkdir "$WORK/mine"
touch "$WORK/mine/precious"
check_not "up in somebody's directory is refused" "$sandbox" up "$WORK/mine"
check_not "down of somebody's directory is refused" "$sandbox" down "$WORK/mine"
check "... and it is still there" test -e "$WORK/mine/precious"
