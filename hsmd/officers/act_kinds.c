// SPDX-License-Identifier: Apache-2.0
// Names of kinds, roles and types.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsmd/officers/act_table.h"

#define RSA_BITS_MIN 2048 // as tokens are asked for (pkcs11/token_admin.h)
#define RSA_BITS_MAX 8192
#define ED25519_BITS 256

const char *act_kind_name(enum act_kind kind)
{
    switch (kind) {
#define X(symbol, number, name, attachment, verb) \
    case symbol:                                  \
        return name;
        ACT_KINDS(X)
#undef X
    }
    return NULL;
}

const char *act_kind_verb(enum act_kind kind)
{
    switch (kind) {
#define X(symbol, number, name, attachment, verb) \
    case symbol:                                  \
        return verb;
        ACT_KINDS(X)
#undef X
    }
    return NULL;
}

char act_attachment(enum act_kind kind)
{
    switch (kind) {
#define X(symbol, number, name, attachment, verb) \
    case symbol:                                  \
        return attachment;
        ACT_KINDS(X)
#undef X
    }
    return ' ';
}

const char *act_kind_subject(enum act_kind kind)
{
    switch (kind) {
    case ACT_CLIENT_ADD:
    case ACT_CLIENT_REVOKE:
    case ACT_GRANT:
    case ACT_UNGRANT:
        return "client";
    case ACT_OFFICER_ADD:
    case ACT_OFFICER_REMOVE:
        return "officer";
    case ACT_UNLOCK:
    case ACT_LOCK:
        return "token";
    case ACT_QUORUM:
        return NULL;
    default:
        return "key";
    }
}

const char *officer_role_name(enum officer_role role)
{
    switch (role) {
#define X(symbol, number, name) \
    case symbol:                \
        return name;
        OFFICER_ROLES(X)
#undef X
    }
    return NULL;
}

enum officer_role officer_role_by_name(const char *name)
{
#define X(symbol, number, text)  \
    if (strcmp(name, text) == 0) \
        return symbol;
    OFFICER_ROLES(X)
#undef X
    return (enum officer_role)0;
}

bool act_type_is_known(enum wire_key_type type, unsigned bits)
{
    if (type == WIRE_KEY_RSA)
        return bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX && bits % 8 == 0;
    if (type == WIRE_KEY_ED25519)
        return bits == ED25519_BITS;
    return type == WIRE_KEY_EC && (bits == 256 || bits == 384 || bits == 521);
}

bool act_type_by_name(const char *text, enum wire_key_type *type, unsigned *bits)
{
    static const struct {
        const char *prefix;
        enum wire_key_type type;
    } types[] = {{"rsa:", WIRE_KEY_RSA}, {"ec:p", WIRE_KEY_EC}};
    if (strcmp(text, "ed25519") == 0) {
        *type = WIRE_KEY_ED25519;
        *bits = ED25519_BITS;
        return true;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const char *digits = text + strlen(types[i].prefix);
        if (strncmp(text, types[i].prefix, strlen(types[i].prefix)) != 0)
            continue;
        // No sign, no leading zero, nothing behind.
        if (strlen(digits) > 5 || digits[0] == '0' ||
            strspn(digits, "0123456789") != strlen(digits))
            return false;
        unsigned number = (unsigned)strtoul(digits, NULL, 10);
        if (!act_type_is_known(types[i].type, number))
            return false;
        *type = types[i].type;
        *bits = number;
        return true;
    }
    return false;
}

const char *act_type_text(enum wire_key_type type, unsigned bits, char text[ACT_TYPE_SIZE])
{
    if (type == WIRE_KEY_ED25519)
        snprintf(text, ACT_TYPE_SIZE, "ed25519");
    else
        snprintf(text, ACT_TYPE_SIZE, type == WIRE_KEY_EC ? "ec:p%u" : "rsa:%u", bits);
    return text;
}
