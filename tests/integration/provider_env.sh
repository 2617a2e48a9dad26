# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A SoftHSM token with keys of every kind, certificates for them, a hsmd, and the openssl command with
# our provider (ours) and without (plain), which is the oracle. Sourced by provider_*.sh. With
# PROVIDER_ENV=sandbox the same keys are those of tools/sandbox, and some that its officer adds.
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/lib.sh
. "$ROOT/tools/lib.sh"

# id name type purpose usages (of pkcs11-tool)
KEYS=(
    "01 signing rsa:2048 smime-sign --usage-sign"
    "02 decryption rsa:2048 smime-decrypt --usage-decrypt"
    "03 ec-signing EC:prime256v1 smime-sign --usage-sign"
    "04 ec-decryption EC:prime256v1 smime-decrypt --usage-derive"
    "05 ec384-signing EC:secp384r1 smime-sign --usage-sign"
    "06 ec384-decryption EC:secp384r1 smime-decrypt --usage-derive"
    "07 general rsa:2048 general --usage-sign --usage-decrypt"
    "08 ec-general EC:prime256v1 general --usage-sign --usage-derive"
    "09 ed25519-general EC:edwards25519 general --usage-sign"
    "0a ed25519-signing EC:edwards25519 smime-sign --usage-sign"
    "0b ec384-general EC:secp384r1 general --usage-sign --usage-derive"
)
SOCKET=$WORK/sock
HSMD_PID=
SERVER_PID=

plain() {
    OPENSSL_CONF=$WORK/plain.cnf openssl "$@"
}
ours() {
    OPENSSL_CONF=$WORK/ours.cnf openssl "$@"
}

make_token() {
    local module id name type purpose usages
    module=$(softhsm_module) || give_up "no SoftHSM2 module"
    export SOFTHSM2_CONF=$WORK/softhsm2.conf
    mkdir "$WORK/objects"
    printf '%s\n' "directories.tokendir = $WORK/objects" 'objectstore.backend = file' \
        'log.level = ERROR' >"$SOFTHSM2_CONF"
    softhsm2-util --init-token --free --label provider-test --pin 1234 --so-pin 5678 >/dev/null ||
        give_up "no token"
    (umask 377 && echo 1234 >"$WORK/pin")
    for row in "${KEYS[@]}"; do
        read -r id name type purpose usages <<<"$row"
        # shellcheck disable=SC2086
        pkcs11-tool --module "$module" --token-label provider-test --login --pin 1234 \
            --keypairgen --key-type "$type" $usages --sensitive --label "$name" --id "$id" \
            >"$WORK/keygen.log" 2>&1 || give_up "cannot make $name: $(cat "$WORK/keygen.log")"
        GNUTLS_PIN=1234 p11tool --provider "$module" --login --export-pubkey --outfile "$WORK/$name.pub" \
            "pkcs11:token=provider-test;object=$name;type=public" >"$WORK/keygen.log" 2>&1 ||
            give_up "no public key of $name: $(cat "$WORK/keygen.log")"
    done
}

# The certificate names the CA's file key, so nothing of ours is needed to make it.
make_certificates() {
    local id name rest
    printf '[req]\ndistinguished_name = dn\n[dn]\n' >"$WORK/plain.cnf"
    plain req -x509 -newkey rsa:2048 -nodes -keyout "$WORK/ca.key" -out "$WORK/ca.pem" -days 2 \
        -subj /CN=CA -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign,cRLSign >/dev/null 2>&1 || give_up "no CA"
    for row in "${KEYS[@]}"; do
        read -r id name rest <<<"$row"
        printf '%s\n' "subjectAltName = email:$name@a.example" \
            'extendedKeyUsage = emailProtection, serverAuth, clientAuth' \
            'keyUsage = digitalSignature, keyEncipherment, keyAgreement' >"$WORK/ext"
        plain x509 -new -force_pubkey "$WORK/$name.pub" -subj "/CN=$name" -CA "$WORK/ca.pem" \
            -CAkey "$WORK/ca.key" -extfile "$WORK/ext" -days 2 -out "$WORK/$name.pem" ||
            give_up "no certificate of $name"
    done
}

write_configuration() {
    local id name type purpose rest operations
    {
        printf '%s\n' "listen = { \"ipc://$WORK/sock\" }" "server-key-file = \"$WORK/server.key\"" \
            "state-directory = \"$WORK/state\"" 'log = stderr' 'token main {' \
            "module = \"$(softhsm_module)\"" 'label = "provider-test"' "pin-file = \"$WORK/pin\"" \
            '}' "client tester { public-key-file = \"$WORK/tester.pub\" }"
        for row in "${KEYS[@]}"; do
            read -r id name type purpose rest <<<"$row"
            case $purpose-$type in
            smime-sign-*) operations=sign ;;
            smime-decrypt-rsa*) operations=unwrap ;;
            smime-decrypt-*) operations=agree ;;
            general-rsa*) operations='sign, unwrap' ;;
            general-EC:edwards*) operations=sign ;;
            general-*) operations='sign, agree' ;;
            esac
            printf '%s\n' "key $name {" 'token = main' "label = \"$name\"" "id = \"$id\"" \
                "purpose = $purpose" "certificate-file = \"$WORK/$name.pem\"" '}' \
                "grant { client = tester key = $name operations = { $operations } }"
        done
    } >"$WORK/hsmd.conf"
    "$BUILD/bin/hsmd" migrate -c "$WORK/hsmd.conf" >"$WORK/migrate.log" 2>&1 ||
        give_up "hsmd migrate: $(cat "$WORK/migrate.log")"
    provider_conf "ipc://$WORK/sock" "$WORK/server.pub" "$WORK/tester" |
        cat - "$WORK/plain.cnf" >"$WORK/ours.cnf"
}

