// SPDX-License-Identifier: Apache-2.0
#include "hsmd/wire/table.h"

#include <limits.h>
#include <string.h>

#include "hsmd/base/text.h"

_Static_assert(WIRE_NAME_MAX == TEXT_NAME_MAX, "names are checked by text_is_name");
_Static_assert(sizeof(enum hash) == sizeof(unsigned) &&
                   sizeof(enum wire_algorithm) == sizeof(unsigned) &&
                   sizeof(enum wire_form) == sizeof(unsigned) &&
                   sizeof(enum wire_key_type) == sizeof(unsigned) &&
                   sizeof(enum wire_purpose) == sizeof(unsigned) &&
                   sizeof(enum wire_state) == sizeof(unsigned),
               "WIRE_FIELD_UINT reads and writes enums as unsigned");

// Whether a number is one of its enum, as a function the table can point to.
#define X(symbol, number, name, rest) \
    case symbol:                      \
        return name;
#define NAME_OF(function, VALUES)                \
    static const char *function(unsigned number) \
    {                                            \
        switch (number) {                        \
            VALUES(X)                            \
        }                                        \
        return NULL;                             \
    }
NAME_OF(algorithm_name, WIRE_ALGORITHMS)
NAME_OF(form_name, WIRE_FORMS)
NAME_OF(key_type_name, WIRE_KEY_TYPES)
NAME_OF(purpose_name, WIRE_PURPOSES)
NAME_OF(state_name, WIRE_STATES)
NAME_OF(known_hash_name, HASH_TABLE)
#undef NAME_OF
#undef X

#define REQUEST(member) offsetof(struct wire_request, member)
#define REPLY(member) offsetof(struct wire_reply, member)

static const struct wire_field sign_request[] = {
    {"key", WIRE_FIELD_NAME, REQUEST(sign.key), 1, WIRE_NAME_MAX, NULL},
    {"algorithm", WIRE_FIELD_UINT, REQUEST(sign.algorithm), 0, UINT_MAX, algorithm_name},
    {"hash", WIRE_FIELD_UINT, REQUEST(sign.hash), 0, UINT_MAX, known_hash_name},
    {"salt", WIRE_FIELD_UINT, REQUEST(sign.salt), 0, WIRE_SALT_MAX, NULL},
    {"form", WIRE_FIELD_UINT, REQUEST(sign.form), 0, UINT_MAX, form_name},
    {"data", WIRE_FIELD_BIN, REQUEST(sign.data), 1, WIRE_DATA_MAX, NULL},
};

static const struct wire_field unwrap_request[] = {
    {"key", WIRE_FIELD_NAME, REQUEST(unwrap.key), 1, WIRE_NAME_MAX, NULL},
    {"algorithm", WIRE_FIELD_UINT, REQUEST(unwrap.algorithm), 0, UINT_MAX, algorithm_name},
    {"hash", WIRE_FIELD_UINT, REQUEST(unwrap.hash), 0, UINT_MAX, known_hash_name},
    {"mgf-hash", WIRE_FIELD_UINT, REQUEST(unwrap.mgf_hash), 0, UINT_MAX, known_hash_name},
    {"label", WIRE_FIELD_BIN, REQUEST(unwrap.label), 0, WIRE_LABEL_MAX, NULL},
    {"length", WIRE_FIELD_UINT, REQUEST(unwrap.length), 0, WIRE_SECRET_MAX, NULL},
    {"ciphertext", WIRE_FIELD_BIN, REQUEST(unwrap.ciphertext), 1, WIRE_CIPHERTEXT_MAX, NULL},
};

static const struct wire_field agree_request[] = {
    {"key", WIRE_FIELD_NAME, REQUEST(agree.key), 1, WIRE_NAME_MAX, NULL},
    {"algorithm", WIRE_FIELD_UINT, REQUEST(agree.algorithm), 0, UINT_MAX, algorithm_name},
    {"hash", WIRE_FIELD_UINT, REQUEST(agree.hash), 0, UINT_MAX, known_hash_name},
    {"cofactor", WIRE_FIELD_BOOL, REQUEST(agree.cofactor), 0, 1, NULL},
    {"peer", WIRE_FIELD_BIN, REQUEST(agree.peer), 1, WIRE_POINT_MAX, NULL},
    {"info", WIRE_FIELD_BIN, REQUEST(agree.info), 0, WIRE_LABEL_MAX, NULL},
    {"length", WIRE_FIELD_UINT, REQUEST(agree.length), 1, WIRE_SECRET_MAX, NULL},
};

