#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the first inputs of the fuzzers cms_inspect and cms_open, with the openssl command, and the
# throw-away keys they are for. usage: tests/fuzz/cms_seeds.sh, at the top of the tree
set -eu
data=tests/data/cms
open=tests/fuzz/cms_open
inspect=tests/fuzz/cms_inspect
export OPENSSL_CONF=/dev/null
mkdir -p $data $open $inspect
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'Content-Type: text/plain\r\n\r\nWe meet at noon.\r\n' > "$work/content"

certificate() { # NAME ALGORITHM USAGE
    openssl req -x509 -newkey "$2" ${4:+-pkeyopt "$4"} -nodes -keyout $data/"$1".key -out $data/"$1".pem -days 36500 \
        -subj "/CN=$1" -addext "keyUsage=$3" -addext "extendedKeyUsage=emailProtection" \
        -addext "subjectAltName=email:$1@a.example" 2> /dev/null
}
if [ ! -e $data/rsa.key ]; then
    certificate rsa rsa:2048 digitalSignature,nonRepudiation,keyEncipherment
    certificate ec ec digitalSignature,nonRepudiation,keyAgreement ec_paramgen_curve:P-256
    cat $data/rsa.pem $data/ec.pem > $data/anchors.pem
    # Making RSA keys is slow: tests/support/pki.c takes these two.
    openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $data/rsa-b.key
fi

sign() { # NAME OPTIONS...
    name=$1
    shift
    openssl cms -sign -binary -in "$work/content" -outform DER -out $open/sign-"$name" "$@"
}
encrypt() {
    name=$1
    shift
    openssl cms -encrypt -binary -in "$work/content" -outform DER -out $open/encrypt-"$name" "$@"
}
rsa="-signer $data/rsa.pem -inkey $data/rsa.key"
ec="-signer $data/ec.pem -inkey $data/ec.key"
sign rsa $rsa -nodetach -cades
sign rsa-stream $rsa -nodetach -stream
sign rsa-nocerts $rsa -nodetach -nocerts
sign rsa-keyid $rsa -nodetach -keyid
sign rsa-noattr $rsa -nodetach -noattr
sign rsa-sha1 $rsa -nodetach -md sha1
sign rsa-md5 $rsa -nodetach -md md5
sign pss $rsa -nodetach -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:32
sign ec $ec -nodetach
sign ec-detached $ec -md sha384
sign both $rsa $ec -nodetach
openssl crl2pkcs7 -nocrl -certfile $data/ec.pem -outform DER -out $open/certs-only
encrypt rsa -aes256 $data/rsa.pem
encrypt rsa-stream -aes128 -stream $data/rsa.pem
encrypt rsa-keyid -aes128 -keyid $data/rsa.pem
encrypt rsa-3des -des3 $data/rsa.pem
encrypt oaep -aes256 -recip $data/rsa.pem -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256
encrypt oaep-sha1 -aes256 -recip $data/rsa.pem -keyopt rsa_padding_mode:oaep
encrypt ec -aes256 -recip $data/ec.pem -keyopt ecdh_kdf_md:sha256
encrypt ec-default -aes128 -recip $data/ec.pem
encrypt both -aes256 $data/rsa.pem $data/ec.pem
encrypt gcm-rsa -aes-256-gcm $data/rsa.pem
encrypt gcm-ec -aes-128-gcm $data/ec.pem
encrypt gcm-stream -aes-128-gcm -stream $data/ec.pem
encrypt password -aes256 -pwri_password secret
encrypt shared -aes128 -secretkey 000102030405060708090a0b0c0d0e0f -secretkeyid 01
openssl cms -digest_create -in "$work/content" -outform DER -out $open/digested
openssl cms -data_create -in "$work/content" -outform DER -out $open/data
cp $open/* $inspect/
