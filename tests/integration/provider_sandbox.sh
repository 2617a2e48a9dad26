# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# In place of provider_env.sh's own token, hsmd and CA: those of tools/sandbox, whose four keys are
# used as it made them; its officer adds the others of KEYS. Sourced by provider_env.sh.
BOX=$WORK/box
SOCKET=$BOX/hsmd/data.sock

officer() { # LINE...: commands of hsmctl, one batch
    printf '%s\n' "$@" | "$BUILD/bin/hsmctl" -c "$BOX/officer/hsmctl.conf" batch - --yes \
        --passphrase-fd 3 3<"$BOX/officer/passphrase" >"$WORK/officer.log" 2>&1 ||
        give_up "the officer: $(tail -n 5 "$WORK/officer.log")"
}

type_for_hsmctl() { # TYPE, of pkcs11-tool
    case $1 in
    EC:prime256v1) echo ec:p256 ;;
    EC:secp384r1) echo ec:p384 ;;
    EC:edwards25519) echo ed25519 ;;
    *) echo "$1" ;;
    esac
}

is_of_sandbox() { # NAME
    case $1 in
    signing | decryption | ec-signing | ec-decryption) ;;
    *) return 1 ;;
    esac
}

certificate_extensions() { # NAME PURPOSE
    local purpose=$2
    echo "subjectAltName = email:$1@a.example"
    case $purpose in
    smime-sign) printf '%s\n' 'extendedKeyUsage = emailProtection' \
        'keyUsage = critical, digitalSignature, nonRepudiation' ;;
    smime-decrypt) printf '%s\n' 'extendedKeyUsage = emailProtection' \
        'keyUsage = critical, keyAgreement' ;;
    *) printf '%s\n' 'extendedKeyUsage = emailProtection, serverAuth, clientAuth' \
        'keyUsage = digitalSignature, keyEncipherment, keyAgreement' ;;
    esac
}

make_parts() {
    local id name type purpose rest operations acts=() certificates=()
    "$ROOT/tools/sandbox" up "$BOX" --no-peer >"$WORK/sandbox.log" 2>&1 ||
        give_up "no sandbox: $(tail -n 5 "$WORK/sandbox.log")"
    ln -s "$BOX/hsmd/hsmd.log" "$WORK/hsmd.log"
    for row in "${KEYS[@]}"; do
        read -r id name type purpose rest <<<"$row"
        if ! is_of_sandbox "$name"; then
            case $purpose-$type in
            smime-sign-* | general-EC:edwards*) operations=sign ;;
            general-rsa*) operations=sign,unwrap ;;
            general-*) operations=sign,agree ;;
            *) operations=agree ;;
            esac
            acts+=("key generate $name --type $(type_for_hsmctl "$type") --purpose $purpose"
                "grant gateway $name $operations")
        fi
        acts+=("key show $name --public --out $WORK/$name.pub")
    done
    officer "${acts[@]}"
    for row in "${KEYS[@]}"; do
        read -r id name type purpose rest <<<"$row"
        if ! is_of_sandbox "$name"; then
            "$ROOT/tools/sandbox" issue "$BOX" "$name" "$WORK/$name.pub" "/CN=$name.a.example" \
                "$(certificate_extensions "$name" "$purpose")" || give_up "no certificate of $name"
            certificates+=("key certificate $name $BOX/certs/$name.pem" "key enable $name")
        fi
        cp "$BOX/certs/$name.pem" "$WORK/$name.pem"
    done
    officer "${certificates[@]}"
    cp "$BOX/certs/ca.pem" "$WORK/ca.pem"
    cp "$BOX/openssl.cnf" "$WORK/ours.cnf"
    cp "$BOX/hsmd/hsmd.conf" "$WORK/hsmd.conf"
    # The CA's own is in the token; this one is for those who sign with a key from a file.
    plain genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$WORK/ca.key" 2>/dev/null
}

start_hsmd() {
    chmod 700 "${SOCKET%/*}" # hsmd's own: it does not start where others may enter, who were let in
    "$ROOT/tools/sandbox" up "$BOX" >"$WORK/sandbox.log" 2>&1 ||
        give_up "hsmd did not start: $(tail -n 5 "$WORK/sandbox.log")"
}
stop_hsmd() {
    "$ROOT/tools/sandbox" down "$BOX" --keep >"$WORK/sandbox.log" 2>&1
}
