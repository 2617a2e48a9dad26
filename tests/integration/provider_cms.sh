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
printed() { # FILE
    plain cms -cmsout -print -noout -in "$1"
}
has_no_attributes() { # FILE: each SignerInfo
    local signers
    signers=$(printed "$1" | grep -c '^ *signedAttrs:')
    [[ $signers -gt 0 && $(printed "$1" | grep -A 1 '^ *signedAttrs:' | grep -c '<ABSENT>') -eq $signers ]]
}
is_signed_with() { # FILE ALGORITHM...: one a SignerInfo, in the order of the alphabet
    local file=$1
    shift
    diff <(printf '%s\n' "$@") <(printed "$file" | grep -A 1 '^ *signatureAlgorithm:' |
        sed -n 's/^ *algorithm: \([^ ]*\) .*/\1/p' | LC_ALL=C sort)
}
is_streamed() { # FILE: of BER, not DER, since its length was not known
    plain asn1parse -inform DER -in "$1" | sed -n 1p | grep -q 'l=inf'
}
body_is_streamed() { # FILE: of S/MIME
    sed '1,/^\r*$/d' "$1" | base64 -di >body.der && is_streamed body.der
}

for key in signing ec-signing ec384-signing; do
    sign_and_verify "$key detached" "$key"
    sign_and_verify "$key opaque" "$key" -nodetach
    check_not "... is not streamed" body_is_streamed s.eml
    sign_and_verify "$key streaming" "$key" -nodetach -stream
    check "... is streamed" body_is_streamed s.eml
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
    sign_and_verify "-noattr with $key" "$key" -noattr
    check "... has no attributes" has_no_attributes s.eml
done
sign_and_verify "PSS, -noattr" general -noattr -keyopt rsa_padding_mode:pss \
    -keyopt rsa_pss_saltlen:digest
check "... has no attributes" has_no_attributes s.eml
check "... is PSS with a salt as long as the hash" has_salt s.eml 32

sign_and_verify "PSS" signing -keyopt rsa_padding_mode:pss
check "... is PSS with a salt as long as the hash" has_salt s.eml 32
sign_and_verify "PSS, salt by name" signing -keyopt rsa_padding_mode:pss \
    -keyopt rsa_pss_saltlen:digest
check "... is as long as the hash" has_salt s.eml 32
sign_and_verify "PSS, salt by number" signing -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:32
check "... is as long as that" has_salt s.eml 32
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
check "... are two" is_signed_with s.eml ecdsa-with-SHA256 rsaEncryption
check "resign" ours cms -resign -in s.eml -signer ec384-signing.pem -inkey hsmd:ec384-signing -out r.eml
check "... verifies" plain cms -verify -in r.eml -CAfile ca.pem -out v.txt
check "... with three signers" is_signed_with r.eml ecdsa-with-SHA256 ecdsa-with-SHA256 rsaEncryption

# ---- decrypt ----

# How a message is encrypted: of each recipient the key's algorithm with what its parameters name (a
# default is left out of them), at last the content's.
way_of() { # FILE
    printed "$1" | sed -n -e '/^ *keyEncryptionAlgorithm:/,/^ *\(encryptedKey\|recipientEncryptedKeys\):/{
            s/.* OCTET STRING *:\(.*\)/\1/p
            b names
        }
        /^ *contentEncryptionAlgorithm:/,/^ *encryptedContent:/b names
        d
        :names
        s/.* OBJECT *:\(.*\)/\1/p
        s/^ *algorithm: \([^ ]*\) (.*/\1/p' | xargs
}
is_encrypted() { # WAY: e.eml
    diff <(echo "$1") <(way_of e.eml)
}
oaep_way() { # HASH MGF-HASH [LABEL]
    local way=rsaesOaep
    [[ $1 == sha1 ]] || way+=" $1"
    [[ $2 == sha1 ]] || way+=" mgf1 $2"
    [[ -z ${3:-} ]] || way+=" pSpecified $3"
    echo "$way"
}
ecdh_way() { # HASH WRAP
    echo "dhSinglePass-stdDH-$1kdf-scheme id-$2"
}
decrypts() { # KEY: e.eml
    rm -f d.txt
    check "... decrypts" ours cms -decrypt -in e.eml -recip "$1.pem" -inkey "hsmd:$1" -out d.txt
    check "... to the text" cmp d.txt m.txt
}
encrypt_and_decrypt() { # NAME KEY CIPHER WAY OPTION...: way: of the key; options: what makes it so
    local name=$1 key=$2 cipher=$3 way=$4
    shift 4
    rm -f e.eml
    check "decrypt: $name" plain cms -encrypt -in m.txt -out e.eml "-$cipher" -recip "$key.pem" "$@"
    check "... is encrypted so" is_encrypted "$way $cipher"
    decrypts "$key"
}
oaep=(-keyopt rsa_padding_mode:oaep)

