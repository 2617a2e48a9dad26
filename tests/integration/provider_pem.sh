#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A PEM file with the name of a key in hsmd instead of the key, in the commands of openssl and in a
# web server: nginx, as provider-hsmd(7) says.
# shellcheck source=tests/integration/provider_env.sh
. "$(dirname "$0")/provider_env.sh"
make_environment
NGINX_PID=

for key in general ec-general ed25519-general signing nobody; do
    key_file "$key"
done

# ---- openssl ----

for key in general ec-general ed25519-general signing; do
    check "pkey -in $key.hsmd.pem" ours pkey -in "$key.hsmd.pem" -pubout -out got.pub
    check "... is the token's" cmp got.pub "$key.pub"
    check_not "the private half of $key does not leave" ours pkey -in "$key.hsmd.pem" -out no.pem
    check "certificate and key in one file" sh -c "cat $key.pem $key.hsmd.pem >$key.both.pem"
    check "... the key is found" ours pkey -in "$key.both.pem" -pubout -out got.pub
    check "... is the token's" cmp got.pub "$key.pub"
    check "... and the certificate" ours x509 -in "$key.both.pem" -out got.pem
    check "... is its own" cmp <(plain x509 -in "$key.pem") got.pem
done
check "dgst -sign" ours dgst -sha256 -sign general.hsmd.pem -out sig m.txt
check "... verifies" plain dgst -verify general.pub -signature sig -sha256 m.txt
check_not "a key that there is not" ours pkey -in nobody.hsmd.pem -noout
check_not "without the provider" plain pkey -in general.hsmd.pem -noout
printf '%s\n' '-----BEGIN HSMD PROVIDER URI-----' 'DAhoc21kOi4uLw==' '-----END HSMD PROVIDER URI-----' >bad.pem
check_not "a URI that is none" ours pkey -in bad.pem -noout
head -n 2 general.hsmd.pem >cut.pem
check_not "a file that breaks off" ours pkey -in cut.pem -noout
check "keys from files are read as ever" ours pkey -in ca.key -noout

# ---- nginx ----

NGINX=$(PATH=$PATH:/usr/sbin command -v nginx) || give_up "no nginx"
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
# With the configuration of the page; without ECDSA, if web.pem is the only one.
etc=$WORK/etc
mkdir "$etc"
cp ours.cnf "$etc/openssl.cnf"
serves() { # NAME KEY
    cp "$2.pem" "$etc/$1.pem"
    cp "$2.hsmd.pem" "$etc/$1.key.pem"
}
start_nginx() {
    local page
    page=$(shown '^env OPENSSL_CONF') && [[ $page == *ssl_certificate_key* ]] ||
        give_up "provider-hsmd(7) has no configuration of nginx"
    [[ -f $etc/web-ec.pem ]] || page=$(sed '/web-ec/d' <<<"$page")
    PORT=$(free_port)
    {
        printf '%s\n' 'daemon off;' 'worker_processes 2;' "pid $WORK/nginx.pid;" \
            "error_log $WORK/nginx.log;" 'events {}'
        sed -e "s|/etc/nginx|$etc|" -e "s/listen 443/listen 127.0.0.1:$PORT/" -e "/^http {/a \\
            access_log off; client_body_temp_path $WORK/t1; proxy_temp_path $WORK/t2; \\
            fastcgi_temp_path $WORK/t3; uwsgi_temp_path $WORK/t4; scgi_temp_path $WORK/t5;" \
            -e '/listen/a ssl_session_tickets off; location / { return 200 "served by nginx\\n"; }' \
            <<<"$page"
    } >nginx.conf
    (OPENSSL_CONF=$etc/openssl.cnf exec "$NGINX" -p "$WORK" -c "$WORK/nginx.conf" >nginx.out 2>&1) &
    NGINX_PID=$!
    wait_for 10 listens "$PORT" && return
    cat nginx.conf nginx.out nginx.log
    return 1
}
stop_nginx() {
    if [[ -n $NGINX_PID ]]; then
        kill "$NGINX_PID" 2>/dev/null
        wait "$NGINX_PID"
    fi
    NGINX_PID=
}
tear_down() {
    stop_nginx
    stop_hsmd
    [[ $FAILED -eq 0 ]] || tail -n 40 "$WORK/hsmd.log" "$WORK/nginx.log"
}
handshake() { # TEXT OPTION...: the client's output has TEXT, and nginx answers
    local text=$1
    shift
    printf 'GET / HTTP/1.0\r\n\r\n' | OPENSSL_CONF=$WORK/plain.cnf timeout 20 openssl s_client \
        -connect "127.0.0.1:$PORT" -CAfile ca.pem -verify_return_error -ign_eof "$@" \
        >client.log 2>&1
    if ! grep -q "Verify return code: 0" client.log || ! grep -q "$text" client.log ||
        ! grep -q "served by nginx" client.log; then
        cat client.log nginx.log
        return 1
    fi
}
# The workers are another user, when root starts it: the socket must let them in.
let_everyone_in() {
    chmod 666 "$SOCKET" && chmod o+x "${SOCKET%/*}"
}
let_everyone_in
serves web general
serves web-ec ec-general
check "nginx starts" start_nginx
check "... TLS 1.3, RSA" handshake "Peer signature type: RSA-PSS" -tls1_3 \
    -sigalgs rsa_pss_rsae_sha256:RSA+SHA256
check "... TLS 1.3, ECDSA" handshake "Peer signature type: ECDSA" -tls1_3 \
    -sigalgs ECDSA+SHA256:RSA+SHA256
check "... TLS 1.2, RSA" handshake "Peer signature type: RSA" -tls1_2 -cipher aRSA
check "... TLS 1.2, ECDSA" handshake "Peer signature type: ECDSA" -tls1_2 -cipher aECDSA
check "... TLS 1.2, RSA key transport" handshake "Cipher is AES128-GCM-SHA256" -tls1_2 \
    -cipher AES128-GCM-SHA256
many() {
    local i
    for i in $(seq 40); do
        handshake "Peer signature type: ECDSA" -tls1_3 -sigalgs ECDSA+SHA256:RSA+SHA256 || return 1
    done
}
check "... forty times, with two workers" many
workers() {
    ps -o pid= --ppid "$NGINX_PID" | xargs
}
are_others() { # PID...: none of these is there any more, and as many as before are
    local now old
    now=$(workers)
    for old in "$@"; do
        [[ " $now " != *" $old "* ]] || return 1
    done
    [[ $(wc -w <<<"$now") -eq $# ]]
}
read -ra before < <(workers)
check "... by two of them" test "${#before[@]}" -eq 2
kill -HUP "$NGINX_PID"
check "... which are others after it has read its configuration anew" \
    wait_for 20 are_others "${before[@]}"
check_not "... without an error" grep -F '[emerg]' nginx.log
check "... and they have the keys" handshake "Peer signature type: ECDSA" \
    -tls1_3 -sigalgs ECDSA+SHA256:RSA+SHA256
stop_hsmd
start_hsmd
let_everyone_in
check "... after hsmd was started anew" handshake "Peer signature type: ECDSA" -tls1_3 \
    -sigalgs ECDSA+SHA256:RSA+SHA256
stop_nginx
rm "$etc/web-ec.pem"
serves web ed25519-general
check "nginx starts with Ed25519" start_nginx
check "... TLS 1.3, Ed25519" handshake "Peer signature type: ed25519" -tls1_3
stop_nginx
