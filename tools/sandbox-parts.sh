# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a sandbox consists of, piece by piece. Sourced by tools/sandbox, which sets DIR, DOMAIN, PEER,
# CA_DIR, MILTER, REINJECT and, through lib.sh, BUILD. Layout of DIR:
#   env  openssl.cnf          to source; the user's OpenSSL: default provider and ours
#   certs/                    ca, signing, decryption, ec-signing, ec-decryption, peer (.pem);
#                             audit.pub.pem, the public half of the audit key
#   token/                    SoftHSM's configuration and objects
#   hsmd/                     hsmd.conf, CURVE keys, PINs, sockets, registry, audit log
#   gateway/                  sealgate.conf, CURVE key, store, spool
#   officer/                  hsmctl.conf, the officer's key and its passphrase, what she did last
#   authority/                the CA's own right to its key: CURVE key, openssl.cnf

LABELS=(signing decryption ec-signing ec-decryption)

make_sandbox() {
    if [[ $CA_DIR != "$DIR" ]]; then
        [[ -f $CA_DIR/authority/openssl.cnf ]] || die "$CA_DIR has no CA"
    fi
    if [[ -z $PEER ]]; then
        PEER=b.example
        [[ $DOMAIN != "$PEER" ]] || PEER=a.example
    fi
    mkdir "$DIR/certs"
    (umask 077 && mkdir "$DIR/token" "$DIR/token/objects" "$DIR/hsmd" "$DIR/gateway" \
        "$DIR/gateway/spool" "$DIR/authority" "$DIR/officer")
    make_token
    make_transport_keys
    make_officer
    write_openssl_conf "$DIR/openssl.cnf" gateway/gateway
    write_env
    write_hsmd_conf
    start_hsmd
    # Keys first, their certificates after: the CA signs through hsmd and the provider itself.
    make_keys
    make_certificates
    bring_certificates
    write_sealgate_conf
    if [[ $PEER != none ]]; then
        run_sealgate certificate add "$PEER" "$DIR/certs/peer.pem" >/dev/null
    fi
}

# ---- token ----

new_secret_file() { # PATH
    (umask 377 && openssl rand -hex 12 >"$1")
}

make_token() {
    cat >"$DIR/token/softhsm2.conf" <<-END
	directories.tokendir = $DIR/token/objects
	objectstore.backend = file
	log.level = ERROR
	slots.removable = false
	END
    new_secret_file "$DIR/hsmd/pin"
    new_secret_file "$DIR/hsmd/so-pin"
    local -x SOFTHSM2_CONF=$DIR/token/softhsm2.conf
    "$here/answer-pins" --so "$DIR/hsmd/so-pin" --user "$DIR/hsmd/pin" -- \
        softhsm2-util --init-token --free --label "$DOMAIN"
}

# ---- hsmd ----

make_transport_keys() {
    "$BUILD/bin/hsmd" keygen "$DIR/hsmd/server"
    "$BUILD/bin/hsmd" keygen "$DIR/gateway/gateway"
    "$BUILD/bin/hsmd" keygen "$DIR/authority/authority"
}

# The one officer of the sandbox, whose word is enough. The passphrase of the key is beside it.
make_officer() {
    "$BUILD/bin/hsmd" keygen "$DIR/hsmd/officers-server"
    new_secret_file "$DIR/officer/passphrase"
    (cd "$DIR/officer" && "$BUILD/bin/hsmctl" officer keygen officer --passphrase-fd 3 \
        3<passphrase >/dev/null) || die "no key for the officer"
    cat >"$DIR/officer/hsmctl.conf" <<-END
	# made by tools/sandbox; hsmctl(1)
	endpoint = 'ipc://$DIR/hsmd/officers.sock'
	server-key-file = '$DIR/hsmd/officers-server.pub'
	key-file = 'officer.key'
	END
}

