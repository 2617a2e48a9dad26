// SPDX-License-Identifier: Apache-2.0
// The fields of every act, once: what act_encode writes, act_decode reads, act_fields.c explains
// and act_check.c looks at. Private to this folder and its tests.
#pragma once

#include "hsmd/officers/act.h"
#include "hsmd/officers/words.h"

enum act_field_type {
    ACT_FIELD_NAME,         // struct bytes, str: a name
    ACT_FIELD_NAMES,        // struct bytes, str: a list of names; min and max of how many
    ACT_FIELD_TEXT,         // struct bytes, str: printable; min and max of bytes
    ACT_FIELD_COUNTRY,      // struct bytes, str: empty, or two capital letters
    ACT_FIELD_TEXTS,        // struct bytes, str: a list; max of its bytes
    ACT_FIELD_CURVE,        // struct bytes, str: a CURVE key in Z85
    ACT_FIELD_BIN,          // struct bytes, bin; min and max of bytes
    ACT_FIELD_SIGNING_KEY,  // struct bytes, bin: an Ed25519 public key
    ACT_FIELD_PUBLIC_KEY,   // struct bytes, bin: SubjectPublicKeyInfo
    ACT_FIELD_CERTIFICATES, // struct bytes, bin: DER; min: 1 if there must be one
    ACT_FIELD_NUMBER,       // unsigned; min and max
    ACT_FIELD_ENUM,         // unsigned, one that name_of knows
    ACT_FIELD_HASH,         // enum hash, of those that certificates are signed with
    ACT_FIELD_FLAG,         // bool; a uint of 0 or 1
    ACT_FIELD_LIMIT,        // uint64_t, 0: none; max
    ACT_FIELD_OPERATIONS,   // uint64_t, set
    ACT_FIELD_ALGORITHMS,   // uint64_t, set; all bits: no restriction
};

struct act_field {
    const char *name; // in hsmctl's words
    enum act_field_type type;
    size_t offset; // of the member in struct act
    unsigned min;
    unsigned max;
    uint64_t kinds; // bit n: the kind of number n has it
    const char *(*name_of)(unsigned number);
};

// In the order of the encoding.
extern const struct act_field act_fields[];
extern const size_t act_fields_count;

static inline bool act_field_is_of(const struct act_field *field, enum act_kind kind)
{
    return (unsigned)kind < 64 && (field->kinds >> kind & 1) != 0;
}

static inline const void *act_field_get(const struct act_field *field, const struct act *act)
{
    return (const uint8_t *)act + field->offset;
}

// "key", "client", "officer" or "token": what an act's name is of. NULL: no name (quorum).
const char *act_kind_subject(enum act_kind kind);

// "generate key": what a summary begins with. NULL: no such kind.
const char *act_kind_verb(enum act_kind kind);

#define ACT_QUORUM_MAX 99
#define ACT_PLACES_MAX 8 // STORE_PLACES_MAX
#define ACT_LABEL_MAX 128
#define ACT_ID_MAX 64

// Whether every field is well-formed, and goes with the others (act_encode's ERR_PERM).
enum err act_check(const struct act *act, struct detail *detail);

// A line "  field: value" for every field of the act.
void words_fields(struct words *words, const struct act *act);
