// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "hsmd/officers/act_table.h"
#include "hsmd/officers/statement.h"
#include "hsmd/officers/words.h"
#include "hsmd/registry/registry.h"

static enum err check_name(const struct act_field *field, struct bytes name, struct detail *detail)
{
    char quoted[TEXT_QUOTED_SIZE];
    if (text_is_name((const char *)name.data, name.len))
        return ERR_OK;
    if (!name.len)
        return err_set(detail, ERR_PERM, "%s: missing", field->name);
    return err_set(
        detail, ERR_PERM, "%s: \"%s\" is not a name (1 to %d of a-z A-Z 0-9 . _ -)", field->name,
        text_quote((const char *)name.data, name.len, quoted, sizeof quoted), TEXT_NAME_MAX);
}

// Commas between items, none at the ends, nothing twice.
static enum err check_list(const struct act_field *field, struct bytes list, size_t *count,
                           struct detail *detail)
{
    struct bytes rest = list;
    struct bytes item;
    size_t len = 0; // of the list, were it written anew
    for (*count = 0; act_list_next(&rest, &item); ++*count) {
        struct bytes before = bytes_of(list.data, (size_t)(item.data - list.data));
        struct bytes other;
        len += item.len + (*count > 0);
        while (act_list_next(&before, &other)) {
            if (bytes_equal(item, other))
                return err_set(detail, ERR_PERM, "%s: one of them is there twice", field->name);
        }
    }
    if (len != list.len)
        return err_set(detail, ERR_PERM, "%s: an empty one in the list", field->name);
    return ERR_OK;
}

static enum err check_names(const struct act_field *field, struct bytes list, struct detail *detail)
{
    struct bytes rest = list;
    struct bytes item;
    size_t count = 0;
    if (list.len > ACT_PLACES_MAX * (TEXT_NAME_MAX + 1))
        return err_set(detail, ERR_PERM, "%s: too long", field->name);
    enum err err = check_list(field, list, &count, detail);
    while (err == ERR_OK && act_list_next(&rest, &item))
        err = check_name(field, item, detail);
    if (err != ERR_OK)
        return err;
    if (count == 0 && field->min)
        return err_set(detail, ERR_PERM, "%s: missing", field->name);
    if (count > field->max)
        return err_set(detail, ERR_PERM, "%s: %zu of them; at most %u", field->name, count,
                       field->max);
    return ERR_OK;
}

static enum err check_text(const struct act_field *field, struct bytes text, struct detail *detail)
{
    if (text.len < field->min)
        return err_set(detail, ERR_PERM, "%s: missing", field->name);
    if (text.len > field->max)
        return err_set(detail, ERR_PERM, "%s: more than %u bytes", field->name, field->max);
    if (!words_is_printable(text))
        return err_set(detail, ERR_PERM, "%s: not printable text in UTF-8", field->name);
    return ERR_OK;
}

static enum err check_texts(const struct act_field *field, struct bytes list, struct detail *detail)
{
    struct bytes rest = list;
    struct bytes item;
    size_t count = 0;
    if (list.len > field->max)
        return err_set(detail, ERR_PERM, "%s: more than %u bytes", field->name, field->max);
    for (size_t i = 0; i < list.len; i++) {
        // They go into IA5Strings.
        if (list.data[i] <= ' ' || list.data[i] >= 0x7f)
            return err_set(detail, ERR_PERM, "%s: not ASCII without spaces", field->name);
    }
    while (act_list_next(&rest, &item)) {
        if (item.len > ACT_TEXT_MAX)
            return err_set(detail, ERR_PERM, "%s: one of more than %d bytes", field->name,
                           ACT_TEXT_MAX);
    }
    return check_list(field, list, &count, detail);
}

static enum err check_country(const struct act_field *field, struct bytes text,
                              struct detail *detail)
{
    bool is_good = text.len == 0 || text.len == 2;
    for (size_t i = 0; is_good && i < text.len; i++)
        is_good = text.data[i] >= 'A' && text.data[i] <= 'Z';
    return is_good
               ? ERR_OK
               : err_set(detail, ERR_PERM, "%s: not two capital letters, such as DE", field->name);
}

static enum err check_curve(const struct act_field *field, struct bytes key, struct detail *detail)
{
    char text[CURVE_TEXT_SIZE] = "";
    if (key.len == CURVE_TEXT_SIZE - 1)
        memcpy(text, key.data, key.len);
    return curve_is_key(text)
               ? ERR_OK
               : err_set(detail, ERR_PERM, "%s: no CURVE key in Z85 (40 characters)", field->name);
}

