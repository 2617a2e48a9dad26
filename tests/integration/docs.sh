#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The manual pages are there and clean; README and INSTALL name what is there.
. "$(dirname "$0")/common.sh"
cd "$ROOT" || give_up "no $ROOT"

for page in hsmd/hsmd.8 hsmd/hsmd.conf.5 hsmd/audit/hsmd-audit.5 tools/hsmctl.1 tools/hsmctl-bench.1 hsmd/wire/hsmd-protocol.7 hsmd/custody/hsmd-officers.7 providers/provider-hsmd.7 \
    gateway/sealgated.8 gateway/sealgate.conf.5 tools/sealgate.1; do
    check "$page is there" test -s "$page"
    check "$page is clean" mandoc -T lint -W warning "$page"
    check "$page has a name for whatis" grep -q '^\.Nd' "$page"
    check "README names $page" grep -qF "$(basename "${page%.*}")(${page##*.})" README.md
done
while read -r path; do
    check "README's $path is there" test -e "$path"
done < <(grep -o '](\([A-Za-z][A-Za-z0-9_./-]*\))' README.md | tr -d '()]' | sort -u)
check "INSTALL points to the list of packages" grep -q 'tools/packages.txt' INSTALL
check "INSTALL says what a dead milter means" grep -q 'milter_default_action = tempfail' INSTALL
# hsmd itself sees to its own memory; the unit to what libraries have of it.
for setting in MemorySwapMax=0 LimitCORE=0 LimitMEMLOCK=infinity LimitNOFILE=4096; do
    check "hsmd's unit has $setting" grep -qx "$setting" tools/systemd/hsmd.service.in
done
for script in tools/test tools/demo tools/sandbox tools/build tools/install-packages tools/bench; do
    check "README or INSTALL names $script" grep -qF "$script" README.md INSTALL
done
# shellcheck disable=SC2016
check "every package in the list is Debian's" bash -c '
    for package in $(tools/install-packages --list build run demo test); do
        dpkg-query -W "$package" >/dev/null || exit 1
    done'
