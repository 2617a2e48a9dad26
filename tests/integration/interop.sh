#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What we make is read by others: openssl cms, Bouncy Castle, GnuTLS's certtool, gpgsm, NSS's
# cmsutil. Their keys are files, as a mail client's are; none of them knows hsmd.
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
box=$WORK/box
tear_down() {
    "$ROOT/tools/sandbox" down "$box"
    GNUPGHOME=$WORK/gpg gpgconf --kill all 2>/dev/null
}
jars=/usr/share/java/bcprov.jar:/usr/share/java/bcpkix.jar:/usr/share/java/bcutil.jar

"$ROOT/tools/sandbox" up "$box" >"$WORK/up.log" 2>&1 || give_up "$(cat "$WORK/up.log")"
ca=$box/certs/ca.pem

# Two people with mail clients, and our profiles that the sandbox does not have.
person() { # NAME KEYUSAGE GENPKEY-OPTION...
    local name=$1 usage=$2
    shift 2
    openssl genpkey -quiet "$@" -out "$WORK/$name.key"
    openssl pkey -in "$WORK/$name.key" -pubout -out "$WORK/$name.pub"
    "$ROOT/tools/sandbox" issue "$box" "$name" "$WORK/$name.pub" "/CN=$name" \
        "keyUsage = critical,$usage\nextendedKeyUsage = emailProtection\nsubjectAltName = email:$name@c.example"
    "$BUILD/bin/sealgate" -c "$box/gateway/sealgate.conf" certificate add "$name" \
        "$box/certs/$name.pem" || give_up "certificate of $name"
}
person rsa digitalSignature,keyEncipherment -algorithm RSA -pkeyopt rsa_keygen_bits:3072
person ec digitalSignature,keyAgreement -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
    -pkeyopt ec_param_enc:named_curve
cat >>"$box/gateway/sealgate.conf" <<'END'
profile ec-sign { mode = sign  signer = { ec-signing } }
profile ec-sign-opaque { mode = sign  signer = { ec-signing }  sign-mode = opaque }
profile pss { mode = sign  signer = { signing }  pss = true }
profile sha384 { mode = sign  signer = { signing }  hash = sha384 }
profile cbc128 { mode = encrypt  cipher = aes-128-cbc }
profile gcm { mode = encrypt  cipher = aes-256-gcm }
profile oaep { mode = encrypt  oaep = true }
profile gcm-oaep { mode = encrypt  cipher = aes-256-gcm  oaep = true }
END

# Makes a message and takes the CMS object, and what was signed, out of it. Sets made.
text="Hello, whoever reads this."
make() { # PROFILE WHO
    made=$WORK/$1.$2
    mkdir -p "$made"
    letter bob@a.example "$2@c.example" "$text" >"$made/in.eml"
    (
        # shellcheck disable=SC1091
        . "$box/env"
        exec sealgate process --outbound --from bob@a.example --rcpt "$2@c.example" \
            --profile "$1" <"$made/in.eml" >"$made/out.eml" 2>"$made/log"
    ) || {
        fail "making $1 for $2: $(tail -n 1 "$made/log")"
        return 1
    }
    "$here/parts.py" out "$made/out.eml" "$made" || fail "parts of $1"
}

# No grep -q behind a pipe: it ends early, and pipefail takes that for a failure.
# Readers of signatures, each: READER OBJECT [CONTENT]; the text must come out or be what was given.
openssl_verify() {
    openssl cms -verify -inform DER -in "$1" ${2:+-content "$2"} -binary -CAfile "$ca" |
        grep -aF "$text"
}
bc_verify() {
    java -cp "$jars:$WORK/bc" Cms verify "$1" "$ca" ${2:+"$2"} | grep -aF "$text"
}
certtool_verify() {
    certtool --p7-verify --inder --load-ca-certificate "$ca" --infile "$1" ${2:+--load-data "$2"} 2>&1 |
        grep 'Signature status: ok'
}
gpgsm_verify() {
    gpgsm --batch --disable-crl-checks --status-fd 1 --verify "$1" ${2:+"$2"} | grep GOODSIG
}
nss_verify() {
    cmsutil -D -d "$WORK/nss" -h 1 -i "$1" ${2:+-c "$2"} |
        grep 'status=GoodSignature'
}

# Readers of enveloped data, each: READER WHO OBJECT
openssl_decrypt() {
    openssl cms -decrypt -inform DER -in "$2" -binary -recip "$box/certs/$1.pem" \
        -inkey "$WORK/$1.key" | grep -aF "$text"
}
bc_decrypt() {
    java -cp "$jars:$WORK/bc" Cms decrypt "$2" "$WORK/$1.key" "$box/certs/$1.pem" |
        grep -aF "$text"
}
gpgsm_decrypt() {
    gpgsm --batch --disable-crl-checks --decrypt "$2" | grep -aF "$text"
}
nss_decrypt() {
    cmsutil -D -d "$WORK/nss" -i "$2" | grep -aF "$text"
}

