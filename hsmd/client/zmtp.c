// SPDX-License-Identifier: Apache-2.0
#include "hsmd/client/zmtp.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include <sodium.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/curve.h"

// Sizes and places of RFC 23 (ZMTP 3.0) and RFC 26 (CurveZMQ). A box is 16 bytes longer than what
// is in it.
#define GREETING_SIZE 64
#define MECHANISM_AT 12
#define MECHANISM_SIZE 20
#define FLAG_MORE 1
#define FLAG_LONG 2
#define FLAG_COMMAND 4
#define SHORT_MAX 255
#define HEADER_MAX 9 // flags and a length of 8 bytes
#define MAC crypto_box_MACBYTES
#define KEY CURVE_KEY_SIZE
#define SHORT_NONCE 8
#define LONG_NONCE 16
#define COOKIE 96
#define VOUCH (LONG_NONCE + 2 * KEY + MAC)
#define HELLO_PADDING 72 // so that nobody is sent more than he sent
#define HELLO_ZEROS 64
#define READ_AHEAD 65536 // of the message after the one that is awaited

static_assert(KEY == crypto_box_PUBLICKEYBYTES && KEY == crypto_box_SECRETKEYBYTES &&
              KEY == crypto_box_BEFORENMBYTES && LONG_NONCE + 8 == crypto_box_NONCEBYTES);

static const uint8_t hello_name[] = "\5HELLO", welcome_name[] = "\7WELCOME",
                     initiate_name[] = "\10INITIATE", ready_name[] = "\5READY",
                     error_name[] = "\5ERROR", message_name[] = "\7MESSAGE";
#define NAME_SIZE(name) (sizeof(name) - 1)
// Names are prefixed with their length, as values with theirs in four bytes.
static const uint8_t metadata[] = "\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0";

struct handshake {
    uint8_t server[KEY];           // S in RFC 26
    uint8_t public[KEY];           // C
    const char *secret;            // c, Z85, borrowed
    uint8_t transient_public[KEY]; // C'
    uint8_t transient_secret[KEY]; // c'
    uint8_t hello_key[KEY];        // between c' and S
};

struct zmtp {
    enum zmtp_state state;
    size_t frame_max;
    struct buf in;
    struct buf out;
    size_t written;             // of out
    struct buf kept;            // a message that waits for the handshake's end
    bool is_kept;               // there is one; it may be empty
    uint64_t sent;              // the last short nonce
    uint64_t seen;              // that of the other side
    uint8_t session[KEY];       // between c' and S'
    struct handshake handshake; // wiped at its end
};

struct frame {
    uint8_t *body; // in the input
    size_t len;
    size_t whole; // with the header
};

// Once: sodium_init takes a lock each time, which a forked child may find held for ever.
static bool has_sodium(void)
{
    static atomic_bool is_ready;
    if (!atomic_load(&is_ready))
        atomic_store(&is_ready, sodium_init() >= 0);
    return atomic_load(&is_ready);
}

bool zmtp_is_pair(const char *public_key, const char *secret_key)
{
    uint8_t public[KEY];
    uint8_t secret[KEY];
    uint8_t derived[KEY];
    bool is_pair = curve_decode(public_key, public) && curve_decode(secret_key, secret) &&
                   has_sodium() && crypto_scalarmult_base(derived, secret) == 0 &&
                   memcmp(derived, public, KEY) == 0;
    explicit_bzero(secret, sizeof secret);
    return is_pair;
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

// prefix: 16 characters of RFC 26.
static void short_nonce(uint8_t nonce[crypto_box_NONCEBYTES], const char *prefix, uint64_t number)
{
    memcpy(nonce, prefix, LONG_NONCE);
    put_number(nonce + LONG_NONCE, number);
}

// prefix: 8 characters.
static void long_nonce(uint8_t nonce[crypto_box_NONCEBYTES], const char *prefix,
                       const uint8_t number[LONG_NONCE])
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
    static const uint8_t greeting[GREETING_SIZE] = {
        [0] = 0xff, [9] = 0x7f, [10] = 3, [MECHANISM_AT] = 'C', 'U', 'R', 'V', 'E'};
    return buf_put(&zmtp->out, greeting, sizeof greeting);
}

static enum err read_keys(const struct zmtp_keys *keys, struct handshake *handshake)
{
    handshake->secret = keys->secret_key;
    bool ok = curve_decode(keys->server_key, handshake->server) &&
              curve_decode(keys->public_key, handshake->public) && curve_is_key(keys->secret_key) &&
              has_sodium() &&
              crypto_box_keypair(handshake->transient_public, handshake->transient_secret) == 0 &&
              crypto_box_beforenm(handshake->hello_key, handshake->server,
                                  handshake->transient_secret) == 0;
    return ok ? ERR_OK : ERR_PERM;
}

