// SPDX-License-Identifier: Apache-2.0
#include "hsmd/officers/act.h"

#include <limits.h>
#include <string.h>

#include "hsmd/officers/act_table.h"
#include "hsmd/officers/pack.h"
#include "hsmd/wire/cursor.h"

#define HEADER_COUNT 2 // version, kind

static size_t count_fields(enum act_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < act_fields_count; i++)
        count += act_field_is_of(&act_fields[i], kind);
    return count;
}

static void pack_field(msgpack_packer *packer, const struct act_field *field, const struct act *act)
{
    const void *member = act_field_get(field, act);
    switch (field->type) {
    case ACT_FIELD_NAME:
    case ACT_FIELD_NAMES:
    case ACT_FIELD_TEXT:
    case ACT_FIELD_COUNTRY:
    case ACT_FIELD_TEXTS:
    case ACT_FIELD_CURVE:
        pack_str(packer, *(const struct bytes *)member);
        break;
    case ACT_FIELD_BIN:
    case ACT_FIELD_SIGNING_KEY:
    case ACT_FIELD_PUBLIC_KEY:
    case ACT_FIELD_CERTIFICATES:
        pack_bin(packer, *(const struct bytes *)member);
        break;
    case ACT_FIELD_NUMBER:
    case ACT_FIELD_ENUM:
    case ACT_FIELD_HASH:
        pack_uint(packer, *(const unsigned *)member);
        break;
    case ACT_FIELD_FLAG:
        pack_uint(packer, *(const bool *)member);
        break;
    case ACT_FIELD_LIMIT:
    case ACT_FIELD_OPERATIONS:
    case ACT_FIELD_ALGORITHMS:
        pack_uint(packer, *(const uint64_t *)member);
        break;
    }
}

static void pack_act(msgpack_packer *packer, const void *what)
{
    const struct act *act = what;
    msgpack_pack_array(packer, HEADER_COUNT + count_fields(act->kind));
    pack_uint(packer, ACT_VERSION);
    pack_uint(packer, act->kind);
    for (size_t i = 0; i < act_fields_count; i++) {
        if (act_field_is_of(&act_fields[i], act->kind))
            pack_field(packer, &act_fields[i], act);
    }
}

static enum err put_act(const struct act *act, struct buf *out, struct detail *detail)
{
    enum err err = pack_put(pack_act, act, ACT_SIZE_MAX, out);
    if (err == ERR_PERM)
        return err_set(detail, err, "the act is too large");
    return err == ERR_OK ? err : err_set(detail, err, "out of memory");
}

enum err act_encode(const struct act *act, struct buf *out, struct detail *detail)
{
    enum err err = act_check(act, detail);
    return err == ERR_OK ? put_act(act, out, detail) : err;
}

static void get_field(struct cursor *cursor, const struct act_field *field, struct act *act)
{
    void *member = (uint8_t *)act + field->offset;
    switch (field->type) {
    case ACT_FIELD_NAME:
    case ACT_FIELD_NAMES:
    case ACT_FIELD_TEXT:
    case ACT_FIELD_COUNTRY:
    case ACT_FIELD_TEXTS:
    case ACT_FIELD_CURVE:
        *(struct bytes *)member = cursor_get_str(cursor);
        break;
    case ACT_FIELD_BIN:
    case ACT_FIELD_SIGNING_KEY:
    case ACT_FIELD_PUBLIC_KEY:
    case ACT_FIELD_CERTIFICATES:
        *(struct bytes *)member = cursor_get_bin(cursor);
        break;
    case ACT_FIELD_NUMBER:
    case ACT_FIELD_ENUM:
    case ACT_FIELD_HASH:
        *(unsigned *)member = (unsigned)cursor_get_uint(cursor, UINT_MAX);
        break;
    case ACT_FIELD_FLAG:
        *(bool *)member = cursor_get_uint(cursor, 1) == 1;
        break;
    case ACT_FIELD_LIMIT:
    case ACT_FIELD_OPERATIONS:
    case ACT_FIELD_ALGORITHMS:
        *(uint64_t *)member = cursor_get_uint(cursor, UINT64_MAX);
        break;
    }
}

static enum err get_act(struct cursor *cursor, struct act *act, struct detail *detail)
{
    uint32_t count = cursor_get_array(cursor);
    uint64_t version = cursor_get_uint(cursor, UINT64_MAX);
    unsigned kind = (unsigned)cursor_get_uint(cursor, UINT_MAX);
    if (cursor->error)
        return err_set(detail, ERR_PERM, "act: %s", cursor->error);
    if (version != ACT_VERSION)
        return err_set(detail, ERR_PERM, "act: no such version %ju", (uintmax_t)version);
    if (!act_kind_name((enum act_kind)kind))
        return err_set(detail, ERR_PERM, "act: no such kind %u", kind);
    act->kind = (enum act_kind)kind;
    if (count != HEADER_COUNT + count_fields(act->kind))
        return err_set(detail, ERR_PERM, "act: %u elements instead of %zu", count,
                       HEADER_COUNT + count_fields(act->kind));
    for (size_t i = 0; i < act_fields_count; i++) {
        if (!act_field_is_of(&act_fields[i], act->kind))
            continue;
        get_field(cursor, &act_fields[i], act);
        if (cursor->error)
            return err_set(detail, ERR_PERM, "%s: %s", act_fields[i].name, cursor->error);
    }
    cursor_get_end(cursor);
    return cursor->error ? err_set(detail, ERR_PERM, "act: %s", cursor->error) : ERR_OK;
}

// The cursor takes longer forms of lengths and numbers; one act has one encoding.
static enum err check_canonical(const struct act *act, struct bytes encoding, struct detail *detail)
{
    struct buf again;
    buf_init(&again, ACT_SIZE_MAX);
    enum err err = put_act(act, &again, detail);
    if (err == ERR_OK && !bytes_equal(buf_bytes(&again), encoding))
        err = err_set(detail, ERR_PERM, "act: not in its shortest encoding");
    buf_clear(&again);
    return err;
}

enum err act_decode(struct bytes encoding, struct act *act, struct detail *detail)
{
    struct cursor cursor;
    struct act decoded = {0};
    if (encoding.len > ACT_SIZE_MAX)
        return err_set(detail, ERR_PERM, "act: more than %d bytes", ACT_SIZE_MAX);
    cursor_init(&cursor, encoding);
    enum err err = get_act(&cursor, &decoded, detail);
    if (err == ERR_OK)
        err = act_check(&decoded, detail);
    if (err == ERR_OK)
        err = check_canonical(&decoded, encoding, detail);
    if (err == ERR_OK)
        *act = decoded;
    return err;
}

bool act_list_next(struct bytes *rest, struct bytes *item)
{
    while (rest->len && rest->data[0] == ',')
        *rest = bytes_of(rest->data + 1, rest->len - 1);
    if (!rest->len)
        return false;
    const uint8_t *comma = memchr(rest->data, ',', rest->len);
    size_t len = comma ? (size_t)(comma - rest->data) : rest->len;
    *item = bytes_of(rest->data, len);
    *rest = bytes_of(rest->data + len, rest->len - len);
    return true;
}
