// SPDX-License-Identifier: Apache-2.0
#include "tests/support/zmtp_forger.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "hsmd/base/curve.h"
#include "tests/support/zmtp_server.h"

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

static void make_nonce(uint8_t nonce[crypto_box_NONCEBYTES], const char *prefix, const void *rest)
{
    size_t len = strlen(prefix);
    memcpy(nonce, prefix, len);
    memcpy(nonce + len, rest, crypto_box_NONCEBYTES - len);
}

static void next_number(struct zmtp_forger *forger, uint8_t number[8])
{
    forger->sent++;
    for (unsigned i = 0; i < 8; i++)
        number[i] = (uint8_t)(forger->sent >> (56 - 8 * i));
}

void zmtp_forger_init(struct zmtp_forger *forger, const char *server_public,
                      const char *client_public, const char *client_secret)
{
    *forger = (struct zmtp_forger){.version = {1, 0}};
    must(sodium_init() >= 0 && curve_decode(server_public, forger->server) &&
         curve_decode(client_public, forger->public) &&
         curve_decode(client_secret, forger->vouch_secret));
    must(crypto_box_keypair(forger->transient_public, forger->transient_secret) == 0);
    memcpy(forger->vouch_transient, forger->transient_public, 32);
    memcpy(forger->vouch_server, forger->server, 32);
}

void zmtp_forger_greeting(const char *mechanism, struct buf *out)
{
    // As libzmq 4.3 says it, but whole.
    uint8_t greeting[ZMTP_GREETING_SIZE] = {[0] = 0xff, [8] = 1, [9] = 0x7f, [10] = 3, [11] = 1};
    memcpy(greeting + 12, mechanism, strlen(mechanism));
    put(out, greeting, sizeof greeting);
}

void zmtp_forger_hello(struct zmtp_forger *forger, struct buf *out)
{
    uint8_t body[201] = "\5HELLO";
    uint8_t nonce[crypto_box_NONCEBYTES];
    memcpy(body + 6, forger->version, 2);
    memcpy(body + 80, forger->transient_public, 32);
    next_number(forger, body + 112);
    make_nonce(nonce, "CurveZMQHELLO---", body + 112);
    must(crypto_box_easy(body + 120, forger->zeros, 64U + forger->more_zeros, nonce, forger->server,
                         forger->transient_secret) == 0);
    zmtp_server_frame(ZMTP_FLAG_COMMAND, bytes_of(body, 200U + forger->more_zeros), out);
}

bool zmtp_forger_take_greeting(struct bytes greeting)
{
    static const uint8_t right[ZMTP_GREETING_SIZE] = {
        [0] = 0xff, [9] = 0x7f, [10] = 3, [12] = 'C', 'U', 'R', 'V', 'E', [32] = 1};
    return bytes_equal(greeting, bytes_of(right, sizeof right));
}

bool zmtp_forger_take_welcome(struct zmtp_forger *forger, struct bytes frame)
{
    uint8_t plain[128];
    uint8_t nonce[crypto_box_NONCEBYTES];
    if (frame.len != ZMTP_WELCOME_SIZE || memcmp(frame.data, "\4\250\7WELCOME", 10) != 0)
        return false;
    make_nonce(nonce, "WELCOME-", frame.data + 10);
    if (crypto_box_open_easy(plain, frame.data + 26, 144, nonce, forger->server,
                             forger->transient_secret) != 0)
        return false;
    memcpy(forger->vouch_to, plain, 32);
    memcpy(forger->cookie, plain + 32, sizeof forger->cookie);
    return crypto_box_beforenm(forger->session, plain, forger->transient_secret) == 0;
}

// A frame of head, a nonce and, in a box, the two of content; with the key of the session, and
// without memory but that of out.
static void put_sealed(struct zmtp_forger *forger, unsigned frame_flags, const char *prefix,
                       struct bytes head, const struct bytes content[2], struct buf *out)
{
    uint8_t number[8];
    uint8_t *box = NULL;
    uint8_t nonce[crypto_box_NONCEBYTES];
    size_t len = content[0].len + content[1].len;
    size_t whole = head.len + sizeof number + MAC + len;
    const uint8_t long_header[] = {(uint8_t)(frame_flags | ZMTP_FLAG_LONG),
                                   0,
                                   0,
                                   0,
                                   0,
                                   0,
                                   (uint8_t)(whole >> 16),
                                   (uint8_t)(whole >> 8),
                                   (uint8_t)whole};
    const uint8_t short_header[] = {(uint8_t)frame_flags, (uint8_t)whole};
    if (whole > 255)
        put(out, long_header, sizeof long_header);
    else
        put(out, short_header, sizeof short_header);
    next_number(forger, number);
    make_nonce(nonce, prefix, number);
    put(out, head.data, head.len);
    put(out, number, sizeof number);
    must(buf_reserve(out, MAC + len, &box) == ERR_OK);
    for (size_t i = 0, at = MAC; i < 2; at += content[i++].len)
        if (content[i].len)
            memcpy(box + at, content[i].data, content[i].len);
    must(crypto_box_easy_afternm(box, box + MAC, len, nonce, forger->session) == 0);
}

