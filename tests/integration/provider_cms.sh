#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `openssl cms` with hsmd: keys, real token and hsmd; openssl without our provider is the other side.
# shellcheck source=tests/integration/provider_env.sh
. "$(dirname "$0")/provider_env.sh"
make_environment

# ---- sign ----

sign_and_verify() { # NAME KEY OPTION...
    local name=$1 key=$2
    shift 2
    rm -f s.eml v.txt
    check "sign: $name" ours cms -sign -in m.txt -signer "$key.pem" -inkey "hsmd:$key" \
        -out s.eml "$@"
    check "... verifies" plain cms -verify -in s.eml -CAfile ca.pem -out v.txt
    check "... and is the text" cmp v.txt m.txt
}
has_salt() { # FILE BYTES: the length in the parameters of PSS (RFC 4055, 3.1), one DER integer
    plain cms -cmsout -outform DER -in "$1" | od -An -v -tx1 | tr -d ' \n' |
        grep -q "$(printf 'a2030201%02x' "$2")"
}

for key in signing ec-signing ec384-signing; do
    sign_and_verify "$key detached" "$key"
    sign_and_verify "$key opaque" "$key" -nodetach
    sign_and_verify "$key streaming" "$key" -nodetach -stream
    sign_and_verify "$key binary" "$key" -binary -nodetach
    for md in sha224 sha256 sha384 sha512; do
        sign_and_verify "$key $md" "$key" -md "$md"
    done
    sign_and_verify "$key by subject key identifier" "$key" -keyid
    check_refused "-noattr with $key" "leave out -noattr" ours cms -sign -noattr -in m.txt \
        -signer "$key.pem" -inkey "hsmd:$key" -out no.eml
    check_refused "sha1 with $key" "hsmd denies" ours cms -sign -md sha1 -in m.txt \
        -signer "$key.pem" -inkey "hsmd:$key" -out no.eml
done
for key in ec-general general; do
    check "-noattr with $key" ours cms -sign -noattr -in m.txt -signer "$key.pem" \
        -inkey "hsmd:$key" -out s.eml
    check "... verifies" plain cms -verify -in s.eml -CAfile ca.pem -out v.txt
done

sign_and_verify "PSS" signing -keyopt rsa_padding_mode:pss
check "... is PSS with a salt as long as the hash" has_salt s.eml 32
sign_and_verify "PSS, salt by name" signing -keyopt rsa_padding_mode:pss \
    -keyopt rsa_pss_saltlen:digest
sign_and_verify "PSS, salt by number" signing -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:32
sign_and_verify "PSS sha512 opaque" signing -md sha512 -nodetach -keyopt rsa_padding_mode:pss
check "... is PSS with a salt as long as the hash" has_salt s.eml 64
check_refused "PSS with another MGF hash" "must be equal" ours cms -sign -in m.txt -signer signing.pem \
    -inkey hsmd:signing -keyopt rsa_padding_mode:pss -keyopt rsa_mgf1_md:sha1 -out no.eml

# The certificate can come out of hsmd as well.
sign_and_verify "certificate from hsmd:" signing -certfile ca.pem
check "certificate by URI" ours cms -sign -in m.txt -signer hsmd:signing -inkey hsmd:signing -out s.eml
check "... verifies" plain cms -verify -in s.eml -CAfile ca.pem -out v.txt
check "nothing but a URI" ours cms -sign -in m.txt -signer hsmd:signing -out s.eml
check "... verifies" plain cms -verify -in s.eml -CAfile ca.pem -out v.txt
check "two signers" ours cms -sign -in m.txt -signer signing.pem -inkey hsmd:signing \
    -signer ec-signing.pem -inkey hsmd:ec-signing -out s.eml
check "... verify" plain cms -verify -in s.eml -CAfile ca.pem -out v.txt
check "resign" ours cms -resign -in s.eml -signer ec384-signing.pem -inkey hsmd:ec384-signing -out r.eml
check "... verifies" plain cms -verify -in r.eml -CAfile ca.pem -out v.txt

# ---- decrypt ----

