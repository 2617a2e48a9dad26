# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What tools/build, test, sandbox, demo and the test scripts share. Sourced; sets ROOT and BUILD.

ROOT=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
# The build whose programs are used; the tests point it at their own.
BUILD=${SEALGATE_BUILD:-$ROOT/build/dev}

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Files made as root through sudo belong to who called it, or that person's next build fails.
give_back() { # PATH...
    if [[ -n ${SUDO_UID:-} && $(id -u) -eq 0 ]]; then
        chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$@"
    fi
}

# Waits up to SECONDS for a command to succeed.
wait_for() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [[ $SECONDS -lt $until ]] || return 1
        sleep 0.1
    done
}

# Is the process of that pid file there, is it that program, and has it not ended already? By its name,
# since hsmd lets nobody, not even its own user, look at more.
is_running() { # PIDFILE PROGRAM
    local pid name state
    pid=$(cat "$1" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 1
    name=$(cat "/proc/$pid/comm" 2>/dev/null) || return 1
    state=$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null)
    [[ $name == "$2" && $state != Z ]]
}

# Ends it: asks, waits, insists.
stop_process() { # PIDFILE PROGRAM
    if is_running "$1" "$2"; then
        local pid
        pid=$(cat "$1")
        kill "$pid" 2>/dev/null || true
        if ! wait_for 10 not_running "$1" "$2"; then
            kill -9 "$pid" 2>/dev/null || true
            wait_for 5 not_running "$1" "$2" || die "$2 (process $pid) does not end"
        fi
    fi
    rm -f "$1"
}
not_running() {
    ! is_running "$@"
}

# Starts a daemon that stays in the foreground by itself, detached, and notes its process id.
start_process() { # PIDFILE LOG COMMAND...
    local pidfile=$1 log=$2
    shift 2
    setsid "$@" </dev/null >>"$log" 2>&1 &
    echo $! >"$pidfile"
}

listens() { # PORT of 127.0.0.1
    (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

softhsm_module() { # prints its path
    local path
    for path in "${TEST_SOFTHSM:-}" /usr/lib/softhsm/libsofthsm2.so \
        /usr/lib/*/softhsm/libsofthsm2.so; do
        if [[ -f $path ]]; then
            echo "$path"
            return
        fi
    done
    die "no SoftHSM2 module found"
}

# Prints a configuration of OpenSSL with our provider. CLIENT: its key files without .key and .pub.
provider_conf() { # ENDPOINT SERVER.pub CLIENT
    cat <<-END
	openssl_conf = openssl_init
	[openssl_init]
	providers = providers
	[providers]
	default = default_provider
	hsmd = hsmd_provider
	[default_provider]
	activate = 1
	[hsmd_provider]
	module = $BUILD/bin/hsmd.so
	activate = 1
	endpoints = $1
	server-key-file = $2
	public-key-file = $3.pub
	secret-key-file = $3.key
	END
}
