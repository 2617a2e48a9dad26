#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The other commands of openssl with hsmd: keys, real token and hsmd: keys and certificates by URI,
# signatures, requests, certificates, TLS.
# shellcheck source=tests/integration/provider_env.sh
. "$(dirname "$0")/provider_env.sh"
make_environment

# ---- the module itself ----

check "hsmd.so exports one symbol" test "$(nm -D --defined-only "$BUILD/bin/hsmd.so" |
    sed 's/.* //')" = OSSL_provider_init
ldd "$BUILD/bin/hsmd.so" >ldd.txt
check "... is linked to libcrypto" grep -q libcrypto ldd.txt
check_not "... and to no PKCS #11 library" grep -Eq 'p11|pkcs11|softhsm' ldd.txt
check_not "... nor does it load one" grep -aEq 'C_GetFunctionList|softhsm' "$BUILD/bin/hsmd.so"
# Its fork handler may be called when OpenSSL has closed it.
readelf -d "$BUILD/bin/hsmd.so" >dynamic.txt
check "... and stays in memory once loaded" grep -q NODELETE dynamic.txt
check "provider is listed" ours list -providers -verbose

# ---- store and pkey ----

for row in "${KEYS[@]}"; do
    read -r _ key _ purpose _ <<<"$row"
    check "pkey -pubout of $key" ours pkey -in "hsmd:$key" -pubout -out got.pub
    check "... is the token's" cmp got.pub "$key.pub"
    check "pkey -text of $key" ours pkey -in "hsmd:$key" -noout -text -out got.txt
    check "... tells name and purpose" grep -q "in hsmd, name $key, purpose $purpose" got.txt
    check_not "the private half of $key does not leave as PEM" ours pkey -in "hsmd:$key" -out no.pem
    check_not "... nor as DER" ours pkey -in "hsmd:$key" -outform DER -out no.der
    check "... nothing was written" test ! -s no.pem -a ! -s no.der
    check "x509 -in hsmd:$key" ours x509 -in "hsmd:$key" -out got.pem
    check "... is its certificate" cmp <(plain x509 -in "$key.pem") got.pem
    check "storeutl -certs hsmd:$key" ours storeutl -certs -out got.pem "hsmd:$key"
    check "... has it" grep -q "BEGIN CERTIFICATE" got.pem
done
check "pkey -pubout -noout -text" ours pkey -in hsmd:signing -pubout -noout -text
check "pkey -text_pub" ours pkey -in hsmd:signing -noout -text_pub -out got.txt
check "... shows the modulus" grep -q Modulus got.txt
check "pkey -pubin" ours pkey -pubin -in hsmd:signing -out got.pub
check "... is the token's" cmp got.pub signing.pub
ours storeutl hsmd: >list.txt 2>&1 # -out is not for names
for row in "${KEYS[@]}"; do
    read -r _ key _ <<<"$row"
    check "... lists $key" grep -q "Name: hsmd:$key\$" list.txt
done
check "... with descriptions" grep -Eq "RSA (2048|3072) bits, smime-sign, enabled" list.txt
check "... and all of them" grep -q "Total found: ${#KEYS[@]}" list.txt
check "storeutl -keys -noout -text" ours storeutl -keys -noout -text hsmd:ec-signing
check "storeutl -r hsmd:" ours storeutl -r -noout -text -out list.txt hsmd:
check "... shows every key" test "$(grep -c 'Private-Key: in hsmd' list.txt)" = "${#KEYS[@]}"
check "rsa -text" ours rsa -in hsmd:signing -noout -text
check "ec -text" ours ec -in hsmd:ec-signing -noout -text
check "pkey -check" ours pkey -in hsmd:ec-signing -noout -check
check_refused "pkcs12 -export" "does not leave hsmd" ours pkcs12 -export -inkey hsmd:signing \
    -in signing.pem -passout pass:x -out no.p12
check_refused "unknown key" "hsmd denies" ours pkey -in hsmd:nobody -noout
check_refused "URI with parameters" "parameters are not known" ours pkey -in 'hsmd:signing?x=1' -noout
check "keys from files are made as ever" ours genpkey -algorithm EC -pkeyopt \
    ec_paramgen_curve:P-256 -out file.key
check "... and used" ours dgst -sha256 -sign file.key -out file.sig m.txt

# ---- dgst and pkeyutl ----

