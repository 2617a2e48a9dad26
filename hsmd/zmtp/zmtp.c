// SPDX-License-Identifier: Apache-2.0
#include "hsmd/zmtp/zmtp.h"

#include <stdatomic.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/zmtp/zmtp_internal.h"

#define GREETING_SIZE 64
#define MECHANISM_AT 12
#define MECHANISM_SIZE 20
#define AS_SERVER_AT 32
#define FLAG_LONG 2
#define FLAG_COMMAND 4
#define SHORT_MAX 255
#define HEADER_MAX 9         // flags and a length of 8 bytes
#define HANDSHAKE_FRAME 1024 // all that one who is not known yet can make us keep
#define READ_AHEAD 65536     // of the message after the one that is awaited
#define ROOM_KEPT 4096       // by a buffer with nothing in it: most connections have nothing to do
#define INNER_MORE 1         // flags in the box of a MESSAGE
#define INNER_COMMAND 2
#define NAME_PING "\4PING"
#define NAME_PONG "\4PONG"
#define TTL 2         // of PING
#define CONTEXT 16    // of PING and PONG, at most
#define PONG_MAX 4096 // bytes of output that wait, and no PONG behind them: they are a sign of life

bool zmtp_has_sodium(void)
{
    static atomic_bool is_ready;
    if (!atomic_load(&is_ready))
        atomic_store(&is_ready, sodium_init() >= 0);
    return atomic_load(&is_ready);
}

static void put_number(uint8_t place[8], uint64_t number)
{
    for (unsigned i = 0; i < 8; i++)
        place[i] = (uint8_t)(number >> (56 - 8 * i));
}

static uint64_t get_number(const uint8_t place[8])
{
    uint64_t number = 0;
    for (unsigned i = 0; i < 8; i++)
        number = number << 8 | place[i];
    return number;
}

void zmtp_short_nonce(uint8_t nonce[NONCE], const char *prefix, uint64_t number)
{
    memcpy(nonce, prefix, LONG_NONCE);
    put_number(nonce + LONG_NONCE, number);
}

void zmtp_long_nonce(uint8_t nonce[NONCE], const char *prefix, const uint8_t number[LONG_NONCE])
{
    memcpy(nonce, prefix, SHORT_NONCE);
    memcpy(nonce + SHORT_NONCE, number, LONG_NONCE);
}

static enum err put_header(struct buf *out, uint8_t flags, size_t len)
{
    uint8_t header[HEADER_MAX] = {flags, (uint8_t)len};
    if (len > SHORT_MAX) {
        header[0] |= FLAG_LONG;
        put_number(header + 1, len);
    }
    return buf_put(out, header, len > SHORT_MAX ? HEADER_MAX : 2);
}

static enum err put_greeting(struct zmtp *zmtp)
{
    uint8_t greeting[GREETING_SIZE] = {[0] = 0xff, [9] = 0x7f, [10] = 3, [MECHANISM_AT] = 'C',
                                       'U',        'R',        'V',      'E'};
    greeting[AS_SERVER_AT] = zmtp->half->is_server;
    return buf_put(&zmtp->out, greeting, sizeof greeting);
}

enum err zmtp_make(const struct zmtp_half *half, size_t frame_max, struct zmtp **zmtp,
                   struct detail *detail)
{
    struct zmtp *made = mem_calloc(1, sizeof *made);
    if (!made)
        return err_set(detail, ERR_TEMP, "out of memory");
    made->half = half;
    made->frame_max = frame_max + NAME_SIZE(NAME_MESSAGE) + SHORT_NONCE + MAC + 1;
    buf_init(&made->in, 2 * (made->frame_max + HEADER_MAX) + READ_AHEAD);
    buf_init(&made->out, SIZE_MAX);
    buf_init(&made->kept, SIZE_MAX);
    made->handshake = mem_calloc(1, half->handshake_size);
    if (!made->handshake || put_greeting(made) != ERR_OK) {
        zmtp_free(made);
        return err_set(detail, ERR_TEMP, "out of memory");
    }
    *zmtp = made;
    return ERR_OK;
}

static void wipe(struct buf *buf)
{
    if (buf->data)
        explicit_bzero(buf->data, buf->len);
    buf_clear(buf);
}

static void wipe_handshake(struct zmtp *zmtp)
{
    if (zmtp->handshake)
        explicit_bzero(zmtp->handshake, zmtp->half->handshake_size);
    mem_free(zmtp->handshake);
    zmtp->handshake = NULL;
}

