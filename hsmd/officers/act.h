// SPDX-License-Identifier: Apache-2.0
// What officers can have done: one table of acts and one of their fields. An act travels, is signed
// and is kept as its encoding, a flat msgpack array [version, kind, field...] with the fields of
// the kind in the order of the table of fields; equal acts have equal encodings. Both hsmd and
// hsmctl decode it themselves and explain it from what they decoded, so that nobody signs one thing
// and reads another.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/curve.h"
#include "hsmd/base/err.h"
#include "hsmd/base/text.h"
#include "hsmd/wire/wire.h"

#define ACT_VERSION 1
#define ACT_SIZE_MAX 49152          // bytes of an encoding
#define ACT_TEXT_MAX 256            // bytes of a text
#define ACT_LIST_MAX 4096           // bytes of a list: texts with commas between them
#define ACT_DAYS_MAX 3650           // of a certificate that a key signs for itself
#define ACT_ATTACHMENT_MAX 16384    // bytes of a PIN or a private key (PKCS#8) beside the act
#define OFFICER_SIGNING_KEY_SIZE 32 // an Ed25519 public key

// X(symbol, number, name, attachment, what a summary begins with). attachment: 'p' a PIN, 'k' a
// private key (DER PrivateKeyInfo), ' ' none: it comes beside the act, in locked memory, and is
// never kept.
#define ACT_KINDS(X)                                                                 \
    X(ACT_KEY_GENERATE, 1, "key-generate", ' ', "generate key")                      \
    X(ACT_KEY_IMPORT, 2, "key-import", 'k', "import key")                            \
    X(ACT_KEY_ADOPT, 3, "key-adopt", ' ', "adopt key")                               \
    X(ACT_KEY_PLACE, 4, "key-place", ' ', "place key")                               \
    X(ACT_KEY_REQUEST, 5, "key-csr", ' ', "sign a request with key")                 \
    X(ACT_KEY_SELF_SIGN, 6, "key-self-sign", ' ', "self-sign a certificate of key")  \
    X(ACT_KEY_CERTIFICATE, 7, "key-certificate", ' ', "put certificates beside key") \
    X(ACT_KEY_ENABLE, 8, "key-enable", ' ', "enable key")                            \
    X(ACT_KEY_DISABLE, 9, "key-disable", ' ', "disable key")                         \
    X(ACT_KEY_RETIRE, 10, "key-retire", ' ', "retire key")                           \
    X(ACT_KEY_DESTROY, 11, "key-destroy", ' ', "destroy key")                        \
    X(ACT_KEY_LIMIT, 12, "key-limit", ' ', "limit key")                              \
    X(ACT_CLIENT_ADD, 20, "client-add", ' ', "add client")                           \
    X(ACT_CLIENT_REVOKE, 21, "client-revoke", ' ', "revoke client")                  \
    X(ACT_GRANT, 22, "grant", ' ', "grant client")                                   \
    X(ACT_UNGRANT, 23, "ungrant", ' ', "drop the grants of client")                  \
    X(ACT_OFFICER_ADD, 30, "officer-add", ' ', "add")                                \
    X(ACT_OFFICER_REMOVE, 31, "officer-remove", ' ', "remove officer")               \
    X(ACT_QUORUM, 32, "quorum", ' ', "set the quorum to")                            \
    X(ACT_UNLOCK, 40, "unlock", 'p', "unlock token")                                 \
    X(ACT_LOCK, 41, "lock", ' ', "lock token")

enum act_kind {
#define X(symbol, number, name, attachment, verb) symbol = (number),
    ACT_KINDS(X)
#undef X
};

// X(symbol, number, name)
#define OFFICER_ROLES(X)             \
    X(OFFICER_OFFICER, 1, "officer") \
    X(OFFICER_AUDITOR, 2, "auditor")

enum officer_role {
#define X(symbol, number, name) symbol = (number),
    OFFICER_ROLES(X)
#undef X
};