static enum err check_bin(const struct act_field *field, struct bytes bin, struct detail *detail)
{
    if (bin.len < field->min)
        return err_set(detail, ERR_PERM, "%s: missing", field->name);
    return bin.len <= field->max
               ? ERR_OK
               : err_set(detail, ERR_PERM, "%s: more than %u bytes", field->name, field->max);
}

static enum err check_signing_key(const struct act_field *field, struct bytes key,
                                  struct detail *detail)
{
    return statement_is_key(key)
               ? ERR_OK
               : err_set(detail, ERR_PERM, "%s: no Ed25519 public key (32 bytes)", field->name);
}

static enum err check_public_key(const struct act_field *field, struct bytes der,
                                 struct detail *detail)
{
    enum err err = check_bin(field, der, detail);
    if (err != ERR_OK)
        return err;
    const uint8_t *at = der.data;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)der.len);
    if (!key || at != der.data + der.len ||
        (!EVP_PKEY_is_a(key, "RSA") && !EVP_PKEY_is_a(key, "EC") && !EVP_PKEY_is_a(key, "ED25519")))
        err = err_set(detail, ERR_PERM, "%s: not one public key of type RSA, EC or Ed25519",
                      field->name);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return err;
}

static enum err check_certificates(const struct act_field *field, struct bytes der,
                                   struct detail *detail)
{
    enum err err = check_bin(field, der, detail);
    const uint8_t *at = der.data;
    const uint8_t *end = at ? at + der.len : at;
    for (unsigned i = 1; err == ERR_OK && at != end; i++) {
        X509 *certificate = d2i_X509(NULL, &at, end - at);
        if (!certificate)
            err =
                err_set(detail, ERR_PERM, "%s: number %u is no certificate in DER", field->name, i);
        X509_free(certificate);
    }
    ERR_clear_error();
    return err;
}

static enum err check_number(const struct act_field *field, uint64_t number, struct detail *detail)
{
    if (number >= field->min && number <= field->max)
        return ERR_OK;
    return err_set(detail, ERR_PERM, "%s: %ju is not between %u and %u", field->name,
                   (uintmax_t)number, field->min, field->max);
}

static enum err check_enum(const struct act_field *field, unsigned number, struct detail *detail)
{
    if (field->name_of(number))
        return ERR_OK;
    return number ? err_set(detail, ERR_PERM, "%s: no such number %u", field->name, number)
                  : err_set(detail, ERR_PERM, "%s: missing", field->name);
}

static enum err check_hash(const struct act_field *field, unsigned hash, struct detail *detail)
{
    return hash >= HASH_SHA256 && hash <= HASH_SHA512
               ? ERR_OK
               : err_set(detail, ERR_PERM, "%s: not sha256, sha384 or sha512", field->name);
}

static enum err check_operations(const struct act_field *field, uint64_t set, struct detail *detail)
{
    if (!set)
        return err_set(detail, ERR_PERM, "%s: missing", field->name);
    return set & ~words_operations()
               ? err_set(detail, ERR_PERM, "%s: one that cannot be granted", field->name)
               : ERR_OK;
}

static enum err check_algorithms(const struct act_field *field, uint64_t set, struct detail *detail)
{
    if (!set)
        return err_set(detail, ERR_PERM, "%s: missing", field->name);
    return set != REGISTRY_ALL && (set & ~words_algorithms(REGISTRY_ALL))
               ? err_set(detail, ERR_PERM, "%s: one that there is not", field->name)
               : ERR_OK;
}

