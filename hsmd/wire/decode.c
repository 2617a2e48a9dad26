// SPDX-License-Identifier: Apache-2.0
#include "hsmd/wire/wire.h"

#include <limits.h>

#include "hsmd/wire/cursor.h"
#include "hsmd/wire/table.h"

struct header {
    uint32_t count; // elements of the array
    uint64_t version;
    uint64_t code; // operation or class
    uint64_t id;   // 0 unless all of the header could be read
};

// Reads what every frame begins with, and no judgement yet: the id is wanted even of a frame that
// is refused.
static void get_header(struct cursor *cursor, struct header *header)
{
    header->count = cursor_get_array(cursor);
    if (header->count < WIRE_HEADER_COUNT && !cursor->error)
        cursor->error = "too few elements";
    header->version = cursor_get_uint(cursor, UINT64_MAX);
    header->code = cursor_get_uint(cursor, UINT64_MAX);
    header->id = cursor_get_uint(cursor, UINT64_MAX);
}

static enum err check_header(const struct cursor *cursor, const struct header *header,
                             struct detail *detail)
{
    if (cursor->error)
        return err_set(detail, ERR_PERM, "header: %s", cursor->error);
    if (header->version != WIRE_VERSION)
        return err_set(detail, ERR_PERM, "no such version %ju", (uintmax_t)header->version);
    return ERR_OK;
}

static enum err check_count(const struct header *header, size_t fields, struct detail *detail)
{
    if (header->count == WIRE_HEADER_COUNT + fields)
        return ERR_OK;
    return err_set(detail, ERR_PERM, "%u elements instead of %zu", header->count,
                   WIRE_HEADER_COUNT + fields);
}

static struct wire_unwrapped get_unwrapped(struct cursor *cursor)
{
    struct bytes place = cursor_get_bin(cursor);
    uint8_t rest = 0;
    if (!cursor->error && place.len < WIRE_LENGTH_SIZE)
        cursor->error = "without a length";
    if (cursor->error)
        return (struct wire_unwrapped){0};
    size_t len = (size_t)(place.data[0] << 8 | place.data[1]);
    place = bytes_of(place.data + WIRE_LENGTH_SIZE, place.len - WIRE_LENGTH_SIZE);
    for (size_t i = 0; i < place.len; i++)
        rest |= place.data[i] & (uint8_t)~wire_mask(i, len);
    if (len > place.len || rest)
        cursor->error = "a length that is not the secret's";
    return (struct wire_unwrapped){bytes_of(place.data, len), place.len};
}

static void get_field(struct cursor *cursor, const struct wire_field *field, void *member)
{
    switch (field->type) {
    case WIRE_FIELD_UINT:
        *(unsigned *)member = (unsigned)cursor_get_uint(cursor, UINT_MAX);
        break;
    case WIRE_FIELD_BOOL:
        *(bool *)member = cursor_get_uint(cursor, 1) == 1;
        break;
    case WIRE_FIELD_NAME:
        *(struct bytes *)member = cursor_get_str(cursor);
        break;
    case WIRE_FIELD_BIN:
        *(struct bytes *)member = cursor_get_bin(cursor);
        break;
    case WIRE_FIELD_UNWRAPPED:
        *(struct wire_unwrapped *)member = get_unwrapped(cursor);
        break;
    }
}

static enum err get_fields(struct cursor *cursor, struct wire_fields fields, void *message,
                           struct detail *detail)
{
    for (size_t i = 0; i < fields.count; i++) {
        const struct wire_field *field = &fields.rows[i];
        get_field(cursor, field, (uint8_t *)message + field->offset);
        if (cursor->error)
            return err_set(detail, ERR_PERM, "%s: %s", field->name, cursor->error);
    }
    return ERR_OK;
}

static enum err get_names(struct cursor *cursor, size_t count, struct wire_reply *reply,
                          struct detail *detail)
{
    if (count > WIRE_LIST_MAX)
        return err_set(detail, ERR_PERM, "more than %d names", WIRE_LIST_MAX);
    reply->list.count = count;
    for (size_t i = 0; i < count; i++)
        reply->list.names[i] = cursor_get_str(cursor);
    if (cursor->error)
        return err_set(detail, ERR_PERM, "names: %s", cursor->error);
    return ERR_OK;
}

static enum err check_end(struct cursor *cursor, struct detail *detail)
{
    cursor_get_end(cursor);
    return cursor->error ? err_set(detail, ERR_PERM, "%s", cursor->error) : ERR_OK;
}

enum err wire_decode_request(struct bytes frame, struct wire_request *request,
                             struct detail *detail)
{
    struct cursor cursor;
    struct header header;
    struct wire_request decoded = {0};
    cursor_init(&cursor, frame);
    get_header(&cursor, &header);
    request->id = header.id;
    enum err err = check_header(&cursor, &header, detail);
    if (err != ERR_OK)
        return err;
    struct wire_fields fields = {NULL, 0};
    if (header.code <= UINT_MAX)
        fields = wire_request_fields((enum wire_operation)header.code);
    if (!fields.rows)
        return err_set(detail, ERR_PERM, "no such operation %ju", (uintmax_t)header.code);
    decoded.operation = (enum wire_operation)header.code;
    decoded.id = header.id;
    err = check_count(&header, fields.count, detail);
    if (err == ERR_OK)
        err = get_fields(&cursor, fields, &decoded, detail);
    if (err == ERR_OK)
        err = check_end(&cursor, detail);
    if (err == ERR_OK)
        err = wire_check_request(&decoded, detail);
    if (err == ERR_OK)
        *request = decoded;
    return err;
}

// The fields of a reply of class ok.
static enum err get_answer(struct cursor *cursor, const struct header *header,
                           enum wire_operation operation, struct wire_reply *reply,
                           struct detail *detail)
{
    struct wire_fields fields = wire_reply_fields(operation);
    if (!fields.rows)
        return err_set(detail, ERR_BUG, "no such operation %u", operation);
    if (operation == WIRE_LIST)
        return get_names(cursor, header->count - WIRE_HEADER_COUNT, reply, detail);
    enum err err = check_count(header, fields.count, detail);
    return err == ERR_OK ? get_fields(cursor, fields, reply, detail) : err;
}

enum err wire_decode_reply(enum wire_operation operation, struct bytes frame,
                           struct wire_reply *reply, struct detail *detail)
{
    struct cursor cursor;
    struct header header;
    struct wire_reply decoded = {0};
    cursor_init(&cursor, frame);
    get_header(&cursor, &header);
    reply->id = header.id;
    enum err err = check_header(&cursor, &header, detail);
    if (err != ERR_OK)
        return err;
    if (header.code > ERR_BUG)
        return err_set(detail, ERR_PERM, "no such class %ju", (uintmax_t)header.code);
    decoded.class = (enum err)header.code;
    decoded.id = header.id;
    if (decoded.class == ERR_OK)
        err = get_answer(&cursor, &header, operation, &decoded, detail);
    else
        err = check_count(&header, 0, detail);
    if (err == ERR_OK)
        err = check_end(&cursor, detail);
    if (err == ERR_OK && decoded.class == ERR_OK)
        err = wire_check_reply(operation, &decoded, detail);
    if (err == ERR_OK)
        *reply = decoded;
    return err;
}
