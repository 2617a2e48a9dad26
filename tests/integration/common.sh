# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts of this folder share. Sourced; needs SEALGATE_BUILD (ctest sets it). Makes a
# temporary directory WORK that is removed at the end, after the function tear_down if there is one.
set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${SEALGATE_BUILD:-$ROOT/build/dev}
export SEALGATE_BUILD=$BUILD
unset OPENSSL_CONF SEALGATE_CONF SOFTHSM2_CONF "${!HSMD_@}"
WORK=$(mktemp -d /tmp/sealgate-test.XXXXXX)
chmod 755 "$WORK"
PASSED=0
FAILED=0

finish() {
    trap - EXIT
    if declare -F tear_down >/dev/null; then
        tear_down >&2
    fi
    rm -rf "$WORK"
    echo "$PASSED passed, $FAILED failed"
    [[ $FAILED -eq 0 && $PASSED -gt 0 ]]
    exit $? # without it the status from before the trap: that of the last check, most often 0
}
trap finish EXIT
trap 'FAILED=$((FAILED + 1)); exit 1' INT TERM

pass() {
    PASSED=$((PASSED + 1))
    echo "ok: $1"
}
fail() {
    FAILED=$((FAILED + 1))
    echo "FAILED: $1"
}

check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@" >"$WORK/check.out" 2>&1; then
        pass "$what"
    else
        fail "$what"
        sed 's/^/    /' "$WORK/check.out" | tail -n 15
    fi
}
check_not() { # WHAT COMMAND...: it fails
    local what=$1
    shift
    if "$@" >"$WORK/check.out" 2>&1; then
        fail "$what"
        sed 's/^/    /' "$WORK/check.out" | tail -n 15
    else
        pass "$what"
    fi
}
check_status() { # WHAT STATUS COMMAND...
    local what=$1 want=$2 got=0
    shift 2
    "$@" >"$WORK/check.out" 2>&1 || got=$?
    if [[ $got -eq $want ]]; then
        pass "$what"
    else
        fail "$what: exit status $got, not $want"
        sed 's/^/    /' "$WORK/check.out" | tail -n 15
    fi
}

give_up() { # nothing can be tested without this
    fail "$*"
    exit 1
}

# Header of a message with folded lines joined, and without CR.
header_of() { # FILE
    sed -e 's/\r$//' -e '/^$/q' "$1" | sed -e ':more' -e 'N' -e '$!bmore' -e 's/\n[ \t]\+/ /g'
}
smime_result() { # FILE RESULT: is that what Authentication-Results says?
    header_of "$1" | grep -i "^Authentication-Results:.*smime=$2"
}

letter() { # FROM TO TEXT
    printf '%s\r\n' "From: $1" "To: $2" 'Subject: test' 'Date: Mon, 05 Jan 2026 10:00:00 +0000' \
        "Message-ID: <$RANDOM.$RANDOM@test.example>" 'MIME-Version: 1.0' \
        'Content-Type: text/plain; charset=us-ascii' '' "$3"
}