static const struct wire_field list_request[] = {
    {"after", WIRE_FIELD_NAME, REQUEST(list.after), 0, WIRE_NAME_MAX, NULL},
};

static const struct wire_field describe_request[] = {
    {"key", WIRE_FIELD_NAME, REQUEST(describe.key), 1, WIRE_NAME_MAX, NULL},
};

static const struct wire_field sign_reply[] = {
    {"signature", WIRE_FIELD_BIN, REPLY(signature), 1, WIRE_SIGNATURE_MAX, NULL},
};

static const struct wire_field unwrap_reply[] = {
    {"secret", WIRE_FIELD_UNWRAPPED, REPLY(unwrapped), 1, WIRE_SECRET_MAX, NULL},
};

static const struct wire_field agree_reply[] = {
    {"secret", WIRE_FIELD_BIN, REPLY(secret), 0, WIRE_SECRET_MAX, NULL},
};

static const struct wire_field list_reply[] = {
    {"name", WIRE_FIELD_NAME, REPLY(list.names), 1, WIRE_NAME_MAX, NULL},
};

static const struct wire_field describe_reply[] = {
    {"name", WIRE_FIELD_NAME, REPLY(description.name), 1, WIRE_NAME_MAX, NULL},
    {"type", WIRE_FIELD_UINT, REPLY(description.type), 0, UINT_MAX, key_type_name},
    {"purpose", WIRE_FIELD_UINT, REPLY(description.purpose), 0, UINT_MAX, purpose_name},
    {"state", WIRE_FIELD_UINT, REPLY(description.state), 0, UINT_MAX, state_name},
    {"bits", WIRE_FIELD_UINT, REPLY(description.bits), 1, WIRE_BITS_MAX, NULL},
    {"public-key", WIRE_FIELD_BIN, REPLY(description.public_key), 1, WIRE_PUBLIC_KEY_MAX, NULL},
    {"certificates", WIRE_FIELD_BIN, REPLY(description.certificates), 0, WIRE_CERTIFICATES_MAX,
     NULL},
};

#define FIELDS(rows) ((struct wire_fields){rows, sizeof(rows) / sizeof *(rows)})

struct wire_fields wire_request_fields(enum wire_operation operation)
{
    switch (operation) {
    case WIRE_SIGN:
        return FIELDS(sign_request);
    case WIRE_UNWRAP:
        return FIELDS(unwrap_request);
    case WIRE_AGREE:
        return FIELDS(agree_request);
    case WIRE_LIST:
        return FIELDS(list_request);
    case WIRE_DESCRIBE:
        return FIELDS(describe_request);
    }
    return (struct wire_fields){NULL, 0};
}

struct wire_fields wire_reply_fields(enum wire_operation operation)
{
    switch (operation) {
    case WIRE_SIGN:
        return FIELDS(sign_reply);
    case WIRE_UNWRAP:
        return FIELDS(unwrap_reply);
    case WIRE_AGREE:
        return FIELDS(agree_reply);
    case WIRE_LIST:
        return FIELDS(list_reply);
    case WIRE_DESCRIBE:
        return FIELDS(describe_reply);
    }
    return (struct wire_fields){NULL, 0};
}

static enum err check_number(const struct wire_field *field, unsigned number, struct detail *detail)
{
    if (number < field->min || number > field->max)
        return err_set(detail, ERR_PERM, "%s: %u is not between %u and %u", field->name, number,
                       field->min, field->max);
    if (field->name_of && !field->name_of(number))
        return err_set(detail, ERR_PERM, "%s: no such number %u", field->name, number);
    return ERR_OK;
}

static enum err check_length(const struct wire_field *field, size_t len, struct detail *detail)
{
    if (len < field->min || len > field->max)
        return err_set(detail, ERR_PERM, "%s: %zu bytes, not between %u and %u", field->name, len,
                       field->min, field->max);
    return ERR_OK;
}

static enum err check_unwrapped(const struct wire_field *field,
                                const struct wire_unwrapped *unwrapped, struct detail *detail)
{
    if (unwrapped->secret.len > unwrapped->size)
        return err_set(detail, ERR_PERM, "%s: longer than its place", field->name);
    return check_length(field, unwrapped->size, detail);
}

static enum err check_field(const struct wire_field *field, const void *member,
                            struct detail *detail)
{
    const struct bytes *bytes = member;
    enum err err = ERR_OK;
    switch (field->type) {
    case WIRE_FIELD_UINT:
        return check_number(field, *(const unsigned *)member, detail);
    case WIRE_FIELD_BOOL:
        return ERR_OK; // a bool has no third value; decode.c saw to it
    case WIRE_FIELD_NAME:
        err = check_length(field, bytes->len, detail);
        if (err == ERR_OK && bytes->len && !text_is_name((const char *)bytes->data, bytes->len))
            err = err_set(detail, ERR_PERM, "%s: not a name", field->name);
        return err;
    case WIRE_FIELD_BIN:
        return check_length(field, bytes->len, detail);
    case WIRE_FIELD_UNWRAPPED:
        return check_unwrapped(field, member, detail);
    }
    return ERR_BUG;
}