void zmtp_free(struct zmtp *zmtp)
{
    if (!zmtp)
        return;
    wipe(&zmtp->kept);
    wipe_handshake(zmtp);
    buf_clear(&zmtp->in);
    buf_clear(&zmtp->out);
    explicit_bzero(zmtp, sizeof *zmtp);
    mem_free(zmtp);
}

enum zmtp_state zmtp_state(const struct zmtp *zmtp)
{
    return zmtp->state;
}

enum zmtp_state zmtp_reached(const struct zmtp *zmtp)
{
    return zmtp->state > ZMTP_READY ? zmtp->reached : zmtp->state;
}

const char *zmtp_peer(const struct zmtp *zmtp)
{
    return *zmtp->peer ? zmtp->peer : NULL;
}

struct bytes zmtp_output(const struct zmtp *zmtp)
{
    return zmtp->out.data ? bytes_of(zmtp->out.data + zmtp->written, zmtp->out.len - zmtp->written)
                          : (struct bytes){0};
}

void zmtp_written(struct zmtp *zmtp, size_t len)
{
    struct buf *out = &zmtp->out;
    zmtp->written += len;
    if (zmtp->written == out->len) {
        buf_empty(out, ROOM_KEPT);
    } else if (zmtp->written >= ROOM_KEPT && zmtp->written >= out->len / 2) {
        // There may always be something left; no more is moved than was written.
        out->len -= zmtp->written;
        memmove(out->data, out->data + zmtp->written, out->len);
    } else {
        return;
    }
    zmtp->written = 0;
}

static size_t held(const struct zmtp *zmtp)
{
    return zmtp->in.len - zmtp->taken;
}

static enum err hold(struct zmtp *zmtp, struct bytes bytes)
{
    struct buf *in = &zmtp->in;
    if (zmtp->taken) {
        in->len -= zmtp->taken;
        memmove(in->data, in->data + zmtp->taken, in->len);
        zmtp->taken = 0;
    }
    return buf_put_bytes(in, bytes);
}

static void consume(struct zmtp *zmtp, size_t len)
{
    zmtp->taken += len;
    if (zmtp->taken < zmtp->in.len)
        return;
    zmtp->taken = 0;
    buf_empty(&zmtp->in, ROOM_KEPT);
}

enum err zmtp_fail(struct zmtp *zmtp, enum zmtp_state state)
{
    zmtp->reached = zmtp->state;
    zmtp->state = state;
    return ERR_PERM;
}

// *is_whole: frame is set. ERR_PERM: it is longer than may come, or not of the kind.
static enum err next_frame(const struct zmtp *zmtp, struct zmtp_frame *frame, bool *is_whole)
{
    const bool is_ready = zmtp->state == ZMTP_READY;
    size_t have = held(zmtp);
    *is_whole = false;
    if (!have)
        return ERR_OK;
    uint8_t *start = zmtp->in.data + zmtp->taken;
    if ((start[0] & ~FLAG_LONG) != (is_ready ? 0 : FLAG_COMMAND))
        return ERR_PERM;
    size_t header = start[0] & FLAG_LONG ? HEADER_MAX : 2;
    if (have < header)
        return ERR_OK;
    uint64_t len = header == 2 ? start[1] : get_number(start + 1);
    if (len > (is_ready ? zmtp->frame_max : HANDSHAKE_FRAME))
        return ERR_PERM;
    *frame = (struct zmtp_frame){start + header, (size_t)len, header + (size_t)len};
    *is_whole = have >= frame->whole;
    return ERR_OK;
}

enum err zmtp_put_command(struct zmtp *zmtp, const struct bytes *parts, size_t count)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += parts[i].len;
    enum err err = put_header(&zmtp->out, FLAG_COMMAND, len);
    for (size_t i = 0; i < count && err == ERR_OK; i++)
        err = buf_put_bytes(&zmtp->out, parts[i]);
    return err;
}

bool zmtp_has_name(const struct zmtp_frame *frame, struct bytes name, size_t least)
{
    return frame->len >= name.len + least && memcmp(frame->body, name.data, name.len) == 0;
}

