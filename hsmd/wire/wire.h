// SPDX-License-Identifier: Apache-2.0
// The protocol between hsmd and its clients, as documented in hsmd-protocol(7).
//
// A frame is one flat msgpack array of unsigned integers, strings and binaries:
//     request  [version, operation, id, field...]
//     reply    [version, class, id, field...]        fields only in a reply of class ok
// The table of operations below is the one place that says which fields there are. Encoding goes
// through msgpack-c; decoding through a strict cursor of ours: shortest or longer forms of integers
// and lengths are accepted, every other type, a missing, extra or trailing byte, a length over its
// cap is ERR_PERM. No I/O here, no state, no allocation but in the output buffer.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"

#define WIRE_VERSION 1
#define WIRE_FRAME_MAX 65536        // bytes of a frame; ZMQ_MAXMSGSIZE on both ends
#define WIRE_NAME_MAX 64            // bytes of a key name
#define WIRE_DATA_MAX 16384         // bytes of SignedAttributes, a digest or a message
#define WIRE_CIPHERTEXT_MAX 2048    // bytes of an encrypted key: RSA-16384
#define WIRE_LABEL_MAX 1024         // bytes of an OAEP label, or of ECC-CMS-SharedInfo
#define WIRE_POINT_MAX 256          // bytes of a public point
#define WIRE_SECRET_MAX 2048        // bytes of a key that leaves
#define WIRE_LENGTH_SIZE 2          // bytes of the length in front of an unwrapped key
#define WIRE_SIGNATURE_MAX 2048     // bytes of a signature: RSA-16384
#define WIRE_SALT_MAX 2048          // the number in salt: less than a modulus
#define WIRE_BITS_MAX 16384         // the number in bits
#define WIRE_PUBLIC_KEY_MAX 8192    // bytes of a SubjectPublicKeyInfo in DER
#define WIRE_CERTIFICATES_MAX 32768 // bytes of a certificate chain in DER
#define WIRE_LIST_MAX 256           // names in one reply of list

// X(symbol, number, name, what it does)
#define WIRE_OPERATIONS(X)                                                      \
    X(WIRE_SIGN, 1, "sign", "sign SignedAttributes, a digest or a message")     \
    X(WIRE_UNWRAP, 2, "unwrap", "decrypt an RSA key transport")                 \
    X(WIRE_AGREE, 3, "agree", "ECDH with the key derivation done in hsmd")      \
    X(WIRE_LIST, 4, "list", "the names of the keys the client has a grant for") \
    X(WIRE_DESCRIBE, 5, "describe", "type, purpose, state, public key and certificates of a key")

// X(symbol, number, name, operation it belongs to)
#define WIRE_ALGORITHMS(X)                              \
    X(WIRE_RSA_PKCS1, 1, "rsa-pkcs1", WIRE_SIGN)        \
    X(WIRE_RSA_PSS, 2, "rsa-pss", WIRE_SIGN)            \
    X(WIRE_ECDSA, 3, "ecdsa", WIRE_SIGN)                \
    X(WIRE_EDDSA, 4, "ed25519", WIRE_SIGN)              \
    X(WIRE_RSAES_PKCS1, 16, "rsaes-pkcs1", WIRE_UNWRAP) \
    X(WIRE_RSAES_OAEP, 17, "rsaes-oaep", WIRE_UNWRAP)   \
    X(WIRE_ECDH_X963, 32, "ecdh-x963", WIRE_AGREE)

// What sign is given. attributes: DER of SignedAttributes as a SET OF (RFC 5652, 5.4), which hsmd
// parses and hashes; digest and message: for keys of purpose general only. Ed25519 signs messages
// and the attributes themselves, without hashing them before (RFC 8032, 5.1; RFC 8419, 3.1).
#define WIRE_FORMS(X)                      \
    X(WIRE_ATTRIBUTES, 0, "attributes", 0) \
    X(WIRE_DIGEST, 1, "digest", 0)         \
    X(WIRE_MESSAGE, 2, "message", 0)

#define WIRE_KEY_TYPES(X)        \
    X(WIRE_KEY_RSA, 1, "rsa", 0) \
    X(WIRE_KEY_EC, 2, "ec", 0)   \
    X(WIRE_KEY_ED25519, 3, "ed25519", 0)

#define WIRE_PURPOSES(X)                         \
    X(WIRE_SMIME_SIGN, 1, "smime-sign", 0)       \
    X(WIRE_SMIME_DECRYPT, 2, "smime-decrypt", 0) \
    X(WIRE_GENERAL, 3, "general", 0)             \
    X(WIRE_AUDIT, 4, "audit", 0)

#define WIRE_STATES(X)                 \
    X(WIRE_ENABLED, 1, "enabled", 0)   \
    X(WIRE_DISABLED, 2, "disabled", 0) \
    X(WIRE_RETIRED, 3, "retired", 0)

#define X(symbol, number, name, rest) symbol = (number),
enum wire_operation { WIRE_OPERATIONS(X) };
enum wire_algorithm { WIRE_ALGORITHMS(X) };
enum wire_form { WIRE_FORMS(X) };
enum wire_key_type { WIRE_KEY_TYPES(X) };
enum wire_purpose { WIRE_PURPOSES(X) };
enum wire_state { WIRE_STATES(X) };
#undef X

