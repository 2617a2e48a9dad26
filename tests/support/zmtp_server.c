// SPDX-License-Identifier: Apache-2.0
#include "tests/support/zmtp_server.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "hsmd/base/curve.h"

#define MAC crypto_box_MACBYTES

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void put(struct buf *out, const void *data, size_t len)
{
    must(buf_put(out, data, len) == ERR_OK);
}

static void put_big_endian(struct buf *out, uint64_t number)
{
    for (int shift = 56; shift >= 0; shift -= 8) {
        uint8_t byte = (uint8_t)(number >> shift);
        put(out, &byte, 1);
    }
}

static uint64_t big_endian(const uint8_t *data)
{
    uint64_t number = 0;
    for (int i = 0; i < 8; i++)
        number = number << 8 | data[i];
    return number;
}

static void make_nonce(uint8_t nonce[crypto_box_NONCEBYTES], const char *prefix, const void *rest)
{
    size_t len = strlen(prefix);
    memcpy(nonce, prefix, len);
    memcpy(nonce + len, rest, crypto_box_NONCEBYTES - len);
}

void zmtp_server_init(struct zmtp_server *server, const char *secret)
{
    *server = (struct zmtp_server){0};
    must(sodium_init() >= 0 && curve_decode(secret, server->secret));
    must(crypto_box_keypair(server->transient_public, server->transient_secret) == 0);
    randombytes_buf(server->cookie, sizeof server->cookie);
}

void zmtp_server_greeting(const char *mechanism, struct buf *out)
{
    uint8_t greeting[ZMTP_GREETING_SIZE] = {[0] = 0xff, [9] = 0x7f, [10] = 3, [32] = 1};
    memcpy(greeting + 12, mechanism, strlen(mechanism));
    put(out, greeting, sizeof greeting);
}

static void put_header(unsigned flags, size_t len, struct buf *out)
{
    const uint8_t head[2] = {(uint8_t)(flags | (len > 255 ? ZMTP_FLAG_LONG : 0)), (uint8_t)len};
    put(out, head, len > 255 ? 1 : 2);
    if (len > 255)
        put_big_endian(out, len);
}

void zmtp_server_frame(unsigned flags, struct bytes body, struct buf *out)
{
    put_header(flags, body.len, out);
    put(out, body.data, body.len);
}

void zmtp_server_welcome(struct zmtp_server *server, struct buf *out)
{
    uint8_t body[168] = "\7WELCOME";
    uint8_t plain[128];
    uint8_t nonce[crypto_box_NONCEBYTES];
    randombytes_buf(body + 8, 16);
    make_nonce(nonce, "WELCOME-", body + 8);
    memcpy(plain, server->transient_public, 32);
    memcpy(plain + 32, server->cookie, 96);
    must(crypto_box_easy(body + 24, plain, sizeof plain, nonce, server->client_transient,
                         server->secret) == 0);
    must(crypto_box_beforenm(server->session, server->client_transient, server->transient_secret) ==
         0);
    zmtp_server_frame(ZMTP_FLAG_COMMAND, bytes_of(body, sizeof body), out);
}

// first and then rest in a box, without memory but that of out.
static void put_sealed(struct zmtp_server *server, unsigned frame_flags, const char *name,
                       const char *prefix, struct bytes first, struct bytes rest, struct buf *out)
{
    uint8_t *box = NULL;
    uint8_t nonce[crypto_box_NONCEBYTES];
    uint8_t name_len = (uint8_t)strlen(name);
    size_t len = first.len + rest.len;
    put_header(frame_flags, 1U + name_len + 8 + MAC + len, out);
    put(out, &name_len, 1);
    put(out, name, name_len);
    put_big_endian(out, ++server->sent);
    make_nonce(nonce, prefix, out->data + out->len - 8);
    must(buf_reserve(out, MAC, &box) == ERR_OK);
    put(out, first.data, first.len);
    put(out, rest.data, rest.len);
    box = out->data + out->len - len - MAC;
    must(crypto_box_easy_afternm(box, box + MAC, len, nonce, server->session) == 0);
}

void zmtp_server_sealed(struct zmtp_server *server, unsigned frame_flags, const char *name,
                        const char *prefix, struct bytes content, struct buf *out)
{
    put_sealed(server, frame_flags, name, prefix, content, (struct bytes){0}, out);
}

void zmtp_server_ready(struct zmtp_server *server, struct buf *out)
{
    static const char metadata[] = "\13Socket-Type\0\0\0\6ROUTER\10Identity\0\0\0";
    zmtp_server_sealed(server, ZMTP_FLAG_COMMAND, "READY", "CurveZMQREADY---",
                       bytes_of(metadata, sizeof metadata), out);
}

void zmtp_server_error(const char *reason, struct buf *out)
{
    uint8_t body[256] = "\5ERROR";
    size_t len = strlen(reason);
    body[6] = (uint8_t)len;
    memcpy(body + 7, reason, len);
    zmtp_server_frame(ZMTP_FLAG_COMMAND, bytes_of(body, 7 + len), out);
}