verify_dgst() { # KEY OPTION...
    local key=$1
    shift
    plain dgst -verify "$key.pub" -signature sig "$@" m.txt
}
for md in sha1 sha224 sha256 sha384 sha512; do
    for key in general ec-general; do
        check "dgst -sign $key $md" ours dgst "-$md" -sign "hsmd:$key" -out sig m.txt
        check "... verifies" verify_dgst "$key" "-$md"
        check "... with our key too" ours dgst "-$md" -prverify "hsmd:$key" -signature sig m.txt
        check_not "... another text does not" ours dgst "-$md" -prverify "hsmd:$key" \
            -signature sig hsmd.conf
    done
    pss=(-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest)
    check "dgst PSS $md" ours dgst "-$md" -sign hsmd:general "${pss[@]}" -out sig m.txt
    check "... verifies" verify_dgst general "-$md" "${pss[@]}"
done
check "dgst PSS, salt of 20" ours dgst -sha256 -sign hsmd:general -sigopt rsa_padding_mode:pss \
    -sigopt rsa_pss_saltlen:20 -out sig m.txt
check "... verifies" verify_dgst general -sha256 -sigopt rsa_padding_mode:pss \
    -sigopt rsa_pss_saltlen:20
check_refused "dgst with a key for S/MIME" "CMS SignedAttributes only" ours dgst -sha256 \
    -sign hsmd:signing -out sig m.txt
check_refused "dgst with an unsupported hash" "not supported" ours dgst -sha3-256 \
    -sign hsmd:general -out sig m.txt

plain dgst -sha256 -binary -out digest m.txt
for key in general ec-general; do
    check "pkeyutl -sign $key" ours pkeyutl -sign -inkey "hsmd:$key" -in digest -out sig \
        -pkeyopt digest:sha256
    check "... verifies" plain pkeyutl -verify -pubin -inkey "$key.pub" -in digest -sigfile sig \
        -pkeyopt digest:sha256
    check "... with our key too" ours pkeyutl -verify -inkey "hsmd:$key" -in digest -sigfile sig \
        -pkeyopt digest:sha256
    check "pkeyutl -sign -rawin $key" ours pkeyutl -sign -rawin -digest sha256 -inkey "hsmd:$key" \
        -in m.txt -out sig
    check "... verifies" plain pkeyutl -verify -rawin -digest sha256 -pubin -inkey "$key.pub" \
        -in m.txt -sigfile sig
done
check "pkeyutl -verifyrecover" ours pkeyutl -verifyrecover -inkey hsmd:general -pkeyopt \
    digest:sha256 -in <(ours pkeyutl -sign -inkey hsmd:general -in digest -pkeyopt digest:sha256) \
    -out got
check "... gives the digest" cmp got digest
check_refused "pkeyutl -sign without a digest" "none is set" ours pkeyutl -sign -inkey hsmd:general \
    -in digest -out sig
for options in "" "-pkeyopt rsa_padding_mode:oaep" \
    "-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha1"; do
    # shellcheck disable=SC2086
    {
        check "pkeyutl -encrypt $options" plain pkeyutl -encrypt -pubin -inkey general.pub \
            -in digest -out ct $options
        check "... -decrypt" ours pkeyutl -decrypt -inkey hsmd:general -in ct -out got $options
        check "... gives it back" cmp got digest
        check "... -encrypt with our key" ours pkeyutl -encrypt -inkey hsmd:general -in digest \
            -out ct $options
        check "... -decrypt" ours pkeyutl -decrypt -inkey hsmd:general -in ct -out got $options
        check "... gives it back" cmp got digest
    }
done
plain pkey -in file.key -pubout -out file.pub
kdf=(-pkeyopt kdf-type:X963KDF -pkeyopt kdf-digest:SHA256 -pkeyopt kdf-outlen:32)
check "pkeyutl -derive" ours pkeyutl -derive -inkey hsmd:ec-general -peerkey file.pub "${kdf[@]}" \
    -out got
check "... as the other side" plain pkeyutl -derive -inkey file.key -peerkey ec-general.pub \
    "${kdf[@]}" -out want
check "... the same key" cmp got want
check_refused "pkeyutl -derive without a KDF" "a raw shared secret does not leave hsmd" \
    ours pkeyutl -derive -inkey hsmd:ec-general -peerkey file.pub -out got

# Ed25519 signs the message itself, in one piece.
check "pkeyutl -sign -rawin ed25519-general" ours pkeyutl -sign -rawin -inkey hsmd:ed25519-general \
    -in m.txt -out sig
check "... verifies" plain pkeyutl -verify -rawin -pubin -inkey ed25519-general.pub -in m.txt \
    -sigfile sig
check "... with our key too" ours pkeyutl -verify -rawin -inkey hsmd:ed25519-general -in m.txt \
    -sigfile sig
check_not "... another text does not" ours pkeyutl -verify -rawin -inkey hsmd:ed25519-general \
    -in hsmd.conf -sigfile sig