# In single quotes: libConfuse expands ${NAME} in double ones.
write_hsmd_conf() {
    cat >"$DIR/hsmd/hsmd.conf" <<-END
	# made by tools/sandbox; hsmd.conf(5)
	listen = { 'ipc://$DIR/hsmd/data.sock' }
	server-key-file = 'server.key'
	officers-listen = { 'ipc://$DIR/hsmd/officers.sock' }
	officers-server-key-file = 'officers-server.key'
	officer officer { role = officer  file = '../officer/officer.pub' }
	state-directory = '.'
	log = stderr
	token main {
	    module = '$(softhsm_module)'
	    label = '$DOMAIN'
	    pin-file = 'pin'
	}
	END
}

# ---- what hsmd answers for: keys, clients, grants, by the officer's word ----

# Commands of hsmctl, one a line, from standard input. One batch for many: each opening of the
# officer's key file takes most of a second, on purpose.
officer_acts() {
    "$BUILD/bin/hsmctl" -c "$DIR/officer/hsmctl.conf" batch - --yes --passphrase-fd 3 \
        3<"$DIR/officer/passphrase" >"$DIR/officer/acts.log" 2>&1 ||
        die "the officer: $(tail -n 3 "$DIR/officer/acts.log")"
}

# Key pairs are made inside the token and cannot leave it: sensitive, not extractable.
make_keys() {
    local label type purpose may
    {
        echo "client add gateway --public-key-file '$DIR/gateway/gateway.pub'"
        while read -r label type purpose may; do
            echo "key generate $label --type $type --purpose smime-$purpose"
            echo "grant gateway $label $may"
            echo "key csr $label --common-name '$DOMAIN' --organization '$DOMAIN' --unit $label" \
                "--city Sandbox --state Sandbox --country DE --domains '$DOMAIN,*.$DOMAIN'" \
                "--out '$DIR/certs/$label.csr'"
        done <<-END
	signing rsa:3072 sign sign
	decryption rsa:3072 decrypt unwrap
	ec-signing ec:p256 sign sign
	ec-decryption ec:p256 decrypt agree
	END
        echo "key generate audit --type ec:p256 --purpose audit"
        echo "key enable audit"
        # its public half is for whoever checks the log
        echo "key show audit --public --out '$DIR/certs/audit.pub.pem'"
        if [[ $CA_DIR == "$DIR" ]]; then
            # The CA of the sandbox. Not the gateway's to use.
            echo "key generate ca --type rsa:3072 --purpose general"
            echo "key enable ca"
            echo "client add authority --public-key-file '$DIR/authority/authority.pub'"
            echo "grant authority ca sign"
        fi
    } | officer_acts
}

bring_certificates() {
    local label
    for label in "${LABELS[@]}"; do
        echo "key certificate $label '$DIR/certs/$label.pem'"
        echo "key enable $label"
    done | officer_acts
}

