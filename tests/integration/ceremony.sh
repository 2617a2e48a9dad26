#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The key ceremony of hsmd-officers(7), followed word by word: at the paths of the page and by the
# users of the page, in namespaces of its own: /etc is a copy, /home, /run and /var/lib are new, and
# all processes end with it. What the host has there is not touched.
if [[ ${1:-} != inside ]]; then
    if [[ $(id -u) -ne 0 ]] || ! unshare -m -p -f true 2>/dev/null; then
        echo "SKIPPED: only root makes users and mounts"
        exit 77
    fi
    exec unshare -m -p -f --kill-child --mount-proc --propagation private "$0" inside
fi
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
page=$ROOT/hsmd/custody/hsmd-officers.7

tear_down() {
    cd / && umount -l "$modules" /var/lib /run /home /etc "$WORK/etc"
}
fresh() { # DIR: empty, in this namespace
    mount -t tmpfs -o mode=755 tmpfs "$1" || give_up "cannot mount at $1"
}

# What INSTALL does: programs, module, users. The programs are where everybody may run them, whatever
# the modes above the build are.
modules=$(openssl version -m | sed 's/.*"\(.*\)"/\1/')
mkdir "$WORK/bin" "$WORK/etc"
cp "$BUILD/bin/hsmd" "$BUILD/bin/hsmctl" "$WORK/bin" || give_up "no programs in $BUILD/bin"
fresh "$WORK/etc"
cp -a /etc/. "$WORK/etc" && mount --bind "$WORK/etc" /etc || give_up "no copy of /etc"
for dir in /home /run /var/lib "$modules"; do
    fresh "$dir"
done
cp "$BUILD/bin/hsmd.so" "$modules" || give_up "no hsmd.so"
rm -rf /etc/hsmd /etc/sealgate
for name in alice bob carol dave hsmd sealgate; do
    ! id "$name" >/dev/null 2>&1 || userdel "$name" >/dev/null 2>&1
done
useradd -r -U -d /var/lib/hsmd -s /usr/sbin/nologin hsmd &&
    useradd -r -U -G hsmd -d /var/lib/sealgate -s /usr/sbin/nologin sealgate &&
    install -d -o sealgate -g sealgate -m 700 /var/lib/sealgate || give_up "no users"

"$here/ceremony.py" "$page" "$WORK/bin" >"$WORK/ceremony.log" 2>&1
status=$?
if [[ $status -eq 0 ]]; then
    pass "the ceremony, $(tail -n 1 "$WORK/ceremony.log")"
else
    fail "the ceremony"
    tail -n 40 "$WORK/ceremony.log"
fi
[[ -z ${CEREMONY_LOG:-} ]] || cp "$WORK/ceremony.log" "$CEREMONY_LOG"
[[ $status -eq 0 ]] || exit 1

# What it left.
log=/var/lib/hsmd/audit.log
is_decrypted() { # FILE
    # The last look was at a locked token: the messages were opened before.
    [[ $(grep -c '^Guten Tag' "$WORK/ceremony.log") -ge "$1" ]]
}
check "a message was verified, three were decrypted" is_decrypted 4
check "the log has a signature of the gateway" \
    grep -q '"event":"use","client":"gateway","key":"signing-2026","operation":"sign".*"result":"ok"' "$log"
for year in 2026 2027; do
    check "... and decryption with the key of $year" grep -q \
        "\"client\":\"gateway\",\"key\":\"decryption-$year\",\"operation\":\"unwrap\".*\"result\":\"ok\"" \
        "$log"
done
check "it verifies with the key that the auditor took" \
    "$WORK/bin/hsmctl" audit verify --key /home/dave/audit.pem "$log"
for secret in 705188 28461947 practises; do
    check "$secret is one of the page's" grep -q "$secret" "$page"
done
check_not "no passphrase and no PIN is in it" grep -qE '705188|28461947|practises' "$log"
check_not "... nor in the registry" grep -qaE '705188|28461947|practises' /var/lib/hsmd/registry.db