const char *officer_role_name(enum officer_role role);    // NULL: none
enum officer_role officer_role_by_name(const char *name); // 0: none
const char *act_kind_name(enum act_kind kind);            // NULL: none
char act_attachment(enum act_kind kind);                  // ' ', 'p', 'k'

// All fields of all acts; those a kind does not have are zero. Bytes are borrowed: of an act that
// was decoded, from its encoding. Which kind has which: act.c's table, and hsmctl(1).
struct act {
    enum act_kind kind;
    struct bytes name;         // str: of the key, client, officer or token it is about
    struct bytes key;          // str: grant, ungrant
    struct bytes tokens;       // str, list of names: key-generate, key-adopt, key-place (one),
                               // key-import (one or more), key-destroy (empty: all of them)
    struct bytes label;        // str: key-adopt, key-place: CKA_LABEL
    struct bytes id;           // bin: key-adopt, key-place: CKA_ID; this or the label may be empty
    enum wire_key_type type;   // uint: key-generate
    unsigned bits;             // uint: key-generate
    enum wire_purpose purpose; // uint: key-generate, -import, -adopt
    uint64_t operations;       // uint, set (REGISTRY_SET): grant
    uint64_t algorithms;       // uint, set, all bits: no restriction: grant, key-generate, -import,
                               // -adopt
    uint64_t per_minute, per_hour, total, failures_per_hour; // uint, 0 none: key-limit, grant
    struct bytes public_key; // bin: key-import: SubjectPublicKeyInfo; officer-add: Ed25519
    struct bytes curve_key;  // str, Z85: client-add, officer-add
    enum officer_role role;  // uint: officer-add
    unsigned number;         // uint: quorum
    struct bytes
        certificates; // bin, DER one after the other: key-certificate, key-import (or empty)
    // key-csr, key-self-sign; str, empty ones are left out of the certificate
    struct bytes common_name, organization, unit, city, state, country;
    struct bytes domains, emails; // str, lists: subjectAltName
    enum hash hash;               // uint
    bool pss;                     // uint
    bool any_name;                // uint: names need not be FQDNs (F17); key-certificate and
                                  // key-import too
    unsigned days;                // uint: key-self-sign
};

// Appends the encoding. ERR_PERM: a field is over its cap, missing, not well-formed, or not one of
// the kind (the detail names it in hsmctl's words); what must be looked up (is there such a key?)
// is not looked at.
enum err act_encode(const struct act *act, struct buf *out, struct detail *detail);
// Strict, and checks the same; an encoding that is not byte for byte what act_encode gives is
// refused. Borrows from encoding.
enum err act_decode(struct bytes encoding, struct act *act, struct detail *detail);

// In plain words for the person who is to sign it: one sentence, then a line "  field: value" for
// every field that matters. Quoted where it comes from outside (text_quote), so it is ASCII without
// control characters other than line ends. Texts are English. A cap of ACT_EXPLANATION_MAX will do
// for every act.
#define ACT_EXPLANATION_MAX 524288
enum err act_explain(const struct act *act, struct buf *out);
// One line, for the audit log and lists: "generate key \"signing\" (rsa:3072, smime-sign) in main".
// Long texts are cut; a cap of ACT_SUMMARY_MAX will do.
#define ACT_SUMMARY_MAX 1024
enum err act_summary(const struct act *act, struct buf *out);

// "rsa:3072", "ec:p256", "ed25519". False: no such type, or not one that a token is asked to
// generate.
bool act_type_by_name(const char *text, enum wire_key_type *type, unsigned *bits);
bool act_type_is_known(enum wire_key_type type, unsigned bits);
#define ACT_TYPE_SIZE 16
const char *act_type_text(enum wire_key_type type, unsigned bits, char text[ACT_TYPE_SIZE]);

// Steps through a list: the next text of *rest (comma-separated, no empty ones). False: none left.
bool act_list_next(struct bytes *rest, struct bytes *item);
