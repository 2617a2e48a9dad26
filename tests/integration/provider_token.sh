#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The openssl command with keys in a token of any maker: to be run by tests/token/with-token. What
# came out is compared with the second table of tests/token/TOKENS.md; the keys that the token cannot
# have are known from its module (any_hsmd_test.c).
softhsm2_conf=${SOFTHSM2_CONF:-}
# shellcheck source=tests/integration/provider_env.sh
. "$(dirname "$0")/provider_env.sh"
[[ -z $softhsm2_conf ]] || export SOFTHSM2_CONF=$softhsm2_conf

migrate() {
    "$BUILD/bin/hsmd" migrate -c "$WORK/hsmd.conf" >"$WORK/migrate.log" 2>&1 ||
        give_up "hsmd migrate: $(cat "$WORK/migrate.log")"
}

make_parts() {
    mkdir -m 700 "$WORK/state"
    "$BUILD/tests/test_token_any_hsmd" prepare "$WORK" >"$WORK/prepare.log" 2>&1 ||
        give_up "no keys: $(tail -n 5 "$WORK/prepare.log")"
    KEYS=()
    local file
    for file in "$WORK"/*.pub; do
        KEYS+=("- $(basename "$file" .pub)")
    done
    make_certificates
    "$BUILD/bin/hsmd" keygen "$WORK/server" || give_up "no server key"
    "$BUILD/bin/hsmd" keygen "$WORK/gw" || give_up "no client key"
    migrate
    provider_conf "ipc://$WORK/sock" "$WORK/server.pub" "$WORK/gw" |
        cat - "$WORK/plain.cnf" >"$WORK/ours.cnf"
}
make_environment

row() { # OPERATION KEY FUNCTION ARGUMENT...: one of the sheet
    local operation=$1 key=$2 failed=$FAILED
    if [[ -s $key.cannot ]]; then
        echo "ok: $operation: token cannot: $(cat "$key.cannot")"
        echo "$operation|token cannot: $(cat "$key.cannot")" >>sheet
        return
    fi
    echo "$operation:"
    "${@:3}"
    [[ $FAILED -ne $failed ]] || echo "$operation|tested" >>sheet
}
signs() { # KEY OPTION...
    local key=$1
    shift
    rm -f s.eml v.txt
    check "... signs" ours cms -sign -in m.txt -signer "$key.pem" -inkey "hsmd:$key" -out s.eml "$@"
    check "... verifies" plain cms -verify -in s.eml -CAfile ca.pem -out v.txt
    check "... is the text" cmp v.txt m.txt
}
decrypts() { # KEY OPTION...: of the recipient
    local key=$1
    shift
    rm -f e.eml d.txt
    check "... is encrypted" plain cms -encrypt -aes-256-cbc -in m.txt -out e.eml -recip "$key.pem" "$@"
    check "... decrypts" ours cms -decrypt -in e.eml -recip "$key.pem" -inkey "hsmd:$key" -out d.txt
    check "... to the text" cmp d.txt m.txt
}
signs_message() { # KEY
    check "... signs" ours pkeyutl -sign -rawin -inkey "hsmd:$1" -in m.txt -out sig
    check "... verifies" plain pkeyutl -verify -rawin -pubin -inkey "$1.pub" -in m.txt -sigfile sig
}

row "cms -sign, PKCS#1 v1.5" signing signs signing
row "cms -sign, PSS" signing signs signing -keyopt rsa_padding_mode:pss
row "cms -sign, ECDSA P-256" ec-signing signs ec-signing
row "cms -decrypt, PKCS#1 v1.5" decryption decrypts decryption
row "cms -decrypt, OAEP SHA-256, label" decryption decrypts decryption -keyopt rsa_padding_mode:oaep \
    -keyopt rsa_oaep_md:sha256 -keyopt rsa_oaep_label:6c6162656c
row "cms -decrypt, ECDH P-256" agreement decrypts agreement
row "pkeyutl -sign, Ed25519" edwards signs_message edwards
row "s_server, TLS 1.3, RSA-PSS" general tls handshake general "Peer signature type: RSA-PSS" -tls1_3
row "s_server, TLS 1.2, RSA key transport" general tls handshake general \
    "Cipher is AES128-GCM-SHA256" -tls1_2 -cipher AES128-GCM-SHA256

# TLS with ECDSA, too: the key that signs mail serves for it in another registry, where its purpose
# lets it.
serve_as_general() { # KEY
    stop_hsmd
    mkdir -m 700 state-2
    sed -e 's/^state-directory = .*/state-directory = "state-2"/' \
        -e "/^key $1 /s/purpose = [a-z-]*/purpose = general/" hsmd.conf.before-migration >hsmd.conf
    rm hsmd.conf.before-migration
    migrate
    start_hsmd
}
[[ -s ec-signing.cannot ]] || serve_as_general ec-signing
row "s_server, TLS 1.3, ECDSA P-256" ec-signing tls handshake ec-signing \
    "Peer signature type: ECDSA" -tls1_3

column() { # of the table, for this kind of token
    awk -F' *[|] *' -v kind="$TOKEN_KIND" '
        /^\| openssl / { for (i = 3; i < NF; i++) if ($i == kind) at = i; next }
        at && !/^\|/ { exit }
        at && !/^\|-/ { print $2 "|" $at }' "$ROOT/tests/token/TOKENS.md"
}
[[ -z ${TOKEN_SHEET:-} ]] || cp sheet "$TOKEN_SHEET"
check "TOKENS.md says so (else make-table writes it anew)" diff <(column) sheet