static enum err check_fields(struct wire_fields fields, const void *message, struct detail *detail)
{
    for (size_t i = 0; i < fields.count; i++) {
        const struct wire_field *field = &fields.rows[i];
        enum err err = check_field(field, (const uint8_t *)message + field->offset, detail);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

static enum err check_operation(enum wire_algorithm algorithm, enum wire_operation operation,
                                struct detail *detail)
{
    if (wire_algorithm_operation(algorithm) == operation)
        return ERR_OK;
    return err_set(detail, ERR_PERM, "algorithm: %s is not one of %s",
                   wire_algorithm_name(algorithm), wire_operation_name(operation));
}

// The fields are well each for itself; now whether they go together.
static enum err check_sign(const struct wire_sign *sign, struct detail *detail)
{
    enum err err = check_operation(sign->algorithm, WIRE_SIGN, detail);
    if (err != ERR_OK)
        return err;
    if (sign->salt && sign->algorithm != WIRE_RSA_PSS)
        return err_set(detail, ERR_PERM, "salt: only with rsa-pss");
    if (sign->algorithm != WIRE_EDDSA)
        return sign->form == WIRE_MESSAGE
                   ? err_set(detail, ERR_PERM, "form: message only with ed25519")
                   : ERR_OK;
    if (sign->form == WIRE_DIGEST)
        return err_set(detail, ERR_PERM, "form: no digest with ed25519");
    if (sign->hash != (sign->form == WIRE_MESSAGE ? HASH_NONE : HASH_SHA512))
        return err_set(detail, ERR_PERM, "hash: with ed25519 %s",
                       sign->form == WIRE_MESSAGE ? "and a message none" : "and attributes sha512");
    return ERR_OK;
}

static enum err check_unwrap(const struct wire_unwrap *unwrap, struct detail *detail)
{
    enum err err = check_operation(unwrap->algorithm, WIRE_UNWRAP, detail);
    if (err != ERR_OK)
        return err;
    if (unwrap->algorithm == WIRE_RSAES_OAEP) {
        if (unwrap->length)
            return err_set(detail, ERR_PERM, "length: only with rsaes-pkcs1");
        if (unwrap->hash == HASH_NONE || unwrap->mgf_hash == HASH_NONE)
            return err_set(detail, ERR_PERM, "hash, mgf-hash: rsaes-oaep needs both");
    } else if (unwrap->hash != HASH_NONE || unwrap->mgf_hash != HASH_NONE || unwrap->label.len) {
        return err_set(detail, ERR_PERM, "hash, mgf-hash, label: only with rsaes-oaep");
    }
    return ERR_OK;
}

static enum err check_agree(const struct wire_agree *agree, struct detail *detail)
{
    enum err err = check_operation(agree->algorithm, WIRE_AGREE, detail);
    if (err == ERR_OK && agree->hash == HASH_NONE)
        err = err_set(detail, ERR_PERM, "hash: ecdh-x963 needs one");
    return err;
}

enum err wire_check_request(const struct wire_request *request, struct detail *detail)
{
    enum err err = check_fields(wire_request_fields(request->operation), request, detail);
    if (err != ERR_OK)
        return err;
    switch (request->operation) {
    case WIRE_SIGN:
        return check_sign(&request->sign, detail);
    case WIRE_UNWRAP:
        return check_unwrap(&request->unwrap, detail);
    case WIRE_AGREE:
        return check_agree(&request->agree, detail);
    case WIRE_LIST:
    case WIRE_DESCRIBE:
        return ERR_OK;
    }
    return err_set(detail, ERR_PERM, "no such operation %u", request->operation);
}

enum err wire_check_reply(enum wire_operation operation, const struct wire_reply *reply,
                          struct detail *detail)
{
    struct wire_fields fields = wire_reply_fields(operation);
    if (operation != WIRE_LIST)
        return check_fields(fields, reply, detail);
    if (reply->list.count > WIRE_LIST_MAX)
        return err_set(detail, ERR_PERM, "more than %d names", WIRE_LIST_MAX);
    for (size_t i = 0; i < reply->list.count; i++) {
        enum err err = check_field(fields.rows, &reply->list.names[i], detail);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}
