// SPDX-License-Identifier: Apache-2.0
// A frame is packed twice: first into nothing, to learn its length, then into the place of that
// length. So the buffer grows before a byte of a secret is in it, and nothing has to be undone.
#include "hsmd/wire/wire.h"

#include <string.h>

#include <msgpack.h>

#include "hsmd/wire/table.h"

struct writer {
    uint8_t *place; // NULL: only count
    size_t len;
};

static int write_out(void *data, const char *packed, size_t len)
{
    struct writer *writer = data;
    if (writer->place)
        memcpy(writer->place + writer->len, packed, len);
    writer->len += len;
    return 0;
}

// What msgpack-c returns is what write_out returns: always 0.
static void pack_bytes(msgpack_packer *packer, enum wire_field_type type, struct bytes bytes)
{
    if (type == WIRE_FIELD_NAME)
        msgpack_pack_str(packer, bytes.len);
    else
        msgpack_pack_bin(packer, bytes.len);
    if (bytes.len)
        write_out(packer->data, (const char *)bytes.data, bytes.len);
}

static void pack_unwrapped(msgpack_packer *packer, const struct wire_unwrapped *unwrapped)
{
    struct writer *writer = packer->data;
    size_t len = unwrapped->secret.len;
    const uint8_t length[WIRE_LENGTH_SIZE] = {(uint8_t)(len >> 8), (uint8_t)len};
    msgpack_pack_bin(packer, sizeof length + unwrapped->size);
    write_out(writer, (const char *)length, sizeof length);
    for (size_t i = 0; writer->place && i < unwrapped->size; i++)
        writer->place[writer->len + i] = unwrapped->secret.data[i] & wire_mask(i, len);
    writer->len += unwrapped->size;
}

static void pack_field(msgpack_packer *packer, const struct wire_field *field, const void *member)
{
    switch (field->type) {
    case WIRE_FIELD_UINT:
        msgpack_pack_unsigned_int(packer, *(const unsigned *)member);
        break;
    case WIRE_FIELD_BOOL:
        msgpack_pack_unsigned_int(packer, *(const bool *)member);
        break;
    case WIRE_FIELD_NAME:
    case WIRE_FIELD_BIN:
        pack_bytes(packer, field->type, *(const struct bytes *)member);
        break;
    case WIRE_FIELD_UNWRAPPED:
        pack_unwrapped(packer, member);
        break;
    }
}

struct frame {
    unsigned code; // operation or class
    uint64_t id;
    struct wire_fields fields;
    const void *message;
    const struct bytes *names; // of a list: instead of fields
    size_t names_count;
};

static void pack_frame(const struct frame *frame, struct writer *writer)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, writer, write_out);
    msgpack_pack_array(&packer, WIRE_HEADER_COUNT + frame->fields.count + frame->names_count);
    msgpack_pack_unsigned_int(&packer, WIRE_VERSION);
    msgpack_pack_unsigned_int(&packer, frame->code);
    msgpack_pack_uint64(&packer, frame->id);
    for (size_t i = 0; i < frame->fields.count; i++) {
        const struct wire_field *field = &frame->fields.rows[i];
        pack_field(&packer, field, (const uint8_t *)frame->message + field->offset);
    }
    for (size_t i = 0; i < frame->names_count; i++)
        pack_bytes(&packer, WIRE_FIELD_NAME, frame->names[i]);
}

static enum err put_frame(const struct frame *frame, struct buf *out)
{
    struct writer writer = {NULL, 0};
    pack_frame(frame, &writer);
    if (writer.len > WIRE_FRAME_MAX)
        return ERR_PERM;
    enum err err = buf_reserve(out, writer.len, &writer.place);
    if (err != ERR_OK)
        return err;
    writer.len = 0;
    pack_frame(frame, &writer);
    return ERR_OK;
}

enum err wire_encode_request(const struct wire_request *request, struct buf *out)
{
    struct frame frame = {
        .code = request->operation,
        .id = request->id,
        .fields = wire_request_fields(request->operation),
        .message = request,
    };
    if (!frame.fields.rows)
        return ERR_BUG;
    enum err err = wire_check_request(request, NULL);
    if (err != ERR_OK)
        return err;
    return put_frame(&frame, out);
}

enum err wire_encode_reply(enum wire_operation operation, const struct wire_reply *reply,
                           struct buf *out)
{
    struct frame frame = {.code = reply->class, .id = reply->id, .message = reply};
    if (reply->class > ERR_BUG)
        return ERR_BUG;
    if (reply->class != ERR_OK)
        return put_frame(&frame, out);
    frame.fields = wire_reply_fields(operation);
    if (!frame.fields.rows)
        return ERR_BUG;
    enum err err = wire_check_reply(operation, reply, NULL);
    if (err != ERR_OK)
        return err;
    if (operation == WIRE_LIST) {
        frame.fields.count = 0;
        frame.names = reply->list.names;
        frame.names_count = reply->list.count;
    }
    return put_frame(&frame, out);
}