# One more, that is in the token already.
registry_add_key() { # ID LABEL PURPOSE OPERATIONS
    start_hsmd
    officer_acts <<-END
	key adopt $2 --token main --label $2 --id $1 --purpose $3
	key enable $2
	grant gateway $2 ${4// /}
	END
    stop_process "$DIR/hsmd/hsmd.pid" hsmd
}

# ---- hsmd ----

start_hsmd() {
    if is_running "$DIR/hsmd/hsmd.pid" hsmd; then
        return
    fi
    local ready=$DIR/hsmd/ready line=''
    rm -f "$ready"
    mkfifo -m 600 "$ready"
    (
        [[ -z ${lock:-} ]] || exec {lock}<&- # or it would hold the lock of tools/sandbox as long as it runs
        export SOFTHSM2_CONF=$DIR/token/softhsm2.conf
        start_process "$DIR/hsmd/hsmd.pid" "$DIR/hsmd/hsmd.log" \
            bash -c 'exec 3>"$0" && exec "$@"' "$ready" \
            "$BUILD/bin/hsmd" -c "$DIR/hsmd/hsmd.conf" --ready-fd 3
    )
    # An end of file without a line: it ended before it was ready.
    read -r -t 60 line <"$ready" || true
    rm -f "$ready"
    if [[ -z $line ]]; then
        tail -n 20 "$DIR/hsmd/hsmd.log" >&2
        die "hsmd did not start; its log is $DIR/hsmd/hsmd.log"
    fi
}

# ---- certificates ----

write_openssl_conf() { # FILE KEY: that client's configuration of OpenSSL; KEY without .key and .pub
    {
        echo '# made by tools/sandbox; provider-hsmd(7)'
        provider_conf "ipc://$DIR/hsmd/data.sock" "$DIR/hsmd/server.pub" "$DIR/$2"
        printf '%s\n' '[req]' 'distinguished_name = req_distinguished_name' \
            '[req_distinguished_name]'
    } >"$1"
}

serial() {
    echo "0x00$(openssl rand -hex 15)"
}

subject() { # OU
    echo "/C=DE/ST=Sandbox/L=Sandbox/O=$DOMAIN/OU=$1/CN=$DOMAIN"
}

# A certificate of this sandbox's CA, signed by the CA's key in the token.
issue_certificate() { # NAME PUBLIC.pem SUBJECT EXTENSIONS
    local extensions=$DIR/authority/$1.ext
    printf '%b\n' "basicConstraints = critical,CA:false\n$4" >"$extensions"
    OPENSSL_CONF=$DIR/authority/openssl.cnf openssl x509 -new -force_pubkey "$2" -subj "$3" \
        -CA "$DIR/certs/ca.pem" -CAkey hsmd:ca -set_serial "$(serial)" -days 365 -sha256 \
        -extfile "$extensions" -out "$DIR/certs/$1.pem"
    rm -f "$extensions"
}

make_ca() {
    write_openssl_conf "$DIR/authority/openssl.cnf" authority/authority
    local extensions=$DIR/authority/ca.ext
    printf '%s\n' "basicConstraints = critical,CA:true" \
        "keyUsage = critical,keyCertSign,cRLSign" "subjectKeyIdentifier = hash" >"$extensions"
    OPENSSL_CONF=$DIR/authority/openssl.cnf openssl x509 -new -key hsmd:ca \
        -subj "/O=$DOMAIN/CN=CA of the sandbox of $DOMAIN" -set_serial "$(serial)" -days 3650 \
        -sha256 -extfile "$extensions" -out "$DIR/certs/ca.pem"
    rm -f "$extensions"
}

# keyUsage as mail gateways ask for it: digitalSignature with nonRepudiation; keyEncipherment.
make_certificates() {
    local ids="subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid"
    local sign="$ids\nkeyUsage = critical,digitalSignature,nonRepudiation"
    sign+="\nextendedKeyUsage = emailProtection"
    local decrypt="$ids\nextendedKeyUsage = emailProtection\nkeyUsage = critical,keyEncipherment"
    local names="subjectAltName = DNS:$DOMAIN,DNS:*.$DOMAIN"
    local label
    if [[ $CA_DIR == "$DIR" ]]; then
        make_ca
    else
        cp "$CA_DIR/certs/ca.pem" "$DIR/certs/ca.pem"
    fi
    for label in "${LABELS[@]}"; do
        openssl req -in "$DIR/certs/$label.csr" -verify -noout -pubkey 2>/dev/null \
            >"$DIR/certs/$label.pub" || die "the request of $label is not signed by its key"
    done
    issue signing signing "$(subject signing)" "$sign\n$names"
    issue ec-signing ec-signing "$(subject ec-signing)" "$sign\n$names"
    issue decryption decryption "$(subject decryption)" "$decrypt\n$names"
    issue ec-decryption ec-decryption "$(subject ec-decryption)" \
        "${decrypt/keyEncipherment/keyAgreement}\n$names"
    if [[ $PEER != none ]]; then
        issue peer decryption "/O=$PEER/OU=decryption/CN=$PEER" \
            "$decrypt\nsubjectAltName = DNS:$PEER,DNS:*.$PEER"
    fi
    rm -f "$DIR"/certs/*.pub "$DIR"/certs/*.csr
}

issue() { # NAME LABEL SUBJECT EXTENSIONS: by the own CA or that of the other sandbox
    if [[ $CA_DIR == "$DIR" ]]; then
        issue_certificate "$1" "$DIR/certs/$2.pub" "$3" "$4"
    else
        local name="$1.$DOMAIN"
        "$here/sandbox" issue "$CA_DIR" "$name" "$DIR/certs/$2.pub" "$3" "$4"
        mv "$CA_DIR/certs/$name.pem" "$DIR/certs/$1.pem"
    fi
}

# ---- gateway ----

write_sealgate_conf() {
    local peer=''
    if [[ $PEER != none ]]; then
        peer="identity peer { key = 'hsmd:decryption'  certificate-file = '../certs/peer.pem'  use = decrypt }"
    fi
    cat >"$DIR/gateway/sealgate.conf" <<-END
	# made by tools/sandbox; sealgate.conf(5)
	domains = { '$DOMAIN' }
	authserv-id = 'mx.$DOMAIN'
	store = 'certificates.db'
	trust-anchors = '../certs/ca.pem'
	spool-directory = 'spool'
	log = stderr
	# Everything here comes from the loopback, so only the port it came in by tells.
	internal-networks = {}
	originating-daemons = { 'ORIGINATING' }
	identity signing { key = 'hsmd:signing'  certificate-file = '../certs/signing.pem'  use = sign }
	identity ec-signing { key = 'hsmd:ec-signing'  certificate-file = '../certs/ec-signing.pem'  use = sign }
	identity decryption { key = 'hsmd:decryption'  certificate-file = '../certs/decryption.pem'  use = decrypt }
	identity ec-decryption { key = 'hsmd:ec-decryption'  certificate-file = '../certs/ec-decryption.pem'  use = decrypt }
	$peer
	profile sign { mode = sign  signer = { signing, ec-signing }  sign-mode = detached }
	profile sign-opaque { mode = sign  signer = { signing, ec-signing }  sign-mode = opaque }
	profile encrypt { mode = encrypt  missing-key = bounce }
	profile sign-encrypt { mode = sign-encrypt  signer = { signing, ec-signing }  sign-mode = detached  missing-key = bounce }
	profile triple { mode = triple  signer = { signing, ec-signing }  sign-mode = detached  missing-key = bounce }
	outbound { profile = sign-encrypt }
	inbound { verify = true  signature = keep }
	END
}

write_gateway_listener() {
    local conf=$DIR/gateway/sealgate.conf
    sed -i -e '/^listen = /d' -e '/^reinject = /d' "$conf"
    sed -i "1a listen = \"$MILTER\"${REINJECT:+\\nreinject = \"$REINJECT\"}" "$conf"
}

run_sealgate() {
    OPENSSL_CONF=$DIR/openssl.cnf "$BUILD/bin/sealgate" -c "$DIR/gateway/sealgate.conf" "$@"
}

start_sealgated() {
    if is_running "$DIR/gateway/sealgated.pid" sealgated; then
        return
    fi
    local port=''
    [[ $MILTER =~ ^inet:([0-9]+)@ ]] && port=${BASH_REMATCH[1]}
    (
        exec {lock}<&-
        export OPENSSL_CONF=$DIR/openssl.cnf
        start_process "$DIR/gateway/sealgated.pid" "$DIR/gateway/sealgated.log" \
            "$BUILD/bin/sealgated" -c "$DIR/gateway/sealgate.conf"
    )
    if [[ -n $port ]] && ! wait_for 20 listens "$port"; then
        tail -n 20 "$DIR/gateway/sealgated.log" >&2
        die "sealgated did not start; its log is $DIR/gateway/sealgated.log"
    fi
}

write_env() {
    cat >"$DIR/env" <<-END
	# made by tools/sandbox, to source: . $DIR/env
	DIR=$DIR
	export OPENSSL_CONF=$DIR/openssl.cnf
	export SEALGATE_CONF=$DIR/gateway/sealgate.conf
	export HSMD_CONF=$DIR/hsmd/hsmd.conf
	export HSMCTL_CONF=$DIR/officer/hsmctl.conf
	case :\$PATH: in
	*:$BUILD/bin:*) ;;
	*) export PATH=$BUILD/bin:\$PATH ;;
	esac
	END
}