enum err zmtp_new(const struct zmtp_keys *keys, size_t frame_max, struct zmtp **zmtp,
                  struct detail *detail)
{
    struct zmtp *made = mem_calloc(1, sizeof *made);
    if (!made)
        return err_set(detail, ERR_TEMP, "out of memory");
    made->frame_max = frame_max + NAME_SIZE(message_name) + SHORT_NONCE + MAC + 1;
    buf_init(&made->in, 2 * (made->frame_max + HEADER_MAX) + READ_AHEAD);
    buf_init(&made->out, SIZE_MAX);
    buf_init(&made->kept, SIZE_MAX);
    enum err err = read_keys(keys, &made->handshake);
    if (err != ERR_OK)
        (void)err_set(detail, err, "a CURVE key is none");
    else if ((err = put_greeting(made)) != ERR_OK)
        (void)err_set(detail, err, "out of memory");
    if (err != ERR_OK)
        zmtp_free(made);
    else
        *zmtp = made;
    return err;
}

static void wipe(struct buf *buf)
{
    if (buf->data)
        explicit_bzero(buf->data, buf->len);
    buf_clear(buf);
}

void zmtp_free(struct zmtp *zmtp)
{
    if (!zmtp)
        return;
    wipe(&zmtp->kept);
    buf_clear(&zmtp->in);
    buf_clear(&zmtp->out);
    explicit_bzero(zmtp, sizeof *zmtp);
    mem_free(zmtp);
}

enum zmtp_state zmtp_state(const struct zmtp *zmtp)
{
    return zmtp->state;
}

struct bytes zmtp_output(const struct zmtp *zmtp)
{
    return zmtp->out.data ? bytes_of(zmtp->out.data + zmtp->written, zmtp->out.len - zmtp->written)
                          : (struct bytes){0};
}

void zmtp_written(struct zmtp *zmtp, size_t len)
{
    zmtp->written += len;
    if (zmtp->written < zmtp->out.len)
        return;
    zmtp->written = 0;
    buf_reset(&zmtp->out);
}

static void consume(struct zmtp *zmtp, size_t len)
{
    struct buf *in = &zmtp->in;
    in->len -= len;
    memmove(in->data, in->data + len, in->len);
}

static enum err fail(struct zmtp *zmtp, enum zmtp_state state)
{
    zmtp->state = state;
    return ERR_PERM;
}

// *is_whole: frame is set. ERR_PERM: it is longer than may come, or not of the kind.
static enum err next_frame(const struct zmtp *zmtp, struct frame *frame, bool *is_whole)
{
    const struct buf *in = &zmtp->in;
    const uint8_t kind = zmtp->state == ZMTP_READY ? 0 : FLAG_COMMAND;
    *is_whole = false;
    if (in->len && (in->data[0] & ~FLAG_LONG) != kind)
        return ERR_PERM;
    size_t header = in->len && in->data[0] & FLAG_LONG ? HEADER_MAX : 2;
    if (in->len < header)
        return ERR_OK;
    uint64_t len = header == 2 ? in->data[1] : get_number(in->data + 1);
    if (len > zmtp->frame_max)
        return ERR_PERM;
    *frame = (struct frame){in->data + header, (size_t)len, header + (size_t)len};
    *is_whole = in->len >= frame->whole;
    return ERR_OK;
}

// C' and a box of zeros from c' to S: we know S, and have c'.
static enum err put_hello(struct zmtp *zmtp)
{
    static const uint8_t zeros[HELLO_PADDING];
    const struct handshake *handshake = &zmtp->handshake;
    uint8_t nonce[crypto_box_NONCEBYTES];
    uint8_t box[HELLO_ZEROS + MAC];
    short_nonce(nonce, "CurveZMQHELLO---", ++zmtp->sent);
    if (crypto_box_easy_afternm(box, zeros, HELLO_ZEROS, nonce, handshake->hello_key) != 0)
        return ERR_TEMP;
    const struct bytes parts[] = {
        bytes_of(hello_name, NAME_SIZE(hello_name)),
        BYTES_LITERAL("\1\0"), // version
        bytes_of(zeros, HELLO_PADDING),
        bytes_of(handshake->transient_public, KEY),
        bytes_of(nonce + LONG_NONCE, SHORT_NONCE),
        bytes_of(box, sizeof box),
    };
    enum err err = put_header(&zmtp->out, FLAG_COMMAND, 200);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && err == ERR_OK; i++)
        err = buf_put_bytes(&zmtp->out, parts[i]);
    return err;
}