set_up_readers() {
    mkdir "$WORK/bc" "$WORK/nss"
    javac -nowarn -Xlint:none -cp "$jars" -d "$WORK/bc" "$here/bc/Cms.java" >/dev/null ||
        give_up "Bouncy Castle"
    openssl pkcs12 -export -legacy -inkey "$WORK/rsa.key" -in "$box/certs/rsa.pem" -passout pass:x \
        -out "$WORK/rsa.p12"
    # NSS
    certutil -N -d "$WORK/nss" --empty-password
    certutil -A -d "$WORK/nss" -n ca -t ,C, -i "$ca"
    pk12util -i "$WORK/rsa.p12" -d "$WORK/nss" -W x -K '' >/dev/null || give_up "NSS"
    # gpgsm: trusts the CA, has no passphrase for its keys
    export GNUPGHOME=$WORK/gpg
    mkdir -m 700 "$GNUPGHOME"
    cat >"$GNUPGHOME/fake-pinentry" <<'END'
#!/bin/sh
echo "OK ready"
while read -r command rest; do
    case $command in
    GETPIN) echo "D x" && echo OK ;;
    BYE) echo OK && exit ;;
    *) echo OK ;;
    esac
done
END
    chmod +x "$GNUPGHOME/fake-pinentry"
    echo "pinentry-program $GNUPGHOME/fake-pinentry" >"$GNUPGHOME/gpg-agent.conf"
    echo "$(openssl x509 -in "$ca" -noout -fingerprint -sha1 | sed 's/.*=//') S relax" \
        >"$GNUPGHOME/trustlist.txt"
    gpgsm --batch --quiet --disable-crl-checks --import "$ca" "$box/certs/signing.pem" \
        "$box/certs/ec-signing.pem" || give_up "gpgsm"
    echo x | gpgsm --batch --quiet --pinentry-mode loopback --passphrase-fd 0 \
        --disable-crl-checks --import "$WORK/rsa.p12" || give_up "gpgsm's key"
}

verified_by() { # PROFILE READER...
    local profile=$1 reader content=
    shift
    make "$profile" rsa || return
    [[ ! -f $made/content ]] || content=$made/content
    for reader in "$@"; do
        # shellcheck disable=SC2086
        check "$profile: $reader" "$reader" "$made/object.der" $content
    done
}
decrypted_by() { # PROFILE WHO READER...
    local profile=$1 who=$2 reader
    shift 2
    make "$profile" "$who" || return
    for reader in "$@"; do
        check "$profile for $who: $reader" "$reader" "$who" "$made/object.der"
    done
}

set_up_readers
all="openssl_verify bc_verify certtool_verify gpgsm_verify nss_verify"
# shellcheck disable=SC2086
{
    verified_by sign $all
    verified_by sign-opaque $all
    verified_by ec-sign $all
    verified_by ec-sign-opaque $all
    verified_by sha384 $all
    verified_by pss $all
}
decrypted_by encrypt rsa openssl_decrypt bc_decrypt gpgsm_decrypt nss_decrypt
decrypted_by cbc128 rsa openssl_decrypt bc_decrypt gpgsm_decrypt nss_decrypt
decrypted_by oaep rsa openssl_decrypt bc_decrypt
decrypted_by gcm rsa openssl_decrypt bc_decrypt
decrypted_by gcm-oaep rsa openssl_decrypt bc_decrypt
decrypted_by encrypt ec openssl_decrypt bc_decrypt
decrypted_by gcm ec openssl_decrypt bc_decrypt

# The nested ones, layer by layer as a mail client takes them off.
opened() { # PROFILE: decrypts the outermost enveloped layer of made into opened.eml
    openssl cms -decrypt -in "$1" -recip "$box/certs/rsa.pem" -inkey "$WORK/rsa.key" -out "$2"
}
if make sign-encrypt rsa; then
    check "sign-encrypt: openssl opens it" opened "$made/out.eml" "$made/opened.eml"
    check "... and verifies what was in it" \
        openssl cms -verify -in "$made/opened.eml" -CAfile "$ca" -out "$made/text"
    check "... and has the text" grep -qF "$text" "$made/text"
fi
if make triple rsa; then
    check "triple: openssl verifies the outer signature" \
        openssl cms -verify -in "$made/out.eml" -CAfile "$ca" -out "$made/enveloped.eml"
    check "... opens it" opened "$made/enveloped.eml" "$made/opened.eml"
    check "... verifies the inner signature" \
        openssl cms -verify -in "$made/opened.eml" -CAfile "$ca" -out "$made/text"
    check "... and has the text" grep -qF "$text" "$made/text"
fi
# A reader that accepts anything proves nothing.
if make sign rsa; then
    sed 's/whoever/nobody/' "$made/content" >"$made/other"
    for reader in $all; do
        check_not "changed content: not $reader" "$reader" "$made/object.der" "$made/other"
    done
fi