void zmtp_server_message(struct zmtp_server *server, unsigned flags, struct bytes content,
                         struct buf *out)
{
    uint8_t byte = (uint8_t)flags;
    put_sealed(server, 0, "MESSAGE", "CurveZMQMESSAGES", bytes_of(&byte, 1), content, out);
}

bool zmtp_server_take_greeting(struct bytes greeting)
{
    static const uint8_t tail[32] = {0};
    static const uint8_t head[] = {0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0};
    return greeting.len == ZMTP_GREETING_SIZE && memcmp(greeting.data, head, sizeof head) == 0 &&
           memcmp(greeting.data + 12, "CURVE\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20) == 0 &&
           memcmp(greeting.data + 32, tail, sizeof tail) == 0;
}

bool zmtp_server_take_hello(struct zmtp_server *server, struct bytes frame)
{
    static const uint8_t start[2 + 8 + 72] = "\4\310\5HELLO\1";
    static const uint8_t zeros[64] = {0};
    const uint8_t *body = frame.data + 2;
    uint8_t plain[64];
    uint8_t nonce[crypto_box_NONCEBYTES];
    if (frame.len != ZMTP_HELLO_SIZE || memcmp(frame.data, start, sizeof start) != 0)
        return false;
    memcpy(server->client_transient, body + 80, 32);
    server->seen = big_endian(body + 112);
    make_nonce(nonce, "CurveZMQHELLO---", body + 112);
    return crypto_box_open_easy(plain, body + 120, 80, nonce, server->client_transient,
                                server->secret) == 0 &&
           memcmp(plain, zeros, sizeof zeros) == 0;
}

// The box of a frame whose short nonce is at at, opened with the session's key.
static bool open_box(struct zmtp_server *server, struct bytes frame, size_t at, const char *prefix,
                     uint8_t *content)
{
    uint8_t nonce[crypto_box_NONCEBYTES];
    if (frame.len < at + 8 + MAC || big_endian(frame.data + at) <= server->seen)
        return false;
    make_nonce(nonce, prefix, frame.data + at);
    server->seen = big_endian(frame.data + at);
    return crypto_box_open_easy_afternm(content, frame.data + at + 8, frame.len - at - 8, nonce,
                                        server->session) == 0;
}

// The vouch: C' and S from c to S'.
static bool is_vouched(struct zmtp_server *server, const uint8_t *content)
{
    uint8_t plain[64];
    uint8_t public[32];
    uint8_t nonce[crypto_box_NONCEBYTES];
    memcpy(server->client, content, 32);
    make_nonce(nonce, "VOUCH---", content + 32);
    return crypto_box_open_easy(plain, content + 48, 80, nonce, server->client,
                                server->transient_secret) == 0 &&
           crypto_scalarmult_base(public, server->secret) == 0 &&
           memcmp(plain, server->client_transient, 32) == 0 && memcmp(plain + 32, public, 32) == 0;
}

bool zmtp_server_take_initiate(struct zmtp_server *server, struct bytes frame)
{
    static const uint8_t start[] = "\6\0\0\0\0\0\0\1\44\10INITIATE";
    static const uint8_t metadata[] = "\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0";
    uint8_t content[128 + sizeof metadata];
    return frame.len == ZMTP_INITIATE_SIZE && memcmp(frame.data, start, sizeof start - 1) == 0 &&
           memcmp(frame.data + 18, server->cookie, sizeof server->cookie) == 0 &&
           open_box(server, frame, 114, "CurveZMQINITIATE", content) &&
           is_vouched(server, content) && memcmp(content + 128, metadata, sizeof metadata) == 0;
}

size_t zmtp_server_frame_len(struct bytes bytes)
{
    bool is_long = bytes.len && bytes.data[0] & ZMTP_FLAG_LONG;
    size_t head = is_long ? 9 : 2;
    if (bytes.len < head)
        return 0;
    size_t len = head + (is_long ? (size_t)big_endian(bytes.data + 1) : bytes.data[1]);
    return len <= bytes.len ? len : 0;
}

bool zmtp_server_take_message(struct zmtp_server *server, struct bytes frame, struct buf *content)
{
    size_t at = (frame.len && frame.data[0] & ZMTP_FLAG_LONG ? 9 : 2) + 8;
    uint8_t *place = NULL;
    if (zmtp_server_frame_len(frame) != frame.len || frame.data[0] & ~ZMTP_FLAG_LONG ||
        frame.len <= at + 8 + MAC || memcmp(frame.data + at - 8, "\7MESSAGE", 8) != 0)
        return false;
    size_t len = frame.len - at - 8 - MAC;
    must(buf_reserve(content, len, &place) == ERR_OK);
    bool ok = open_box(server, frame, at, "CurveZMQMESSAGEC", place) && place[0] == 0;
    memmove(place, place + 1, len - 1);
    content->len -= ok ? 1 : len;
    return ok;
}
