#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Private keys are in the token only, and only hsmd reaches it: no key file, no PIN where others see
# it, no PKCS#11 in the gateway, and who may link whom.
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
box=$WORK/box
tear_down() {
    "$ROOT/tools/sandbox" down "$box"
}

# Programs and libraries. What a tool says of a program is kept before it is searched: a tool that
# is missing, or cannot read the program, is no proof that there is nothing to find.
pkcs11='p11|pkcs11|softhsm|cryptoki'
cryptoki=' (U|T|t) (C_GetFunctionList|C_Initialize|PKCS11_|token_login)'
ours=' [Tt] (client_call|wire_encode)'

for name in sealgated sealgate hsmctl hsmd.so hsmd; do
    check "$name is there" test -f "$BUILD/bin/$name"
    check "readelf reads $name" sh -c 'readelf -d "$1" >"$2.needed" && grep -q "NEEDED.*libc\.so" "$2.needed"' \
        - "$BUILD/bin/$name" "$WORK/$name"
    check "ldd reads $name" sh -c 'ldd "$1" >"$2.ldd" && grep -q "libc\.so" "$2.ldd"' \
        - "$BUILD/bin/$name" "$WORK/$name"
    check "nm reads $name" sh -c '{ nm -a "$1" 2>/dev/null; nm -D "$1"; } >"$2.nm" &&
        grep -q " U .*@GLIBC" "$2.nm"' - "$BUILD/bin/$name" "$WORK/$name"
done
for name in sealgated sealgate hsmctl hsmd; do # what is not for other programs is seen, too
    check "nm -a reads $name" grep -q ' T main$' "$WORK/$name.nm"
done
for name in sealgated sealgate hsmctl hsmd.so; do
    check_not "$name itself links no PKCS#11 library" \
        grep -i -E "NEEDED.*($pkcs11)" "$WORK/$name.needed"
    check_not "$name gets none from another library" grep -i -E "$pkcs11" "$WORK/$name.ldd"
    check_not "$name has no Cryptoki in it" grep -E "$cryptoki" "$WORK/$name.nm"
done
for name in sealgated sealgate; do
    check_not "$name does not link our provider or its client" grep -E "$ours" "$WORK/$name.nm"
done
check "the tests of that can fail: hsmd links libp11" grep -i -E "NEEDED.*($pkcs11)" "$WORK/hsmd.needed"
check "... and gets it" grep -i -E "$pkcs11" "$WORK/hsmd.ldd"
check "... and has Cryptoki in it" grep -E "$cryptoki" "$WORK/hsmd.nm"
check "... and hsmd.so links our client" grep -E "$ours" "$WORK/hsmd.so.nm"
check "the provider shows one symbol only" test \
    "$(nm -D --defined-only "$BUILD/bin/hsmd.so" | awk '$2 ~ /[TDBR]/ {print $3}')" = OSSL_provider_init

# The provider lives in other people's processes: no ZeroMQ, whose threads it would bring, and no C++.
check_not "hsmd.so needs neither ZeroMQ nor C++" \
    grep -E 'NEEDED.*(libzmq|libstdc\+\+)' <(readelf -d "$BUILD/bin/hsmd.so")
check_not "... nor does it make a thread" grep -E ' U (pthread_create|thrd_create|clone)' \
    <(nm -D "$BUILD/bin/hsmd.so")
check "the test of that can fail: hsmd needs ZeroMQ" \
    grep -E 'NEEDED.*libzmq' <(readelf -d "$BUILD/bin/hsmd")
check "... and makes threads" grep -E ' U (pthread_create|thrd_create|clone)' <(nm -D "$BUILD/bin/hsmd")

# A sandbox, watched while it is made: no PIN in any list of arguments or environment
"$ROOT/tools/sandbox" up "$box" >"$WORK/up.log" 2>&1 &
maker=$!
: >"$WORK/seen"
while kill -0 "$maker" 2>/dev/null; do
    cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' >>"$WORK/seen"
    sleep 0.02
done
wait "$maker" || give_up "$(cat "$WORK/up.log")"
sort -u "$WORK/seen" >"$WORK/seen.unique"
check "the watch saw the tools" grep -q 'softhsm2-util' "$WORK/seen.unique"
for name in pin so-pin; do
    check_not "no process was given the $name" grep -qF -f "$box/hsmd/$name" "$WORK/seen.unique"
    check "$name has mode 0400" test "$(stat -c %a "$box/hsmd/$name")" = 400
done

# The officer's own key, under her passphrase, is a file, and none of those that hsmd keeps.
mv "$box/officer" "$WORK/officer"
# Nothing under the directory is a private key, whatever its form and name
check "no private key in any file of the sandbox" "$here/find_private_keys.py" "$box"
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -outform DER -out "$box/x"
check_not "the search finds one in DER" "$here/find_private_keys.py" "$box"
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$WORK/rsa.pem"
openssl rsa -in "$WORK/rsa.pem" -traditional -outform DER -out "$box/x" 2>/dev/null
check_not "... and in DER of the old kind" "$here/find_private_keys.py" "$box"
{ echo "a line before it" && cat "$WORK/rsa.pem"; } >"$box/x"
check_not "... and in PEM" "$here/find_private_keys.py" "$box"
rm "$box/x"

# The keys in the token
module=$(sed -n 's/^ *module = .\(.*\).$/\1/p' "$box/hsmd/hsmd.conf")
# answer-pins shows what was printed only of a program that failed, so this one does.
SOFTHSM2_CONF=$box/token/softhsm2.conf "$ROOT/tools/answer-pins" --user "$box/hsmd/pin" -- \
    sh -c "pkcs11-tool --module '$module' --token-label a.example --login -O --type privkey; exit 1" \
    2>"$WORK/objects"
check "six private keys" test "$(grep -c '^Private Key Object' "$WORK/objects")" -eq 6
check "all of them born there and not extractable" test 6 -eq \
    "$(grep -c 'Access: *sensitive, always sensitive, never extractable, local' "$WORK/objects")"

# Out of the provider comes no private half
check "openssl pkey gets a public key" env OPENSSL_CONF="$box/openssl.cnf" \
    openssl pkey -in hsmd:signing -pubout
check_not "... and not the private one" env OPENSSL_CONF="$box/openssl.cnf" \
    openssl pkey -in hsmd:signing -out "$WORK/key.pem"
check_not "... nor half a one" grep -q 'PRIVATE' "$WORK/key.pem"