head -c 16385 /dev/zero >long
check_refused "pkeyutl -sign -rawin of too much" "messages of 1 to 16384 bytes" ours pkeyutl -sign \
    -rawin -inkey hsmd:ed25519-general -in long -out sig
check_refused "pkeyutl -sign -rawin of no attributes" "hsmd rejects" ours pkeyutl -sign -rawin \
    -inkey hsmd:ed25519-signing -in m.txt -out sig

# ---- requests and certificates ----

# The books of a CA, empty.
new_database() {
    rm -rf certs && mkdir certs && : >index.txt && echo 01 >serial
    printf '%s\n' '[ca]' 'default_ca = d' '[d]' 'database = index.txt' 'serial = serial' \
        'new_certs_dir = certs' 'default_md = sha256' 'policy = p' 'default_days = 2' '[p]' \
        'commonName = supplied' >ca.cnf
}
own_ca() { # KEY
    ours req -x509 -new -key "hsmd:$1" -subj "/CN=ca" -days 2 -out own.pem \
        -addext basicConstraints=critical,CA:TRUE
}
for key in general ec-general ed25519-general; do
    check "req -new $key" ours req -new -key "hsmd:$key" -subj "/CN=$key" -out r.csr
    check_says "... verifies" "verify OK" plain req -in r.csr -verify -noout
    check "req -x509 $key" own_ca "$key"
    check "... verifies" plain verify -check_ss_sig -CAfile own.pem own.pem
    check "x509 -req -CAkey $key" ours x509 -req -in r.csr -CA own.pem -CAkey "hsmd:$key" -days 2 \
        -out leaf.pem
    check "... verifies" plain verify -CAfile own.pem leaf.pem
    check_refused "x509 -req -CAkey of a key for S/MIME" "CMS SignedAttributes only" ours x509 -req \
        -in r.csr -CA signing.pem -CAkey hsmd:signing -out no.pem
    new_database
    check "ca with $key" ours ca -config ca.cnf -batch -notext -cert own.pem -keyfile "hsmd:$key" \
        -in r.csr -out leaf.pem
    check "... verifies" plain verify -CAfile own.pem leaf.pem
    check "ca -gencrl" ours ca -config ca.cnf -gencrl -crldays 2 -cert own.pem -keyfile "hsmd:$key" \
        -out ca.crl
    check_says "... verifies" "verify OK" plain crl -in ca.crl -CAfile own.pem -noout
    check "ocsp responder with $key" ours ocsp -index index.txt -CA own.pem -rsigner own.pem \
        -rkey "hsmd:$key" -issuer own.pem -cert leaf.pem -VAfile own.pem -no_nonce \
        -respout ocsp.der
    check_says "... verifies" "leaf.pem: good" plain ocsp -issuer own.pem -cert leaf.pem \
        -CAfile own.pem -VAfile own.pem -no_nonce -respin ocsp.der
done
check "req with PSS" ours req -new -key hsmd:general -subj /CN=x -sigopt rsa_padding_mode:pss \
    -sigopt rsa_pss_saltlen:digest -out r.csr
check_says "... verifies" "verify OK" plain req -in r.csr -verify -noout

# ---- TLS ----

tls "TLS 1.3, RSA-PSS" general "Peer signature type: RSA-PSS" -tls1_3
tls "TLS 1.3, ECDSA" ec-general "Peer signature type: ECDSA" -tls1_3
tls "TLS 1.3, ECDSA P-384" ec384-general "Peer signing digest: SHA384" -tls1_3 -sigalgs ECDSA+SHA384
tls "TLS 1.2, ECDSA P-384" ec384-general "Server public key is 384 bit" -tls1_2 -sigalgs ECDSA+SHA384
tls "TLS 1.3, Ed25519" ed25519-general "Peer signature type: ed25519" -tls1_3
tls "TLS 1.2, Ed25519" ed25519-general "Peer signature type: ed25519" -tls1_2
tls "TLS 1.2, RSA-PSS" general "Peer signature type: RSA-PSS" -tls1_2
tls "TLS 1.2, PKCS #1 v1.5" general "Peer signature type: RSA$" -tls1_2 -sigalgs RSA+SHA256
tls "TLS 1.2, ECDSA" ec-general "Peer signature type: ECDSA" -tls1_2
tls "TLS 1.2, RSA key transport" general "Cipher is AES128-GCM-SHA256" -tls1_2 -cipher AES128-GCM-SHA256