static enum err check_field(const struct act_field *field, const void *member,
                            struct detail *detail)
{
    switch (field->type) {
    case ACT_FIELD_NAME:
        return check_name(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_NAMES:
        return check_names(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_TEXT:
        return check_text(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_COUNTRY:
        return check_country(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_TEXTS:
        return check_texts(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_CURVE:
        return check_curve(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_BIN:
        return check_bin(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_SIGNING_KEY:
        return check_signing_key(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_PUBLIC_KEY:
        return check_public_key(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_CERTIFICATES:
        return check_certificates(field, *(const struct bytes *)member, detail);
    case ACT_FIELD_NUMBER:
        return check_number(field, *(const unsigned *)member, detail);
    case ACT_FIELD_ENUM:
        return check_enum(field, *(const unsigned *)member, detail);
    case ACT_FIELD_HASH:
        return check_hash(field, *(const unsigned *)member, detail);
    case ACT_FIELD_FLAG:
        return ERR_OK;
    case ACT_FIELD_LIMIT:
        return check_number(field, *(const uint64_t *)member, detail);
    case ACT_FIELD_OPERATIONS:
        return check_operations(field, *(const uint64_t *)member, detail);
    case ACT_FIELD_ALGORITHMS:
        return check_algorithms(field, *(const uint64_t *)member, detail);
    }
    return err_set(detail, ERR_BUG, "%s: no such type of field", field->name);
}

static size_t size_of(const struct act_field *field)
{
    switch (field->type) {
    case ACT_FIELD_NUMBER:
    case ACT_FIELD_ENUM:
    case ACT_FIELD_HASH:
        return sizeof(unsigned);
    case ACT_FIELD_FLAG:
        return sizeof(bool);
    case ACT_FIELD_LIMIT:
    case ACT_FIELD_OPERATIONS:
    case ACT_FIELD_ALGORITHMS:
        return sizeof(uint64_t);
    default:
        return sizeof(size_t); // the length of bytes
    }
}

// Nothing is set that would not be encoded: who signs would take it for signed.
static enum err check_absent(const struct act_field *field, const struct act *act,
                             struct detail *detail)
{
    static const uint8_t zeros[sizeof(uint64_t)];
    const void *member = act_field_get(field, act);
    if (field->type < ACT_FIELD_NUMBER)
        member = &((const struct bytes *)member)->len;
    for (size_t i = 0; i < act_fields_count; i++) {
        if (act_fields[i].offset == field->offset && act_field_is_of(&act_fields[i], act->kind))
            return ERR_OK; // another row says what it must be
    }
    return memcmp(member, zeros, size_of(field)) == 0
               ? ERR_OK
               : err_set(detail, ERR_PERM, "%s: %s has no such field", field->name,
                         act_kind_name(act->kind));
}

// A grant of operations whose algorithms are all left out would grant nothing, and one with
// algorithms of other operations not what it seems to.
static enum err check_grant(const struct act *act, struct detail *detail)
{
    uint64_t possible = words_algorithms(act->operations);
    if (act->algorithms == REGISTRY_ALL)
        return ERR_OK;
    if (act->algorithms & ~possible)
        return err_set(detail, ERR_PERM, "algorithms: one of an operation that is not granted");
    for (unsigned i = 0; i < 64; i++) {
        uint64_t one = REGISTRY_SET(i) & act->operations;
        if (one && !(words_algorithms(one) & act->algorithms))
            return err_set(detail, ERR_PERM, "algorithms: none for %s",
                           wire_operation_name((enum wire_operation)i));
    }
    return ERR_OK;
}

static enum err check_type(const struct act *act, struct detail *detail)
{
    if (!act_type_is_known(act->type, act->bits))
        return err_set(detail, ERR_PERM,
                       "type: not rsa:2048 to rsa:8192, ec:p256, ec:p384, ec:p521 or ed25519");
    if (act->type == WIRE_KEY_ED25519 &&
        (act->purpose == WIRE_SMIME_DECRYPT || act->purpose == WIRE_AUDIT))
        return err_set(detail, ERR_PERM, "type: an ed25519 key is not for the purpose %s",
                       wire_purpose_name(act->purpose));
    return ERR_OK;
}

enum err act_check(const struct act *act, struct detail *detail)
{
    if (!act_kind_name(act->kind))
        return err_set(detail, ERR_PERM, "act: no such kind %u", (unsigned)act->kind);
    for (size_t i = 0; i < act_fields_count; i++) {
        const struct act_field *field = &act_fields[i];
        enum err err = act_field_is_of(field, act->kind)
                           ? check_field(field, act_field_get(field, act), detail)
                           : check_absent(field, act, detail);
        if (err != ERR_OK)
            return err;
    }
    switch (act->kind) {
    case ACT_GRANT:
        return check_grant(act, detail);
    case ACT_KEY_GENERATE:
        return check_type(act, detail);
    case ACT_KEY_ADOPT:
    case ACT_KEY_PLACE:
        return act->label.len || act->id.len
                   ? ERR_OK
                   : err_set(detail, ERR_PERM, "label or id: one of them must be given");
    default:
        return ERR_OK;
    }
}