encrypt_and_decrypt() { # NAME KEY OPTION... : options of the recipient, then -- those of the message
    local name=$1 key=$2 of_recipient=()
    shift 2
    while [[ $# -gt 0 && $1 != -- ]]; do
        of_recipient+=("$1")
        shift
    done
    shift
    rm -f e.eml d.txt
    check "decrypt: $name" plain cms -encrypt -in m.txt -out e.eml "$@" -recip "$key.pem" \
        "${of_recipient[@]}"
    check "... decrypts" ours cms -decrypt -in e.eml -recip "$key.pem" -inkey "hsmd:$key" -out d.txt
    check "... to the text" cmp d.txt m.txt
}
oaep=(-keyopt rsa_padding_mode:oaep)

for cipher in aes-128-cbc aes-256-cbc aes-128-gcm aes-256-gcm; do
    encrypt_and_decrypt "v1.5 $cipher" decryption -- "-$cipher"
    encrypt_and_decrypt "ECDH P-256 $cipher" ec-decryption -- "-$cipher"
done
for md in sha1 sha256 sha384 sha512; do
    encrypt_and_decrypt "OAEP $md" decryption "${oaep[@]}" -keyopt "rsa_oaep_md:$md" -- -aes-256-cbc
    encrypt_and_decrypt "OAEP $md, label" decryption "${oaep[@]}" -keyopt "rsa_oaep_md:$md" \
        -keyopt rsa_oaep_label:6c6162656c -- -aes-256-cbc
    for mgf in sha1 sha256 sha384 sha512; do
        encrypt_and_decrypt "OAEP $md, MGF $mgf" decryption "${oaep[@]}" -keyopt "rsa_oaep_md:$md" \
            -keyopt "rsa_mgf1_md:$mgf" -- -aes-256-cbc
    done
    for curve in ec ec384; do
        for wrap in aes128-wrap aes256-wrap; do
            encrypt_and_decrypt "$curve KDF $md $wrap" "$curve-decryption" \
                -keyopt "ecdh_kdf_md:$md" -- -aes-256-cbc "-$wrap"
        done
    done
done
encrypt_and_decrypt "OAEP without more" decryption "${oaep[@]}" -- -aes-256-gcm
encrypt_and_decrypt "cofactor mode" ec-decryption -keyopt ecdh_cofactor_mode:1 -- -aes-256-cbc
encrypt_and_decrypt "general key" general -- -aes-256-cbc
encrypt_and_decrypt "general EC key" ec-general -- -aes-256-cbc

check "several recipients" plain cms -encrypt -aes-256-cbc -in m.txt -out e.eml -recip ca.pem \
    -recip decryption.pem "${oaep[@]}" -recip ec-decryption.pem -recip ec384-decryption.pem
for key in decryption ec-decryption ec384-decryption; do
    check "... $key decrypts" ours cms -decrypt -in e.eml -recip "$key.pem" -inkey "hsmd:$key" \
        -out d.txt
    check "... to the text" cmp d.txt m.txt
done
check_not "... general does not" ours cms -decrypt -in e.eml -recip general.pem -inkey hsmd:general
check_refused "a key for signing does not decrypt" "does not decrypt" ours cms -decrypt -debug_decrypt \
    -in e.eml -recip decryption.pem -inkey hsmd:signing

# A certificate that sender and we read through our own provider's configuration.
check "encrypt with our configuration" ours cms -encrypt -aes256 -in m.txt -out e.eml \
    -recip ec-decryption.pem -recip decryption.pem
check "... decrypts" ours cms -decrypt -in e.eml -recip ec-decryption.pem -inkey hsmd:ec-decryption \
    -out d.txt
check "... to the text" cmp d.txt m.txt

check "nothing but a URI" ours cms -decrypt -in e.eml -recip hsmd:decryption -out d.txt
check "... to the text" cmp d.txt m.txt

# ---- more than fits into a buffer ----

head -c 3900000 /dev/urandom | base64 | sed 's/$/\r/' >big.txt # 5.3 MB
is_streamed() { # FILE: of BER, not DER, since its length was not known
    plain asn1parse -inform DER -in "$1" | sed -n 1p | grep -q 'l=inf'
}
check "5 MB, sign -stream" ours cms -sign -stream -binary -nodetach -in big.txt -signer signing.pem \
    -inkey hsmd:signing -outform DER -out s.der
check "... is streamed" is_streamed s.der
check "... verifies" plain cms -verify -inform DER -in s.der -CAfile ca.pem -out v.txt
check "... and is the text" cmp v.txt big.txt
for key in decryption ec-decryption; do
    check "5 MB, encrypt -stream" plain cms -encrypt -stream -binary -aes-256-cbc -in big.txt \
        -outform DER -out e.der "$key.pem"
    check "... is streamed" is_streamed e.der
    check "... $key decrypts" ours cms -decrypt -binary -inform DER -in e.der -recip "$key.pem" \
        -inkey "hsmd:$key" -out d.txt
    check "... to the text" cmp d.txt big.txt
done

# ---- with our provider before the default one ----

sed '/^default = /d; s/^hsmd = .*/&\ndefault = default_provider/' ours.cnf >reversed.cnf
reversed() {
    OPENSSL_CONF=$WORK/reversed.cnf openssl "$@"
}
check "hsmd first: signs" reversed cms -sign -in m.txt -signer signing.pem -inkey hsmd:signing -out s.eml
check "... verifies" reversed cms -verify -in s.eml -CAfile ca.pem -out v.txt
for key in decryption ec-decryption; do
    check "... encrypts" reversed cms -encrypt -aes256 -in m.txt -out e.eml "$key.pem"
    check "... decrypts" reversed cms -decrypt -in e.eml -recip "$key.pem" -inkey "hsmd:$key" -out d.txt
    check "... to the text" cmp d.txt m.txt
done
check "... signs with a key from a file" reversed dgst -sha256 -sign ca.key -out sig m.txt

# ---- S/MIME version 3, and trouble ----

check "smime -sign" ours smime -sign -in m.txt -signer signing.pem -inkey hsmd:signing -out s.eml
check "... verifies" plain smime -verify -in s.eml -CAfile ca.pem -out v.txt
check "smime -encrypt" plain smime -encrypt -aes256 -in m.txt -out e.eml decryption.pem
check "... -decrypt" ours smime -decrypt -in e.eml -recip decryption.pem -inkey hsmd:decryption \
    -out d.txt
check "... to the text" cmp d.txt m.txt

check "sign, then encrypt" ours cms -sign -in m.txt -signer signing.pem -inkey hsmd:signing -out s.eml
check "... encrypt" ours cms -encrypt -aes256 -in s.eml -out e.eml decryption.pem
check "... decrypt" ours cms -decrypt -in e.eml -recip decryption.pem -inkey hsmd:decryption -out d.eml
check "... verify" ours cms -verify -in d.eml -CAfile ca.pem -out v.txt
check "... is the text" cmp v.txt m.txt

stop_hsmd
export HSMD_TIMEOUT=700
check_refused "hsmd is down" "hsmd cannot do it now" ours cms -sign -in m.txt -signer signing.pem \
    -inkey hsmd:signing -out s.eml
unset HSMD_TIMEOUT
start_hsmd
sign_and_verify "hsmd is back" signing
