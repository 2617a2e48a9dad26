// SPDX-License-Identifier: Apache-2.0
#include "tests/support/act_json.h"

#include <stdio.h>

#include "hsmd/officers/act_table.h"
#include "hsmd/registry/registry.h"

static json_t *text_json(struct bytes text)
{
    return json_stringn(text.len ? (const char *)text.data : "", text.len);
}

static json_t *hex_json(struct bytes bytes)
{
    struct buf hex;
    json_t *json = NULL;
    buf_init(&hex, 2 * bytes.len);
    if (text_put_hex(&hex, bytes) == ERR_OK)
        json = json_string(buf_text(&hex));
    buf_clear(&hex);
    return json;
}

// Appends to an array; false, and nothing is leaked, if either is NULL.
static bool append(json_t *array, json_t *item)
{
    return array && json_array_append_new(array, item) == 0;
}

static json_t *list_json(struct bytes list)
{
    json_t *array = json_array();
    struct bytes item;
    while (act_list_next(&list, &item)) {
        if (!append(array, text_json(item))) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static const char *operation_name(unsigned number)
{
    return wire_operation_name((enum wire_operation)number);
}

static const char *algorithm_name(unsigned number)
{
    return wire_algorithm_name((enum wire_algorithm)number);
}

static json_t *set_json(uint64_t set, const char *(*name_of)(unsigned number))
{
    json_t *array = json_array();
    for (unsigned i = 0; i < 64; i++) {
        const char *name = set & REGISTRY_SET(i) ? name_of(i) : NULL;
        if (name && !append(array, json_string(name))) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *field_json(const struct act_field *field, const struct act *act)
{
    const void *member = act_field_get(field, act);
    char type[ACT_TYPE_SIZE];
    const char *name = NULL;
    switch (field->type) {
    case ACT_FIELD_NAME:
    case ACT_FIELD_TEXT:
    case ACT_FIELD_COUNTRY:
    case ACT_FIELD_CURVE:
        return text_json(*(const struct bytes *)member);
    case ACT_FIELD_NAMES:
    case ACT_FIELD_TEXTS:
        return list_json(*(const struct bytes *)member);
    case ACT_FIELD_BIN:
    case ACT_FIELD_SIGNING_KEY:
    case ACT_FIELD_PUBLIC_KEY:
    case ACT_FIELD_CERTIFICATES:
        return hex_json(*(const struct bytes *)member);
    case ACT_FIELD_NUMBER:
        return json_integer(*(const unsigned *)member);
    case ACT_FIELD_ENUM:
        if (field->offset == offsetof(struct act, type))
            return json_string(act_type_text(act->type, act->bits, type));
        name = field->name_of(*(const unsigned *)member);
        return name ? json_string(name) : json_null();
    case ACT_FIELD_HASH:
        return json_string(hash_name(*(const enum hash *)member));
    case ACT_FIELD_FLAG:
        return json_boolean(*(const bool *)member);
    case ACT_FIELD_LIMIT: {
        uint64_t limit = *(const uint64_t *)member;
        return limit ? json_integer((json_int_t)limit) : json_null();
    }
    case ACT_FIELD_OPERATIONS:
        return set_json(*(const uint64_t *)member, operation_name);
    case ACT_FIELD_ALGORITHMS: {
        uint64_t set = *(const uint64_t *)member;
        return set == REGISTRY_ALL ? json_null() : set_json(set, algorithm_name);
    }
    }
    return NULL;
}

// Words are joined by _ in JSON.
static void json_name(const struct act_field *field, char *name, size_t size)
{
    snprintf(name, size, "%s", field->name);
    for (; *name; name++) {
        if (*name == '-')
            *name = '_';
    }
}

json_t *act_json(const struct act *act)
{
    const char *kind = act_kind_name(act->kind);
    json_t *json = kind ? json_pack("{s:s}", "kind", kind) : NULL;
    for (size_t i = 0; json && i < act_fields_count; i++) {
        const struct act_field *field = &act_fields[i];
        char name[32];
        // type says the bits.
        if (!act_field_is_of(field, act->kind) || field->offset == offsetof(struct act, bits))
            continue;
        json_name(field, name, sizeof name);
        if (json_object_set_new(json, name, field_json(field, act)) != 0) {
            json_decref(json);
            json = NULL;
        }
    }
    return json;
}