start_hsmd() {
    local line=
    mkfifo "$WORK/ready"
    "$BUILD/bin/hsmd" -c "$WORK/hsmd.conf" --ready-fd 3 3>"$WORK/ready" 2>>"$WORK/hsmd.log" &
    HSMD_PID=$!
    read -r -t 60 line <"$WORK/ready" || true
    rm "$WORK/ready"
    [[ -n $line ]] || give_up "hsmd did not start: $(tail -n 5 "$WORK/hsmd.log")"
}
stop_hsmd() {
    if [[ -n $HSMD_PID ]]; then
        kill "$HSMD_PID" 2>/dev/null
        wait "$HSMD_PID"
    fi
    HSMD_PID=
}
tear_down() {
    stop_hsmd
    [[ $FAILED -eq 0 ]] || { echo "--- hsmd's log:" && tail -n 40 "$WORK/hsmd.log"; }
}

make_parts() {
    mkdir -m 700 "$WORK/state"
    : >"$WORK/hsmd.log"
    make_token
    make_certificates
    "$BUILD/bin/hsmd" keygen "$WORK/server" || give_up "no server key"
    "$BUILD/bin/hsmd" keygen "$WORK/tester" || give_up "no client key"
    write_configuration
}

if [[ ${PROVIDER_ENV:-} == sandbox ]]; then
    # shellcheck source=tests/integration/provider_sandbox.sh
    . "$(dirname "${BASH_SOURCE[0]}")/provider_sandbox.sh"
fi

make_environment() {
    printf '[req]\ndistinguished_name = dn\n[dn]\n' >"$WORK/plain.cnf"
    make_parts
    start_hsmd
    cd "$WORK" || give_up "no $WORK"
    printf 'Content-Type: text/plain\r\n\r\nGr\303\274\303\237e aus dem Kasten.\r\n' >m.txt
}

# ---- a TLS server ----

start_server() { # KEY OPTION...
    local key=$1
    shift
    : >server.log # now: the one before has a port in it, too
    # exec: SERVER_PID is openssl's own, and killing it leaves nothing behind
    (OPENSSL_CONF=$WORK/ours.cnf exec openssl s_server -accept 127.0.0.1:0 -naccept 1 \
        -cert "$key.pem" -key "hsmd:$key" -www "$@" >server.log 2>&1) &
    SERVER_PID=$!
    PORT=
    for _ in $(seq 100); do
        PORT=$(sed -n 's/^ACCEPT 127.0.0.1:\([0-9]*\)$/\1/p' server.log)
        [[ -z $PORT ]] || return 0
        sleep 0.1
    done
    return 1
}
handshake() { # TEXT OPTION... : the client's output has TEXT
    local text=$1
    shift
    timeout 20 openssl s_client -connect "127.0.0.1:$PORT" -CAfile ca.pem -verify_return_error \
        "$@" </dev/null >client.log 2>&1
    if ! grep -q "Verify return code: 0" client.log || ! grep -q "$text" client.log; then
        cat client.log server.log
        return 1
    fi
}
tls() { # NAME KEY TEXT CLIENT-OPTION...
    local name=$1 key=$2 text=$3
    shift 3
    check "s_server: $name" start_server "$key"
    check "... handshake" handshake "$text" "$@"
    kill "$SERVER_PID" 2>/dev/null
    wait "$SERVER_PID"
}

# ---- the page ----

# What provider-hsmd(7) shows from the line that FIRST matches to the end of that block.
shown() { # FIRST
    sed -n -e "/$1/,/^\.Ed/p" "$ROOT/providers/provider-hsmd.7" | sed -e '/^\.Ed/,$d' -e 's/^\$ //'
}
# KEY.hsmd.pem, as that page makes web.key.pem.
key_file() { # KEY
    local recipe
    recipe=$(shown '^\$ { echo ') && [[ $recipe == *hsmd:web*'>web.key.pem' ]] ||
        give_up "provider-hsmd(7) does not say how a PEM file is made"
    recipe=${recipe//web.key.pem/$1.hsmd.pem}
    OPENSSL_CONF=$WORK/plain.cnf bash -c "${recipe//hsmd:web/hsmd:$1}" || give_up "no PEM file of $1"
}

# The command works and says TEXT: some of openssl's tell a bad signature by words alone.
check_says() { # WHAT TEXT COMMAND...
    local what=$1 text=$2
    shift 2
    if "$@" >"$WORK/check.out" 2>&1 && grep -qF -- "$text" "$WORK/check.out"; then
        pass "$what"
    else
        fail "$what: it failed, or no \"$text\" in"
        sed 's/^/    /' "$WORK/check.out" | tail -n 15
    fi
}
# The command fails and says TEXT.
check_refused() { # WHAT TEXT COMMAND...
    local what=$1 text=$2
    shift 2
    if "$@" >"$WORK/check.out" 2>&1; then
        fail "$what: it worked"
    elif ! grep -qF -- "$text" "$WORK/check.out"; then
        fail "$what: no \"$text\" in"
        sed 's/^/    /' "$WORK/check.out" | tail -n 15
    else
        pass "$what"
    fi
}