void zmtp_forger_initiate(struct zmtp_forger *forger, struct bytes metadata, struct buf *out)
{
    uint8_t head[9 + 96] = "\10INITIATE";
    uint8_t known[32 + 16 + 80];
    uint8_t vouched[64];
    uint8_t nonce[crypto_box_NONCEBYTES];
    memcpy(head + 9, forger->cookie, 96);
    memcpy(known, forger->public, 32);
    randombytes_buf(known + 32, 16);
    make_nonce(nonce, "VOUCH---", known + 32);
    memcpy(vouched, forger->vouch_transient, 32);
    memcpy(vouched + 32, forger->vouch_server, 32);
    must(crypto_box_easy(known + 48, vouched, 64, nonce, forger->vouch_to, forger->vouch_secret) ==
         0);
    put_sealed(forger, ZMTP_FLAG_COMMAND, "CurveZMQINITIATE", bytes_of(head, sizeof head),
               (struct bytes[]){bytes_of(known, sizeof known), metadata}, out);
}

void zmtp_forger_sealed(struct zmtp_forger *forger, unsigned frame_flags, const char *name,
                        const char *prefix, struct bytes content, struct buf *out)
{
    uint8_t head[64];
    head[0] = (uint8_t)strlen(name);
    memcpy(head + 1, name, head[0]);
    put_sealed(forger, frame_flags, prefix, bytes_of(head, 1U + head[0]),
               (struct bytes[]){content, {0}}, out);
}

void zmtp_forger_message(struct zmtp_forger *forger, unsigned flags, struct bytes content,
                         struct buf *out)
{
    uint8_t byte = (uint8_t)flags;
    put_sealed(forger, 0, "CurveZMQMESSAGEC", BYTES_LITERAL("\7MESSAGE"),
               (struct bytes[]){bytes_of(&byte, 1), content}, out);
}

// The box of a frame whose short nonce is at at.
static bool open_box(struct zmtp_forger *forger, struct bytes frame, size_t at, const char *prefix,
                     struct buf *content)
{
    uint8_t nonce[crypto_box_NONCEBYTES];
    uint8_t *place = NULL;
    uint64_t number = 0;
    if (frame.len < at + 8 + MAC)
        return false;
    for (unsigned i = 0; i < 8; i++)
        number = number << 8 | frame.data[at + i];
    make_nonce(nonce, prefix, frame.data + at);
    must(buf_reserve(content, frame.len - at - 8 - MAC, &place) == ERR_OK);
    if (number != ++forger->seen) // ours leaves out none
        return false;
    return crypto_box_open_easy_afternm(place, frame.data + at + 8, frame.len - at - 8, nonce,
                                        forger->session) == 0;
}

bool zmtp_forger_take_ready(struct zmtp_forger *forger, struct bytes frame)
{
    static const uint8_t metadata[] = "\13Socket-Type\0\0\0\6ROUTER\10Identity\0\0\0";
    struct buf content;
    buf_init(&content, SIZE_MAX);
    bool ok = frame.len == ZMTP_READY_SIZE && memcmp(frame.data, "\4\101\5READY", 8) == 0 &&
              open_box(forger, frame, 8, "CurveZMQREADY---", &content) &&
              bytes_equal(buf_bytes(&content), bytes_of(metadata, sizeof metadata));
    buf_clear(&content);
    return ok;
}

static bool take_frame(struct zmtp_forger *forger, unsigned flags, struct bytes frame,
                       struct buf *content)
{
    size_t at = (frame.len && frame.data[0] & ZMTP_FLAG_LONG ? 9 : 2) + 8;
    if (zmtp_server_frame_len(frame) != frame.len || frame.data[0] & ~ZMTP_FLAG_LONG ||
        frame.len <= at + 8 + MAC || memcmp(frame.data + at - 8, "\7MESSAGE", 8) != 0)
        return false;
    bool ok = open_box(forger, frame, at, "CurveZMQMESSAGES", content) && content->data[0] == flags;
    memmove(content->data, content->data + 1, --content->len);
    return ok;
}

bool zmtp_forger_take_message(struct zmtp_forger *forger, struct bytes frame, struct buf *content)
{
    return take_frame(forger, 0, frame, content);
}

bool zmtp_forger_take_command(struct zmtp_forger *forger, struct bytes frame, struct buf *content)
{
    return take_frame(forger, 2, frame, content);
}

bool zmtp_forger_take_denied(struct bytes frame)
{
    return bytes_equal(frame, BYTES_LITERAL("\4\12\5ERROR\3"
                                            "400"));
}