# The other side: what the client shows is a certificate whose key is in hsmd.
tls_client() { # NAME KEY TEXT CLIENT-OPTION...: the server's page has TEXT
    check "s_client: $1" start_server general -Verify 1 -verify_return_error -CAfile ca.pem
    check "... the server knows who it is" is_known "${@:2}"
    kill "$SERVER_PID" 2>/dev/null
    wait "$SERVER_PID"
}
is_known() { # KEY TEXT CLIENT-OPTION...
    local key=$1 text=$2
    shift 2
    printf 'GET / HTTP/1.0\r\n\r\n' | OPENSSL_CONF=$WORK/ours.cnf timeout 20 openssl s_client -quiet \
        -connect "127.0.0.1:$PORT" -CAfile ca.pem -verify_return_error -cert "$key.pem" \
        -key "hsmd:$key" "$@" >client.log 2>&1
    sed -n '/^HTTP/,$p' client.log >page # it says what the client has shown
    if ! cmp <(plain x509 -in page) <(plain x509 -in "$key.pem") || ! grep -q "$text" page; then
        cat client.log server.log
        return 1
    fi
}
tls_client "TLS 1.3, RSA-PSS" general "Peer signature type: RSA-PSS" -tls1_3
tls_client "TLS 1.3, ECDSA" ec-general "Peer signature type: ECDSA" -tls1_3
tls_client "TLS 1.3, ECDSA P-384" ec384-general "Peer signing digest: SHA384" -tls1_3
tls_client "TLS 1.3, Ed25519" ed25519-general "Peer signature type: ed25519" -tls1_3
tls_client "TLS 1.2, RSA-PSS" general "Peer signature type: RSA-PSS" -tls1_2
tls_client "TLS 1.2, PKCS #1 v1.5" general "Peer signature type: RSA$" -tls1_2 -sigalgs RSA+SHA256
tls_client "TLS 1.2, ECDSA" ec-general "Peer signature type: ECDSA" -tls1_2

# ---- the examples of provider-hsmd(7), as they stand there ----

plain cms -encrypt -in m.txt -aes256 -out e.eml decryption.pem || give_up "cannot encrypt"
examples() { # a command a line
    sed -n '/^\.Sh EXAMPLES/,/^A TLS server/p' "$ROOT/providers/provider-hsmd.7" |
        sed -e ':more' -e '/\\e$/{N; s/ *\\e\n */ /; b more' -e '}' | sed -n 's/^\(\.Dl \)\?\$ openssl //p'
}
# The page's keys are called otherwise.
own_ca general && new_database && cp file.pub peer.pub || give_up "no CA"
by_our_names() {
    sed -e 's/hsmd:web-ec/hsmd:ec-general/; s/hsmd:web/hsmd:general/; s/hsmd:ca/hsmd:general/' \
        -e 's/ca\.pem/own.pem/g; s/-port 2560/-port 0 -nrequest 1/'
}
# What stays there and answers one request by HTTP.
answers_ocsp() { # OPTION...
    : >ocsp.log # now: the one before has a port in it, too
    (OPENSSL_CONF=$WORK/ours.cnf exec timeout 30 openssl "$@" >ocsp.log 2>&1) &
    SERVER_PID=$!
    wait_for 10 grep -q '^ACCEPT' ocsp.log || return 1
    plain ocsp -issuer own.pem -cert web.pem -CAfile own.pem -VAfile own.pem \
        -url "http://127.0.0.1:$(sed -n 's/^ACCEPT.*:\([0-9]*\) .*/\1/p' ocsp.log)"
    local status=$?
    wait "$SERVER_PID"
    cat ocsp.log
    return $status
}
COUNT=0
while read -r line; do
    COUNT=$((COUNT + 1))
    line=$(by_our_names <<<"$line")
    # shellcheck disable=SC2086
    case $line in
    *" -port "*) check_says "provider-hsmd(7): openssl $line" "web.pem: good" answers_ocsp $line ;;
    *) check "provider-hsmd(7): openssl $line" ours $line ;;
    esac
done < <(examples)
check "... which are eleven" test "$COUNT" -eq 11
check "... the certificate" plain verify -CAfile own.pem web.pem
check_says "... the revocation list" "verify OK" plain crl -in ca.crl -CAfile own.pem -noout
check "... the other side's key" plain pkeyutl -derive -inkey file.key -peerkey ec-general.pub \
    "${kdf[@]}" -out want
check "... is the same" cmp shared.key want
check "ca -revoke" ours ca -config ca.cnf -cert own.pem -keyfile hsmd:general -revoke web.pem
check_says "ocsp answers that it is revoked" "web.pem: revoked" answers_ocsp ocsp -index index.txt \
    -CA own.pem -rsigner own.pem -rkey hsmd:general -port 0 -nrequest 1