// NULL, or 0, if there is no such one.
const char *wire_operation_name(enum wire_operation operation);
const char *wire_algorithm_name(enum wire_algorithm algorithm);
enum wire_operation wire_operation_by_name(const char *name);
enum wire_algorithm wire_algorithm_by_name(const char *name);
enum wire_operation wire_algorithm_operation(enum wire_algorithm algorithm);
const char *wire_purpose_name(enum wire_purpose purpose); // "smime-sign" and so on
enum wire_purpose wire_purpose_by_name(const char *name);
const char *wire_state_name(enum wire_state state); // "enabled", "disabled", "retired"
enum wire_state wire_state_by_name(const char *name);

// The fields in the order of the wire. Bytes are borrowed: from the caller when encoding, from the
// frame when decoding. Names are as text_is_name says; data, ciphertext, peer, signature and
// public_key are never empty, the other binaries may be.
struct wire_sign {
    struct bytes key;              // str
    enum wire_algorithm algorithm; // uint
    enum hash hash;                // uint; of the attributes, or the one that made the digest;
                                   // of ed25519 sha512 with attributes, none with a message
    unsigned salt;                 // uint; bytes of salt of rsa-pss, else 0
    enum wire_form form;           // uint
    struct bytes data;             // bin
};

struct wire_unwrap {
    struct bytes key;              // str
    enum wire_algorithm algorithm; // uint
    enum hash hash;                // uint; of OAEP, else HASH_NONE
    enum hash mgf_hash;            // uint; of OAEP's MGF1, else HASH_NONE
    struct bytes label;            // bin; of OAEP, else empty
    unsigned length; // uint; bytes the caller expects of rsaes-pkcs1, 0: does not know; else 0
    struct bytes ciphertext; // bin
};

struct wire_agree {
    struct bytes key;              // str
    enum wire_algorithm algorithm; // uint
    enum hash hash;                // uint; of the X9.63 KDF (SEC 1, 3.6.1)
    bool cofactor;                 // uint 0 or 1; cofactor ECDH
    struct bytes peer;             // bin; the other's point, uncompressed
    struct bytes info;             // bin; SharedInfo
    unsigned length;               // uint; bytes of key to derive, 1 or more
};

struct wire_list {
    struct bytes after; // str; names greater than this one, in byte order; "" from the first
};

struct wire_describe {
    struct bytes key; // str
};

struct wire_request {
    enum wire_operation operation;
    uint64_t id; // chosen by the client, returned in the reply
    union {
        struct wire_sign sign;
        struct wire_unwrap unwrap;
        struct wire_agree agree;
        struct wire_list list;
        struct wire_describe describe;
    };
};

struct wire_description {
    struct bytes name;         // str
    enum wire_key_type type;   // uint
    enum wire_purpose purpose; // uint
    enum wire_state state;     // uint
    unsigned bits;             // uint
    struct bytes public_key;   // bin; DER SubjectPublicKeyInfo
    struct bytes
        certificates; // bin; DER certificates one after the other, the key's own first; or empty
};

// A secret in a place of a size that does not depend on it. On the wire it is one bin: the secret's
// length in WIRE_LENGTH_SIZE bytes, the most significant first; the secret; zeros up to size. So
// the length of a frame, which encryption does not hide, is the key's alone (no padding oracle).
// Encoding and decoding take the same time whatever the secret's length.
struct wire_unwrapped {
    struct bytes secret; // encoding: size bytes can be read at data, whatever len is
    size_t size;         // of the modulus in bytes; len or more
};

struct wire_reply {
    enum err class; // of a reply that is not ERR_OK there are no fields
    uint64_t id;    // 0 if the request's could not be read
    union {
        struct bytes signature; // sign: bin; RSA: as long as the modulus, ECDSA: DER, Ed25519: 64
        struct bytes secret;    // agree: bin. Of unwrap it is the member below
        struct wire_unwrapped unwrapped; // unwrap: bin
        struct {
            size_t count;                      // list: as many str
            struct bytes names[WIRE_LIST_MAX]; // fewer than WIRE_LIST_MAX: the last page
        } list;
        struct wire_description description; // describe
    };
};

// Append one frame, or nothing. ERR_PERM: a field over its cap or not one of its table, or the
// frame over the buffer's cap; ERR_TEMP: out of memory; ERR_BUG: no such operation. The buffer
// grows at most once, before a byte is written: a secret is copied to one place only.
enum err wire_encode_request(const struct wire_request *request, struct buf *out);
// operation: of the request that is answered.
enum err wire_encode_reply(enum wire_operation operation, const struct wire_reply *reply,
                           struct buf *out);

// Strict. On ERR_PERM, request->id is the id if that much could be read, else 0; nothing else is
// set. Checks shape, caps, that every number is one of its table and goes with the operation, and
// that what belongs to one algorithm only (salt, OAEP's fields) comes with that one; what a key may
// do is not known here.
enum err wire_decode_request(struct bytes frame, struct wire_request *request,
                             struct detail *detail);
// On ERR_PERM reply->id as above.
enum err wire_decode_reply(enum wire_operation operation, struct bytes frame,
                           struct wire_reply *reply, struct detail *detail);
