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
#   officer/                  hsmctl.conf, the officer's key and its passphrase
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
    # Keys first, their certificates after: the CA signs through hsmd and the provider itself.
    fill_registry without-certificates
    start_hsmd
    make_certificates
    stop_process "$DIR/hsmd/hsmd.pid" hsmd
    fill_registry with-certificates
    write_sealgate_conf
    if [[ $PEER != none ]]; then
        run_sealgate certificate add "$PEER" "$DIR/certs/peer.pem" >/dev/null
    fi
}

# ---- token ----

softhsm_module() {
    local path
    for path in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so; do
        if [[ -f $path ]]; then
            echo "$path"
            return
        fi
    done
    die "no SoftHSM2 module found"
}

new_secret_file() { # PATH
    (umask 377 && openssl rand -hex 12 >"$1")
}

# Key pairs are made inside the token and cannot leave it: sensitive, not extractable.
make_token() {
    local module
    module=$(softhsm_module)
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
    generate_key 01 signing --generate-privkey rsa --bits 3072 --mark-sign
    generate_key 02 decryption --generate-privkey rsa --bits 3072 --mark-decrypt
    generate_key 03 ec-signing --generate-privkey ecdsa --curve secp256r1 --mark-sign
    # p11tool cannot make a key for key agreement
    "$here/answer-pins" --user "$DIR/hsmd/pin" -- \
        pkcs11-tool --module "$module" --token-label "$DOMAIN" --login --keypairgen \
        --key-type EC:prime256v1 --usage-derive --sensitive --label ec-decryption --id 04
    if [[ $CA_DIR == "$DIR" ]]; then
        generate_key 05 ca --generate-privkey rsa --bits 3072 --mark-sign
    fi
    # signs the audit log; its public half is for whoever checks it
    PUBLIC_HALF=$DIR/certs/audit.pub.pem \
        generate_key 06 audit --generate-privkey ecdsa --curve secp256r1 --mark-sign
    chmod 644 "$DIR/certs/audit.pub.pem"
}

generate_key() { # ID LABEL OPTION...
    local id=$1 label=$2
    shift 2
    "$here/answer-pins" --user "$DIR/hsmd/pin" -- \
        p11tool --provider "$module" --login "$@" --id "$id" --label "$label" \
        --outfile "${PUBLIC_HALF:-/dev/null}" "pkcs11:token=$DOMAIN"
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

# ---- what hsmd answers for: keys, clients, grants, in its registry ----

registry_begin() { # CERTIFICATES: with-certificates, without-certificates; a new registry
    CERTIFICATES=$1
    rm -f "$DIR/hsmd/registry.db" "$DIR/hsmd/hsmd.conf.before-migration"
    write_hsmd_conf
}

registry_key() { # ID LABEL PURPOSE
    local certificate=''
    if [[ $CERTIFICATES == with-certificates ]]; then
        certificate="certificate-file = '../certs/$2.pem'"
    fi
    echo "key $2 { token = main  label = '$2'  id = '$1'  purpose = $3  $certificate }" \
        >>"$DIR/hsmd/hsmd.conf"
}

registry_audit_key() { # ID LABEL
    echo "audit-key { token = main  label = '$2'  id = '$1' }" >>"$DIR/hsmd/hsmd.conf"
}

registry_client() { # NAME PUBLIC-KEY-FILE
    echo "client $1 { public-key-file = '$2' }" >>"$DIR/hsmd/hsmd.conf"
}

registry_grant() { # CLIENT KEY OPERATIONS
    echo "grant { client = $1  key = $2  operations = { $3 } }" >>"$DIR/hsmd/hsmd.conf"
}

registry_end() {
    "$BUILD/bin/hsmd" migrate -c "$DIR/hsmd/hsmd.conf" >"$DIR/hsmd/migrate.log" 2>&1 ||
        die "hsmd migrate: $(cat "$DIR/hsmd/migrate.log")"
    # The log of a sandbox that has run knows of a registry with officers before this one.
    if [[ -s $DIR/hsmd/audit.log ]]; then
        "$BUILD/bin/hsmd" found -c "$DIR/hsmd/hsmd.conf" >"$DIR/hsmd/found.log" 2>&1 ||
            die "hsmd found: $(cat "$DIR/hsmd/found.log")"
    fi
}

# One more: the registry is made anew from what it was made of.
registry_add_key() { # ID LABEL PURPOSE OPERATIONS
    local conf=$DIR/hsmd/hsmd.conf
    CERTIFICATES=without-certificates
    mv "$conf.before-migration" "$conf"
    rm -f "$DIR/hsmd/registry.db"
    registry_key "$1" "$2" "$3"
    registry_grant gateway "$2" "$4"
    registry_end
}

fill_registry() { # with-certificates, without-certificates
    registry_begin "$1"
    registry_key 01 signing smime-sign
    registry_key 02 decryption smime-decrypt
    registry_key 03 ec-signing smime-sign
    registry_key 04 ec-decryption smime-decrypt
    registry_audit_key 06 audit
    registry_client gateway ../gateway/gateway.pub
    registry_grant gateway signing sign
    registry_grant gateway decryption unwrap
    registry_grant gateway ec-signing sign
    registry_grant gateway ec-decryption agree
    if [[ $CA_DIR == "$DIR" ]]; then
        # The CA of the sandbox. Not the gateway's to use.
        registry_key 05 ca general
        registry_client authority ../authority/authority.pub
        registry_grant authority ca sign
    fi
    registry_end
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
        exec {lock}<&- # or it would hold the lock of tools/sandbox as long as it runs
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
    cat >"$1" <<-END
	# made by tools/sandbox; provider-hsmd(7)
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
	endpoints = ipc://$DIR/hsmd/data.sock
	server-key-file = $DIR/hsmd/server.pub
	public-key-file = $DIR/$2.pub
	secret-key-file = $DIR/$2.key
	[req]
	distinguished_name = req_distinguished_name
	[req_distinguished_name]
	END
}

serial() {
    echo "0x00$(openssl rand -hex 15)"
}

subject() { # OU
    echo "/C=XX/ST=Sandbox/L=Sandbox/O=$DOMAIN/OU=$1/CN=$DOMAIN"
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
        OPENSSL_CONF=$DIR/openssl.cnf openssl pkey -in "hsmd:$label" -pubout \
            -out "$DIR/certs/$label.pub"
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
    rm -f "$DIR"/certs/*.pub
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

listens() { # PORT of 127.0.0.1
    (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

write_env() {
    cat >"$DIR/env" <<-END
	# made by tools/sandbox, to source: . $DIR/env
	DIR=$DIR
	export OPENSSL_CONF=$DIR/openssl.cnf
	export SEALGATE_CONF=$DIR/gateway/sealgate.conf
	export HSMD_CONF=$DIR/hsmd/hsmd.conf
	case :\$PATH: in
	*:$BUILD/bin:*) ;;
	*) export PATH=$BUILD/bin:\$PATH ;;
	esac
	END
}