// As far as it has come. Another protocol's server may say a line, shorter than a greeting, and
// wait; and an older ZMTP ends its greeting sooner.
static bool is_greeting(const uint8_t *data, size_t len)
{
    static const char curve[MECHANISM_SIZE] = "CURVE";
    size_t name = len < MECHANISM_AT ? 0 : len - MECHANISM_AT;
    return (len < 1 || data[0] == 0xff) && (len < 10 || data[9] & 1) &&
           (len < 11 || data[10] >= 3) &&
           (!name ||
            memcmp(data + MECHANISM_AT, curve, name < MECHANISM_SIZE ? name : MECHANISM_SIZE) == 0);
}

static enum err take_greeting(struct zmtp *zmtp)
{
    if (!is_greeting(zmtp->in.data, zmtp->in.len))
        return fail(zmtp, ZMTP_UNTRUSTED);
    if (zmtp->in.len < GREETING_SIZE)
        return ERR_OK;
    consume(zmtp, GREETING_SIZE);
    zmtp->state = ZMTP_WELCOME;
    return put_hello(zmtp);
}

// C and C' are of one owner, says c: a box of C' and S from c to S'.
static bool make_vouch(const struct handshake *handshake, const uint8_t *server_transient,
                       uint8_t vouch[VOUCH])
{
    uint8_t nonce[crypto_box_NONCEBYTES];
    uint8_t content[2 * KEY];
    randombytes_buf(vouch, LONG_NONCE);
    long_nonce(nonce, "VOUCH---", vouch);
    memcpy(content, handshake->transient_public, KEY);
    memcpy(content + KEY, handshake->server, KEY);
    uint8_t secret[KEY];
    bool ok = curve_decode(handshake->secret, secret) &&
              crypto_box_easy(vouch + LONG_NONCE, content, sizeof content, nonce, server_transient,
                              secret) == 0;
    explicit_bzero(secret, sizeof secret);
    return ok;
}

static enum err put_initiate(struct zmtp *zmtp, const uint8_t *server_transient,
                             const uint8_t cookie[COOKIE])
{
    uint8_t nonce[crypto_box_NONCEBYTES];
    uint8_t content[KEY + VOUCH + sizeof metadata];
    uint8_t box[sizeof content + MAC];
    memcpy(content, zmtp->handshake.public, KEY);
    memcpy(content + KEY + VOUCH, metadata, sizeof metadata);
    short_nonce(nonce, "CurveZMQINITIATE", ++zmtp->sent);
    if (!make_vouch(&zmtp->handshake, server_transient, content + KEY) ||
        crypto_box_easy_afternm(box, content, sizeof content, nonce, zmtp->session) != 0)
        return ERR_TEMP;
    const struct bytes parts[] = {
        bytes_of(initiate_name, NAME_SIZE(initiate_name)),
        bytes_of(cookie, COOKIE),
        bytes_of(nonce + LONG_NONCE, SHORT_NONCE),
        bytes_of(box, sizeof box),
    };
    enum err err = put_header(&zmtp->out, FLAG_COMMAND,
                              NAME_SIZE(initiate_name) + COOKIE + SHORT_NONCE + sizeof box);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && err == ERR_OK; i++)
        err = buf_put_bytes(&zmtp->out, parts[i]);
    return err;
}

static bool has_name(const struct frame *frame, const uint8_t *name, size_t len, size_t least)
{
    return frame->len >= len + least && memcmp(frame->body, name, len) == 0;
}

// S' and a cookie, in a box from S to C': only the owner of S makes it.
static enum err take_welcome(struct zmtp *zmtp, const struct frame *frame)
{
    uint8_t nonce[crypto_box_NONCEBYTES];
    uint8_t content[KEY + COOKIE];
    const size_t name = NAME_SIZE(welcome_name);
    if (!has_name(frame, welcome_name, name, 0) ||
        frame->len != name + LONG_NONCE + sizeof content + MAC)
        return fail(zmtp, ZMTP_UNTRUSTED);
    long_nonce(nonce, "WELCOME-", frame->body + name);
    if (crypto_box_open_easy_afternm(content, frame->body + name + LONG_NONCE, sizeof content + MAC,
                                     nonce, zmtp->handshake.hello_key) != 0 ||
        crypto_box_beforenm(zmtp->session, content, zmtp->handshake.transient_secret) != 0)
        return fail(zmtp, ZMTP_UNTRUSTED);
    zmtp->state = ZMTP_INITIATE;
    return put_initiate(zmtp, content, content + KEY);
}

// Opens a box in its place. Each short nonce is greater than the one before.
static bool open_box(struct zmtp *zmtp, const struct frame *frame, size_t name, const char *prefix,
                     struct bytes *content)
{
    uint8_t nonce[crypto_box_NONCEBYTES];
    uint64_t number = get_number(frame->body + name);
    uint8_t *box = frame->body + name + SHORT_NONCE;
    size_t len = frame->len - name - SHORT_NONCE;
    if (number <= zmtp->seen)
        return false;
    short_nonce(nonce, prefix, number);
    if (crypto_box_open_easy_afternm(box + MAC, box, len, nonce, zmtp->session) != 0)
        return false;
    zmtp->seen = number;
    *content = bytes_of(box + MAC, len - MAC);
    return true;
}