for cipher in aes-128-cbc aes-256-cbc aes-128-gcm aes-256-gcm; do
    encrypt_and_decrypt "v1.5 $cipher" decryption "$cipher" rsaEncryption
    encrypt_and_decrypt "ECDH P-256 $cipher" ec-decryption "$cipher" \
        "$(ecdh_way sha1 "aes${cipher:4:3}-wrap")"
done
for md in sha1 sha256 sha384 sha512; do
    encrypt_and_decrypt "OAEP $md" decryption aes-256-cbc "$(oaep_way $md $md)" \
        "${oaep[@]}" -keyopt "rsa_oaep_md:$md"
    encrypt_and_decrypt "OAEP $md, label" decryption aes-256-cbc "$(oaep_way $md $md label)" \
        "${oaep[@]}" -keyopt "rsa_oaep_md:$md" -keyopt rsa_oaep_label:6c6162656c
    for mgf in sha1 sha256 sha384 sha512; do
        encrypt_and_decrypt "OAEP $md, MGF $mgf" decryption aes-256-cbc "$(oaep_way $md $mgf)" \
            "${oaep[@]}" -keyopt "rsa_oaep_md:$md" -keyopt "rsa_mgf1_md:$mgf"
    done
    for curve in ec ec384; do
        for wrap in aes128-wrap aes256-wrap; do
            encrypt_and_decrypt "$curve KDF $md $wrap" "$curve-decryption" aes-256-cbc \
                "$(ecdh_way $md $wrap)" -keyopt "ecdh_kdf_md:$md" "-$wrap"
        done
    done
done
encrypt_and_decrypt "OAEP without more" decryption aes-256-gcm rsaesOaep "${oaep[@]}"
encrypt_and_decrypt "cofactor mode" ec-decryption aes-256-cbc \
    "dhSinglePass-cofactorDH-sha1kdf-scheme id-aes256-wrap" -keyopt ecdh_cofactor_mode:1
encrypt_and_decrypt "general key" general aes-256-cbc rsaEncryption
encrypt_and_decrypt "general EC key" ec-general aes-256-cbc "$(ecdh_way sha1 aes256-wrap)"

check "several recipients" plain cms -encrypt -aes-256-cbc -in m.txt -out e.eml -recip ca.pem \
    -recip decryption.pem "${oaep[@]}" -recip ec-decryption.pem -recip ec384-decryption.pem
# RecipientInfos are a SET: in which order they stand depends on the certificates.
are_four() {
    local ecdh
    ecdh=$(ecdh_way sha1 aes256-wrap)
    diff <(tr ' ' '\n' <<<"rsaEncryption rsaesOaep $ecdh $ecdh aes-256-cbc" | sort) \
        <(way_of e.eml | tr ' ' '\n' | sort)
}
check "... are four" are_four
for key in decryption ec-decryption ec384-decryption; do
    decrypts "$key"
done
check_not "... general does not" ours cms -decrypt -in e.eml -recip general.pem -inkey hsmd:general
check_refused "a key for signing does not decrypt" "does not decrypt" ours cms -decrypt -debug_decrypt \
    -in e.eml -recip decryption.pem -inkey hsmd:signing

# The caveat of provider-hsmd(7). What a longer name makes longer comes last in a SET of DER.
bits=$(plain x509 -in decryption.pem -noout -text | sed -n 's/.*Public-Key: (\([0-9]*\) bit)/\1/p')
name=$(printf 'z%.0s' {1..60})
plain req -x509 -newkey "rsa:$bits" -nodes -keyout other.key -out other.pem -subj "/O=$name/CN=$name" \
    >/dev/null 2>&1 || give_up "no certificate of another"
encrypt_for_both() {
    plain cms -encrypt -aes-256-cbc -in m.txt -out e.eml decryption.pem other.pem
}
# Not each time: half of the other's ciphertexts are no numbers below our modulus.
fails_without_recip() {
    local i
    for i in $(seq 20); do
        rm -f d.txt
        encrypt_for_both || return 1
        ours cms -decrypt -in e.eml -inkey hsmd:decryption -out d.txt && cmp d.txt m.txt || return 0
    done
    return 1
}
check "without -recip, another RSA recipient behind ours: no text" fails_without_recip
for _ in $(seq 5); do
    check "... with -recip" encrypt_for_both
    decrypts decryption
done

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
for key in signing ec-signing; do
    check "5 MB, sign -stream with $key" ours cms -sign -stream -binary -nodetach -in big.txt \
        -signer "$key.pem" -inkey "hsmd:$key" -outform DER -out s.der
    check "... is streamed" is_streamed s.der
    check "... verifies" plain cms -verify -inform DER -in s.der -CAfile ca.pem -out v.txt
    check "... and is the text" cmp v.txt big.txt
done
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
