// SPDX-License-Identifier: Apache-2.0
#include "hsmd/officers/message.h"

#include <string.h>

#include "hsmd/officers/message_check.h"
#include "hsmd/officers/pack.h"
#include "hsmd/wire/cursor.h"

#define HEADER_COUNT 3 // version, operation or class, id
#define READ_COUNT 3
#define PROPOSE_COUNT 6
#define VERDICT_COUNT 3
#define REPLY_COUNT 2

static size_t count_fields(uint64_t operation)
{
    switch (operation) {
    case MESSAGE_READ:
        return READ_COUNT;
    case MESSAGE_PROPOSE:
        return PROPOSE_COUNT;
    case MESSAGE_APPROVE:
    case MESSAGE_REJECT:
        return VERDICT_COUNT;
    default:
        return 0;
    }
}

static void pack_request(msgpack_packer *packer, const void *what)
{
    const struct message_request *request = what;
    msgpack_pack_array(packer, HEADER_COUNT + count_fields(request->operation));
    pack_uint(packer, MESSAGE_VERSION);
    pack_uint(packer, request->operation);
    pack_uint(packer, request->id);
    switch (request->operation) {
    case MESSAGE_READ:
        pack_uint(packer, request->read.what);
        pack_str(packer, request->read.argument);
        pack_uint(packer, request->read.offset);
        break;
    case MESSAGE_PROPOSE:
        pack_bin(packer, request->propose.statement.nonce);
        pack_uint(packer, request->propose.statement.replaces);
        pack_uint(packer, request->propose.statement.lapse);
        pack_bin(packer, request->propose.statement.act);
        pack_bin(packer, request->propose.signature);
        pack_bin(packer, request->propose.attachment);
        break;
    case MESSAGE_APPROVE:
    case MESSAGE_REJECT:
        pack_uint(packer, request->verdict.number);
        pack_bin(packer, request->verdict.digest);
        pack_bin(packer, request->verdict.signature);
        break;
    }
}

enum err message_encode_request(const struct message_request *request, struct buf *out,
                                struct detail *detail)
{
    enum err err = message_check_request(request, detail);
    if (err != ERR_OK)
        return err;
    err = pack_put(pack_request, request, MESSAGE_REQUEST_MAX, out);
    if (err == ERR_PERM)
        return err_set(detail, err, "the request is too large");
    return err == ERR_OK ? err : err_set(detail, err, "out of memory");
}

struct header {
    uint32_t count; // elements of the array
    uint64_t version;
    uint64_t code; // operation or class
    uint64_t id;   // 0 unless all of the header could be read
};

// Reads, and no judgement yet: the id is wanted even of a frame that is refused.
static void get_header(struct cursor *cursor, struct header *header)
{
    header->count = cursor_get_array(cursor);
    if (header->count < HEADER_COUNT && !cursor->error)
        cursor->error = "too few elements";
    header->version = cursor_get_uint(cursor, UINT64_MAX);
    header->code = cursor_get_uint(cursor, UINT64_MAX);
    header->id = cursor_get_uint(cursor, UINT64_MAX);
}

static enum err check_header(const struct cursor *cursor, const struct header *header,
                             size_t fields, struct detail *detail)
{
    if (cursor->error)
        return err_set(detail, ERR_PERM, "header: %s", cursor->error);
    if (header->version != MESSAGE_VERSION)
        return err_set(detail, ERR_PERM, "no such version %ju", (uintmax_t)header->version);
    if (!fields)
        return err_set(detail, ERR_PERM, "no such operation %ju", (uintmax_t)header->code);
    if (header->count != HEADER_COUNT + fields)
        return err_set(detail, ERR_PERM, "%u elements instead of %zu", header->count,
                       HEADER_COUNT + fields);
    return ERR_OK;
}

