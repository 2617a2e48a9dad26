#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The shared test inputs, where they are (TEST_CORPUS): others' messages through sealgate process,
# with the keys imported into a token; tampered ones are refused; mail that is not mail does no harm.
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
corpus=${TEST_CORPUS:-$ROOT/../shared/corpus}
if [[ ! -d $corpus/generated ]]; then
    echo "SKIPPED: no test inputs in $corpus; set TEST_CORPUS to test with them"
    rm -rf "$WORK"
    trap - EXIT
    exit 77
fi
corpus=$(cd "$corpus" && pwd)
generated=$corpus/generated
box=$WORK/box
tear_down() {
    "$ROOT/tools/sandbox" down "$box"
}

"$ROOT/tools/sandbox" up "$box" --no-peer >"$WORK/up.log" 2>&1 || give_up "$(cat "$WORK/up.log")"

module=$(sed -n 's/^ *module = .\(.*\).$/\1/p' "$box/hsmd/hsmd.conf")

# The keys of the corpus go into the token of the sandbox, its CA becomes the trust anchor.
import_object() { # TYPE FILE OPTION...
    SOFTHSM2_CONF=$box/token/softhsm2.conf "$ROOT/tools/answer-pins" --user "$box/hsmd/pin" -- \
        pkcs11-tool --module "$module" --token-label a.example --login \
        --write-object "$2" --type "$1" --label "corpus-$name" --id "$id" "${@:3}" ||
        give_up "importing $name"
}
import_keys() {
    local name usage id=20 conf=$box/gateway/sealgate.conf
    "$ROOT/tools/sandbox" down "$box" --keep
    for name in rsa rsa2 ec ec384; do
        id=$((id + 1))
        openssl pkey -in "$generated/pki/$name.key" -outform DER -out "$WORK/key.der"
        openssl pkey -in "$generated/pki/$name.key" -pubout -outform DER -out "$WORK/pub.der"
        usage=--usage-decrypt
        [[ $name != ec* ]] || usage=--usage-derive # which softhsm2-util --import does not set
        import_object privkey "$WORK/key.der" "$usage" --sensitive
        import_object pubkey "$WORK/pub.der" "$usage"
        rm -f "$WORK/key.der"
        "$ROOT/tools/sandbox" key "$box" "$id" "corpus-$name" smime-decrypt 'unwrap, agree' ||
            give_up "no key corpus-$name"
        cat >>"$conf" <<END
identity corpus-$name { key = "hsmd:corpus-$name"  certificate-file = "$generated/pki/$name.crt"  use = decrypt }
END
    done
    sed -i -e "s|^trust-anchors = .*|trust-anchors = \"$generated/pki/ca.crt\"|" "$conf"
    "$ROOT/tools/sandbox" up "$box" >"$WORK/up.log" 2>&1 || give_up "$(cat "$WORK/up.log")"
}

process() { # DIRECTION FILE
    local arguments=(--inbound --from sender@interop.example --rcpt bob@a.example)
    if [[ $1 == outbound ]]; then
        arguments=(--outbound --from bob@a.example --rcpt bob@c.example --profile sign)
    fi
    (
        # shellcheck disable=SC1091
        . "$box/env"
        exec timeout 60 sealgate process "${arguments[@]}" <"$2" >"$WORK/out.eml" 2>"$WORK/log"
    )
}

# The message as sealgate would get it: as it is, or a MIME message made of the object.
message_of() { # FILE WHO
    local from=$2@interop.example
    case $1 in
    *.eml) sed "s/^From: .*/From: $from/" "$1" ;;
    *.p7s) "$here/parts.py" in "$1" "$from" "${1%.p7s}.content" ;;
    *) "$here/parts.py" in "$1" "$from" ;;
    esac >"$WORK/in.eml"
}

reads_hello() { # content is always entity.txt; quoted-printable or base64 it may have become
    python3 - "$WORK/out.eml" <<'END'
import email, sys
message = email.message_from_file(open(sys.argv[1], encoding="utf-8", errors="surrogateescape"))
texts = [p.get_payload(decode=True) for p in message.walk() if not p.is_multipart()]
sys.exit(not any(b"Hello interop" in text for text in texts))
END
}