bool zmtp_open_box(struct zmtp *zmtp, const struct zmtp_frame *frame, size_t at, const char *prefix,
                   const uint8_t key[KEY], struct bytes *content)
{
    uint8_t nonce[NONCE];
    uint64_t number = get_number(frame->body + at);
    uint8_t *box = frame->body + at + SHORT_NONCE;
    size_t len = frame->len - at - SHORT_NONCE;
    if (number <= zmtp->seen)
        return false;
    zmtp_short_nonce(nonce, prefix, number);
    if (crypto_box_open_easy_afternm(box + MAC, box, len, nonce, key) != 0)
        return false;
    zmtp->seen = number;
    *content = bytes_of(box + MAC, len - MAC);
    return true;
}

// As far as it has come. Another protocol's peer may say a line, shorter than a greeting, and wait;
// and an older ZMTP ends its greeting sooner. libzmq says that it is no server even if it is one.
static bool is_greeting(const uint8_t *data, size_t len, bool is_server)
{
    static const char curve[MECHANISM_SIZE] = "CURVE";
    size_t name = len < MECHANISM_AT ? 0 : len - MECHANISM_AT;
    return (len < 1 || data[0] == 0xff) && (len < 10 || data[9] & 1) &&
           (len < 11 || data[10] >= 3) &&
           (!name || memcmp(data + MECHANISM_AT, curve,
                            name < MECHANISM_SIZE ? name : MECHANISM_SIZE) == 0) &&
           (!is_server || len <= AS_SERVER_AT || data[AS_SERVER_AT] == 0);
}

static enum err take_greeting(struct zmtp *zmtp)
{
    size_t have = held(zmtp);
    if (!is_greeting(zmtp->in.data, have < GREETING_SIZE ? have : GREETING_SIZE,
                     zmtp->half->is_server))
        return zmtp_fail(zmtp, ZMTP_UNTRUSTED);
    if (have < GREETING_SIZE)
        return ERR_OK;
    consume(zmtp, GREETING_SIZE);
    return zmtp->half->greet(zmtp);
}

static enum err take_command(struct zmtp *zmtp, bool *is_taken)
{
    struct zmtp_frame frame;
    if (next_frame(zmtp, &frame, is_taken) != ERR_OK)
        return zmtp_fail(zmtp, ZMTP_UNTRUSTED);
    if (!*is_taken)
        return ERR_OK;
    enum err err = zmtp->half->take(zmtp, &frame);
    if (err == ERR_OK)
        consume(zmtp, frame.whole);
    return err;
}

static enum err take_handshake(struct zmtp *zmtp)
{
    bool is_taken = true;
    enum err err = zmtp->state == ZMTP_GREETING ? take_greeting(zmtp) : ERR_OK;
    while (err == ERR_OK && is_taken && zmtp->state > ZMTP_GREETING && zmtp->state < ZMTP_READY)
        err = take_command(zmtp, &is_taken);
    if (zmtp->state == ZMTP_READY && !zmtp->in.len)
        buf_clear(&zmtp->in); // there may never be a message
    return err;
}

enum err zmtp_feed(struct zmtp *zmtp, struct bytes bytes)
{
    enum err err = zmtp->state <= ZMTP_READY ? ERR_OK : ERR_PERM;
    // There is always room: the longest command has been taken when it is full.
    while (err == ERR_OK && bytes.len && zmtp->state < ZMTP_READY) {
        size_t room = HEADER_MAX + HANDSHAKE_FRAME - held(zmtp);
        size_t len = bytes.len < room ? bytes.len : room;
        assert(len);
        err = hold(zmtp, bytes_of(bytes.data, len));
        bytes = bytes_of(bytes.data + len, bytes.len - len);
        if (err == ERR_OK)
            err = take_handshake(zmtp);
    }
    if (err != ERR_OK || !bytes.len)
        return err;
    err = hold(zmtp, bytes);
    return err == ERR_PERM ? zmtp_fail(zmtp, ZMTP_MALFORMED) : err;
}