static void get_fields(struct cursor *cursor, struct message_request *request)
{
    switch (request->operation) {
    case MESSAGE_READ:
        request->read.what = (enum message_read)cursor_get_uint(cursor, UINT32_MAX);
        request->read.argument = cursor_get_str(cursor);
        request->read.offset = cursor_get_uint(cursor, UINT64_MAX);
        break;
    case MESSAGE_PROPOSE:
        request->propose.statement.nonce = cursor_get_bin(cursor);
        request->propose.statement.replaces = cursor_get_uint(cursor, UINT64_MAX);
        request->propose.statement.lapse = cursor_get_uint(cursor, UINT64_MAX);
        request->propose.statement.act = cursor_get_bin(cursor);
        request->propose.signature = cursor_get_bin(cursor);
        request->propose.attachment = cursor_get_bin(cursor);
        break;
    case MESSAGE_APPROVE:
    case MESSAGE_REJECT:
        request->verdict.number = cursor_get_uint(cursor, UINT64_MAX);
        request->verdict.digest = cursor_get_bin(cursor);
        request->verdict.signature = cursor_get_bin(cursor);
        break;
    }
}

enum err message_decode_request(struct bytes frame, struct message_request *request,
                                struct detail *detail)
{
    struct cursor cursor;
    struct header header;
    struct message_request decoded = {0};
    request->id = 0;
    if (frame.len > MESSAGE_REQUEST_MAX)
        return err_set(detail, ERR_PERM, "more than %d bytes", MESSAGE_REQUEST_MAX);
    cursor_init(&cursor, frame);
    get_header(&cursor, &header);
    request->id = header.id;
    enum err err = check_header(&cursor, &header, count_fields(header.code), detail);
    if (err != ERR_OK)
        return err;
    decoded.operation = (enum message_operation)header.code;
    decoded.id = header.id;
    get_fields(&cursor, &decoded);
    cursor_get_end(&cursor);
    if (cursor.error)
        return err_set(detail, ERR_PERM, "%s: %s", message_operation_name(decoded.operation),
                       cursor.error);
    err = message_check_request(&decoded, detail);
    if (err == ERR_OK)
        *request = decoded;
    return err;
}

static void pack_reply(msgpack_packer *packer, const void *what)
{
    const struct message_reply *reply = what;
    msgpack_pack_array(packer, HEADER_COUNT + REPLY_COUNT);
    pack_uint(packer, MESSAGE_VERSION);
    pack_uint(packer, reply->class);
    pack_uint(packer, reply->id);
    pack_str(packer, reply->detail);
    pack_bin(packer, reply->body);
}

enum err message_encode_reply(const struct message_reply *reply, struct buf *out)
{
    char detail[MESSAGE_DETAIL_MAX];
    struct message_reply cleaned = *reply;
    if (reply->detail.len > sizeof detail)
        return ERR_PERM;
    for (size_t i = 0; i < reply->detail.len; i++) {
        uint8_t c = reply->detail.data[i];
        detail[i] = c >= ' ' && c < 0x7f ? (char)c : '?';
    }
    cleaned.detail = bytes_of(detail, reply->detail.len);
    enum err err = message_check_reply(&cleaned, NULL);
    return err == ERR_OK ? pack_put(pack_reply, &cleaned, MESSAGE_REPLY_MAX, out) : err;
}

enum err message_decode_reply(struct bytes frame, struct message_reply *reply,
                              struct detail *detail)
{
    struct cursor cursor;
    struct header header;
    struct message_reply decoded = {0};
    reply->id = 0;
    if (frame.len > MESSAGE_REPLY_MAX)
        return err_set(detail, ERR_PERM, "more than %d bytes", MESSAGE_REPLY_MAX);
    cursor_init(&cursor, frame);
    get_header(&cursor, &header);
    reply->id = header.id;
    enum err err = check_header(&cursor, &header, REPLY_COUNT, detail);
    if (err != ERR_OK)
        return err;
    if (header.code > ERR_BUG)
        return err_set(detail, ERR_PERM, "no such class %ju", (uintmax_t)header.code);
    decoded.class = (enum err)header.code;
    decoded.id = header.id;
    decoded.detail = cursor_get_str(&cursor);
    decoded.body = cursor_get_bin(&cursor);
    cursor_get_end(&cursor);
    if (cursor.error)
        return err_set(detail, ERR_PERM, "reply: %s", cursor.error);
    err = message_check_reply(&decoded, detail);
    if (err == ERR_OK)
        *reply = decoded;
    return err;
}
