#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A mail server whose STARTTLS keys are in hsmd: Postfix, with the settings of provider-hsmd(7).
[[ $(id -u) -eq 0 ]] || {
    echo "SKIPPED: Postfix is started by root only"
    exit 77
}
# shellcheck source=tests/integration/provider_env.sh
. "$(dirname "$0")/provider_env.sh"
# shellcheck source=tools/demo-postfix.sh
. "$ROOT/tools/demo-postfix.sh"
postfix=$WORK/postfix
tear_down() {
    stop_postfix "$postfix"
    stop_hsmd
    [[ $FAILED -eq 0 ]] || tail -n 40 "$WORK/hsmd.log" "$postfix/maillog"
}
make_environment
# smtpd is the user postfix once it has read its files, and is let in by its group.
let_in() {
    chgrp postfix "$SOCKET" && chmod 660 "$SOCKET" && chmod o+x "${SOCKET%/*}"
}
let_in

free_ports() { # N
    python3 -c 'import socket, sys
taken = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in taken: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in taken))' "$1"
}
read -r port inbound reinject milter < <(free_ports 4)
make_postfix "$postfix" a.example bob "$port" "$inbound" "$reinject" "$milter" '{ b.example = error: }'
etc=$postfix/etc
key_file general
key_file ec-general
cp general.pem "$etc/mx.pem"
cp general.hsmd.pem "$etc/mx.key.pem"
cp ec-general.pem "$etc/mx-ec.pem"
cp ec-general.hsmd.pem "$etc/mx-ec.key.pem"
cp ours.cnf "$etc/openssl.cnf"
sed -i '/^smtpd_tls_security_level/d' "$etc/main.cf"
shown '^smtpd_tls_security_level' | sed "s|/etc/postfix|$etc|" >>"$etc/main.cf"
grep -q "^smtpd_tls_key_file = $etc" "$etc/main.cf" || give_up "provider-hsmd(7) has no settings"
postconf -c "$etc" -e smtpd_milters= non_smtpd_milters= smtpd_tls_loglevel=1
postconf -c "$etc" -P "127.0.0.1:$port/inet/smtpd_milters="
postconf -c "$etc" -M 'tlsmgr/unix=tlsmgr unix - - n 1000? 1 tlsmgr'
start_postfix "$postfix" || give_up "no Postfix"

# s_client has ended the greeting by itself; what is typed before its handshake is over would be lost.
talk() {
    sleep 1
    printf 'NOOP\r\n'
    sleep 0.5
    printf 'QUIT\r\n'
}
handshake() { # TEXT OPTION...: the client's output has TEXT, and Postfix answers behind it
    local text=$1
    shift
    talk | OPENSSL_CONF=$WORK/plain.cnf timeout 30 openssl s_client -starttls smtp \
        -connect "127.0.0.1:$port" -CAfile ca.pem -verify_return_error -ign_eof "$@" >client.log 2>&1
    if ! grep -q 'Verify return code: 0' client.log || ! grep -q "$text" client.log ||
        ! grep -q '^221 2.0.0 Bye' client.log; then
        cat client.log
        grep smtpd "$postfix/maillog"
        return 1
    fi
}
both=ECDSA+SHA256:RSA+SHA256
check "TLS 1.3, RSA" handshake 'Peer signature type: RSA-PSS' -tls1_3 \
    -sigalgs rsa_pss_rsae_sha256:RSA+SHA256
check "TLS 1.3, ECDSA" handshake 'Peer signature type: ECDSA' -tls1_3 -sigalgs $both
check "TLS 1.2, RSA" handshake 'Peer signature type: RSA' -tls1_2 -cipher aRSA
check "TLS 1.2, ECDSA" handshake 'Peer signature type: ECDSA' -tls1_2 -cipher aECDSA
stop_hsmd
start_hsmd
let_in
check "after hsmd was started anew" handshake 'Peer signature type: ECDSA' -tls1_3 -sigalgs $both
check "... all by one process" \
    test "$(grep -o 'smtpd\[[0-9]*\]: Anonymous TLS' "$postfix/maillog" | sort -u | wc -l)" -eq 1
stop_hsmd
start_hsmd
chmod 600 "$SOCKET"
check_not "it is root no more: out of the group, no handshake" handshake 'Peer signature type: ECDSA' -tls1_3
stop_hsmd
start_hsmd
let_in

# What the page says cannot be.
cat general.hsmd.pem general.pem >"$etc/chain.pem"
postconf -c "$etc" -e "smtpd_tls_chain_files=$etc/chain.pem"
postfix -c "$etc" reload >>"$postfix/start.log" 2>&1
check_not "smtpd_tls_chain_files: no TLS" handshake 'Peer signature type' -tls1_3
said=$(sed -n 's/^\.Dq \(ignoring PEM type: .*\) \.$/\1/p' "$ROOT/providers/provider-hsmd.7")
check "... as the page says" grep -qF "${said:-no such line in the page}" "$postfix/maillog"