// flags: those in the box.
static enum err put_message(struct zmtp *zmtp, uint8_t flags, struct bytes message)
{
    static const size_t before = NAME_SIZE(NAME_MESSAGE) + SHORT_NONCE;
    uint8_t nonce[NONCE];
    uint8_t *place = NULL;
    size_t len = before + MAC + 1 + message.len;
    size_t mark = zmtp->out.len;
    enum err err = put_header(&zmtp->out, 0, len);
    if (err == ERR_OK)
        err = buf_reserve(&zmtp->out, len, &place);
    if (err != ERR_OK) {
        zmtp->out.len = mark;
        return err;
    }
    zmtp_short_nonce(nonce, zmtp->half->sends, ++zmtp->sent);
    memcpy(place, NAME_MESSAGE, NAME_SIZE(NAME_MESSAGE));
    memcpy(place + NAME_SIZE(NAME_MESSAGE), nonce + LONG_NONCE, SHORT_NONCE);
    uint8_t *content = place + before + MAC;
    content[0] = flags;
    if (message.len)
        memcpy(content + 1, message.data, message.len);
    (void)crypto_box_easy_afternm(content - MAC, content, 1 + message.len, nonce, zmtp->session);
    return ERR_OK;
}

enum err zmtp_end_handshake(struct zmtp *zmtp)
{
    wipe_handshake(zmtp);
    zmtp->state = ZMTP_READY;
    enum err err = zmtp->is_kept ? put_message(zmtp, 0, buf_bytes(&zmtp->kept)) : ERR_OK;
    wipe(&zmtp->kept);
    return err;
}

enum err zmtp_send(struct zmtp *zmtp, struct bytes frame)
{
    if (zmtp->state == ZMTP_READY)
        return put_message(zmtp, 0, frame);
    if (zmtp->is_kept)
        return ERR_BUG;
    enum err err = buf_put_bytes(&zmtp->kept, frame);
    zmtp->is_kept = err == ERR_OK;
    return err;
}

// ZeroMQ RFC 37; libzmq asks a server of ZMTP 3.0 too. There is no other command to be answered.
static enum err answer(struct zmtp *zmtp, struct bytes command)
{
    static const size_t before = NAME_SIZE(NAME_PING) + TTL;
    uint8_t pong[NAME_SIZE(NAME_PONG) + CONTEXT];
    if (command.len < before || memcmp(command.data, NAME_PING, NAME_SIZE(NAME_PING)) != 0 ||
        zmtp_output(zmtp).len > PONG_MAX)
        return ERR_OK;
    size_t context = command.len - before < CONTEXT ? command.len - before : CONTEXT;
    memcpy(pong, NAME_PONG, NAME_SIZE(NAME_PONG));
    memcpy(pong + NAME_SIZE(NAME_PONG), command.data + before, context);
    return put_message(zmtp, INNER_COMMAND, bytes_of(pong, NAME_SIZE(NAME_PONG) + context));
}

static enum err take_message(struct zmtp *zmtp, const struct zmtp_frame *frame, struct buf *out,
                             bool *is_last)
{
    struct bytes content;
    if (!zmtp_has_name(frame, BYTES_LITERAL(NAME_MESSAGE), SHORT_NONCE + MAC + 1) ||
        !zmtp_open_box(zmtp, frame, NAME_SIZE(NAME_MESSAGE), zmtp->half->receives, zmtp->session,
                       &content))
        return zmtp_fail(zmtp, ZMTP_MALFORMED);
    uint8_t flags = content.data[0];
    bool is_command = flags == INNER_COMMAND && zmtp->half->is_server;
    enum err err = ERR_OK;
    if (is_command)
        err = answer(zmtp, bytes_of(content.data + 1, content.len - 1));
    else if (flags & ~(zmtp->half->is_server ? INNER_MORE : 0))
        err = zmtp_fail(zmtp, ZMTP_MALFORMED);
    else if (!flags && !zmtp->is_dropping)
        err = buf_put(out, content.data + 1, content.len - 1);
    explicit_bzero((uint8_t *)content.data, content.len); // it may hold a secret
    consume(zmtp, frame->whole);
    if (!is_command) { // which may come between the frames of a message
        *is_last = !flags;
        zmtp->is_dropping = flags;
    }
    return err;
}

enum err zmtp_receive(struct zmtp *zmtp, struct buf *out, bool *is_there)
{
    struct zmtp_frame frame;
    bool is_whole = true;
    bool is_last = false;
    enum err err = ERR_OK;
    while (err == ERR_OK && is_whole && !is_last && zmtp->state == ZMTP_READY) {
        if (next_frame(zmtp, &frame, &is_whole) != ERR_OK)
            err = zmtp_fail(zmtp, ZMTP_MALFORMED);
        else if (is_whole)
            err = take_message(zmtp, &frame, out, &is_last);
    }
    *is_there = err == ERR_OK && is_last;
    return err;
}