static enum err put_message(struct zmtp *zmtp, struct bytes message)
{
    static const size_t before = NAME_SIZE(message_name) + SHORT_NONCE;
    uint8_t nonce[crypto_box_NONCEBYTES];
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
    short_nonce(nonce, "CurveZMQMESSAGEC", ++zmtp->sent);
    memcpy(place, message_name, NAME_SIZE(message_name));
    memcpy(place + NAME_SIZE(message_name), nonce + LONG_NONCE, SHORT_NONCE);
    uint8_t *content = place + before + MAC;
    content[0] = 0; // flags: the only frame
    if (message.len)
        memcpy(content + 1, message.data, message.len);
    (void)crypto_box_easy_afternm(content - MAC, content, 1 + message.len, nonce, zmtp->session);
    return ERR_OK;
}

// The other side has our key too.
static enum err take_ready(struct zmtp *zmtp, const struct frame *frame)
{
    struct bytes content;
    const size_t name = NAME_SIZE(ready_name);
    const size_t error = NAME_SIZE(error_name);
    if (has_name(frame, error_name, error, 1))
        return fail(zmtp, frame->len == error + 4 && memcmp(frame->body + error,
                                                            "\3"
                                                            "400",
                                                            4) == 0
                              ? ZMTP_REFUSED
                              : ZMTP_ENDED);
    if (!has_name(frame, ready_name, name, SHORT_NONCE + MAC) ||
        !open_box(zmtp, frame, name, "CurveZMQREADY---", &content))
        return fail(zmtp, ZMTP_UNTRUSTED);
    explicit_bzero(&zmtp->handshake, sizeof zmtp->handshake);
    zmtp->state = ZMTP_READY;
    enum err err = zmtp->is_kept ? put_message(zmtp, buf_bytes(&zmtp->kept)) : ERR_OK;
    wipe(&zmtp->kept);
    return err;
}

static enum err take_command(struct zmtp *zmtp, bool *is_taken)
{
    struct frame frame;
    if (next_frame(zmtp, &frame, is_taken) != ERR_OK)
        return fail(zmtp, ZMTP_UNTRUSTED);
    if (!*is_taken)
        return ERR_OK;
    enum err err =
        zmtp->state == ZMTP_WELCOME ? take_welcome(zmtp, &frame) : take_ready(zmtp, &frame);
    if (err == ERR_OK)
        consume(zmtp, frame.whole);
    return err;
}

enum err zmtp_feed(struct zmtp *zmtp, struct bytes bytes)
{
    bool is_taken = true;
    enum err err = buf_put_bytes(&zmtp->in, bytes);
    if (err == ERR_PERM)
        return fail(zmtp, zmtp->state == ZMTP_READY ? ZMTP_MALFORMED : ZMTP_UNTRUSTED);
    if (err == ERR_OK && zmtp->state == ZMTP_GREETING)
        err = take_greeting(zmtp);
    while (err == ERR_OK && is_taken &&
           (zmtp->state == ZMTP_WELCOME || zmtp->state == ZMTP_INITIATE))
        err = take_command(zmtp, &is_taken);
    return err;
}

enum err zmtp_send(struct zmtp *zmtp, struct bytes frame)
{
    if (zmtp->state == ZMTP_READY)
        return put_message(zmtp, frame);
    if (zmtp->is_kept)
        return ERR_BUG;
    enum err err = buf_put_bytes(&zmtp->kept, frame);
    zmtp->is_kept = err == ERR_OK;
    return err;
}

enum err zmtp_receive(struct zmtp *zmtp, struct buf *out, bool *is_there)
{
    struct frame frame;
    struct bytes content;
    const size_t name = NAME_SIZE(message_name);
    *is_there = false;
    if (zmtp->state != ZMTP_READY)
        return ERR_OK;
    if (next_frame(zmtp, &frame, is_there) != ERR_OK)
        return fail(zmtp, ZMTP_MALFORMED);
    if (!*is_there)
        return ERR_OK;
    *is_there = false;
    if (!has_name(&frame, message_name, name, SHORT_NONCE + MAC + 1) ||
        !open_box(zmtp, &frame, name, "CurveZMQMESSAGES", &content))
        return fail(zmtp, ZMTP_MALFORMED);
    enum err err = content.data[0] == 0 ? buf_put(out, content.data + 1, content.len - 1)
                                        : fail(zmtp, ZMTP_MALFORMED);
    explicit_bzero((uint8_t *)content.data, content.len); // it may hold a secret
    consume(zmtp, frame.whole);
    *is_there = err == ERR_OK;
    return err;
}