opens() { # FILE: decrypts
    local got=0
    message_of "$1" rsa
    process inbound "$WORK/in.eml" || got=$?
    if [[ $got -eq 0 ]] && reads_hello; then
        pass "opens ${1#"$generated/"}"
    else
        fail "opens ${1#"$generated/"}: status $got, $(tail -n 1 "$WORK/log")"
    fi
}
verifies() { # FILE WHO RESULT
    local got=0
    message_of "$1" "$2"
    process inbound "$WORK/in.eml" || got=$?
    if [[ $got -eq 0 ]] && reads_hello && smime_result "$WORK/out.eml" "$3" >/dev/null; then
        pass "${1#"$generated/"}: smime=$3"
    else
        fail "${1#"$generated/"}: status $got, $(header_of "$WORK/out.eml" | grep -i '^authentication-results')"
    fi
}
refuses() { # FILE: delivered as it came, with a bad result, and nothing of it decrypted
    local got=0
    message_of "$1" rsa
    process inbound "$WORK/in.eml" || got=$?
    if [[ $got -eq 0 ]] && ! reads_hello && grep -q -i 'pkcs7-mime' "$WORK/out.eml" &&
        ! smime_result "$WORK/out.eml" pass; then
        pass "refuses ${1#"$generated/"}: $(header_of "$WORK/out.eml" | grep -i -o 'smime=.*' | cut -c1-80)"
    else
        fail "refuses ${1#"$generated/"}: status $got"
    fi
}

import_keys

for file in "$generated"/ossl/{env,auth}-*.{p7m,eml} "$generated"/bcmsg/{env,auth}-*.p7m \
    "$generated"/neg/gcm-tag12.p7m; do
    case $file in
    *-ccm-*) refuses "$file" ;;   # OpenSSL 3.0's CMS layer has no CCM
    *env-3des-*) refuses "$file" ;; # not allowed unless asked for; again below
    *) opens "$file" ;;
    esac
done
# env-multi once more, with the EC key alone, and with the second RSA key alone
for name in ec rsa2; do
    cp "$box/gateway/sealgate.conf" "$WORK/sealgate.conf"
    sed -i -e '/^identity corpus-/{/corpus-'$name' /!d}' "$box/gateway/sealgate.conf"
    opens "$generated/ossl/env-multi.p7m"
    cp "$WORK/sealgate.conf" "$box/gateway/sealgate.conf"
done
sed -i -e 's/^inbound {/inbound { legacy-ciphers = true /' "$box/gateway/sealgate.conf"
opens "$generated/ossl/env-3des-rsa15.eml"
opens "$generated/ossl/env-3des-rsa15.p7m"
sed -i -e 's/legacy-ciphers = true//' "$box/gateway/sealgate.conf"

for file in "$generated"/ossl/{sign,triple}*.{p7m,p7s,eml} "$generated"/bcmsg/sign-*.p7?; do
    [[ -e $file ]] || continue
    case $file in
    *ed25519*) verifies "$file" ed25519 neutral ;; # nor Ed25519 signatures; says so
    *psskey*) verifies "$file" psskey pass ;;
    *ecdsa*) verifies "$file" ec pass ;;
    *triple.p7s) ;; # its content is enveloped, and is in triple.eml
    *) verifies "$file" rsa pass ;;
    esac
done
verifies "$generated/ossl/sign-detached-rsa.p7s" mallory policy # signed by somebody else than From

for file in "$generated"/neg/gcm-{badtag,badct,tag1,tag4}.p7m; do
    refuses "$file"
done
# cbc-flip decrypts to garbage without an error; whatever becomes of it, it is not the text
message_of "$generated/neg/cbc-flip.p7m" rsa
check_status "cbc-flip is delivered" 0 process inbound "$WORK/in.eml"
check_not "... never with a good result" smime_result "$WORK/out.eml" pass

# Malformed CMS of OpenSSL's tests, and everybody's malformed mail, both ways: an answer, no crash.
no_harm() { # DIRECTION FILE
    local got=0
    process "$1" "$2" || got=$?
    case $1:$got in
    inbound:0 | outbound:0 | outbound:10 | outbound:75) return 0 ;;
    esac
    echo "$1 $2: status $got: $(tail -n 1 "$WORK/log")"
    return 1
}
all_harmless() { # FILE...
    local file bad=0
    for file in "$@"; do
        no_harm inbound "$file" || bad=1
        no_harm outbound "$file" || bad=1
    done
    return $bad
}
malformed=()
while read -r file; do
    copy=$WORK/malformed.${file##*/}.eml
    if [[ $(head -c 1 "$file" | od -An -tx1) == *30* ]]; then
        "$here/parts.py" in "$file" a@interop.example >"$copy"
    else
        cp "$file" "$copy"
    fi
    malformed+=("$copy")
done < <(find "$corpus/openssl/80-test_cms_data" "$corpus/openssl/smime-eml" -type f | sort)
check "malformed CMS does no harm (${#malformed[@]} files)" all_harmless "${malformed[@]}"
mapfile -t nasty < <(find "$corpus/nasty-mime" -type f ! -name '*.json' | sort)
check "malformed mail does no harm (${#nasty[@]} files)" all_harmless "${nasty[@]}"
