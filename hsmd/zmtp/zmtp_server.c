// SPDX-License-Identifier: Apache-2.0
// The server's handshake. RFC 26 has the server forget everything between WELCOME and INITIATE, and
// find it again in the cookie, sealed with a key that it changes each minute: that is for servers
// that know no connections. Here a connection keeps its state, whose size has a bound, and the
// cookie, which means nothing to the client, is random and only has to come back.
#include <string.h>
#include <strings.h>

#include "hsmd/zmtp/zmtp_internal.h"

#define CLIENT_AT (NAME_SIZE(NAME_HELLO) + NAME_SIZE(HELLO_VERSION) + HELLO_PADDING)
#define HELLO_SIZE (CLIENT_AT + KEY + SHORT_NONCE + HELLO_ZEROS + MAC)

struct handshake {
    struct zmtp_host host;
    uint8_t server[KEY];           // S in RFC 26
    uint8_t client_transient[KEY]; // C'
    uint8_t transient_secret[KEY]; // s'
    uint8_t cookie[COOKIE];
};

// S' and the cookie, in a box from S to C'.
static enum err put_welcome(struct zmtp *zmtp, const uint8_t hello_key[KEY])
{
    struct handshake *handshake = zmtp->handshake;
    uint8_t nonce[NONCE];
    uint8_t number[LONG_NONCE];
    uint8_t content[KEY + COOKIE];
    uint8_t box[sizeof content + MAC];
    randombytes_buf(number, sizeof number);
    randombytes_buf(handshake->cookie, COOKIE);
    zmtp_long_nonce(nonce, "WELCOME-", number);
    if (crypto_box_keypair(content, handshake->transient_secret) != 0)
        return ERR_TEMP;
    memcpy(content + KEY, handshake->cookie, COOKIE);
    if (crypto_box_easy_afternm(box, content, sizeof content, nonce, hello_key) != 0)
        return ERR_TEMP;
    const struct bytes parts[] = {
        BYTES_LITERAL(NAME_WELCOME),
        bytes_of(number, sizeof number),
        bytes_of(box, sizeof box),
    };
    zmtp->state = ZMTP_INITIATE;
    return zmtp_put_command(zmtp, parts, sizeof parts / sizeof *parts);
}

bool zmtp_public_key(const char *secret_key, char public_key[CURVE_TEXT_SIZE])
{
    uint8_t secret[KEY];
    uint8_t public[KEY];
    bool ok = zmtp_has_sodium() && curve_decode(secret_key, secret) &&
              crypto_scalarmult_base(public, secret) == 0;
    explicit_bzero(secret, sizeof secret);
    if (ok)
        curve_encode(public, public_key);
    return ok;
}

// S, and the key between s and C'. False: C' is none.
static bool derive(struct handshake *handshake, uint8_t hello_key[KEY])
{
    uint8_t secret[KEY];
    bool ok = curve_decode(handshake->host.secret_key, secret) &&
              curve_decode(handshake->host.public_key, handshake->server) &&
              crypto_box_beforenm(hello_key, handshake->client_transient, secret) == 0;
    explicit_bzero(secret, sizeof secret);
    return ok;
}

// C' and a box of zeros from c' to S.
static enum err take_hello(struct zmtp *zmtp, const struct zmtp_frame *frame)
{
    struct handshake *handshake = zmtp->handshake;
    struct bytes zeros;
    uint8_t hello_key[KEY];
    if (frame->len != HELLO_SIZE ||
        !zmtp_has_name(frame, BYTES_LITERAL(NAME_HELLO HELLO_VERSION), 0))
        return zmtp_fail(zmtp, ZMTP_UNTRUSTED);
    memcpy(handshake->client_transient, frame->body + CLIENT_AT, KEY);
    enum err err = derive(handshake, hello_key) &&
                           zmtp_open_box(zmtp, frame, CLIENT_AT + KEY, "CurveZMQHELLO---",
                                         hello_key, &zeros) &&
                           sodium_is_zero(zeros.data, zeros.len)
                       ? put_welcome(zmtp, hello_key)
                       : zmtp_fail(zmtp, ZMTP_UNTRUSTED);
    explicit_bzero(hello_key, sizeof hello_key);
    return err;
}

// A box of C' and S, from c to S': C and C' are of one owner, who means us and this connection.
static bool is_vouched(const struct handshake *handshake, const uint8_t client[KEY],
                       const uint8_t vouch[VOUCH])
{
    uint8_t nonce[NONCE];
    uint8_t content[VOUCHED];
    zmtp_long_nonce(nonce, "VOUCH---", vouch);
    return crypto_box_open_easy(content, vouch + LONG_NONCE, VOUCHED + MAC, nonce, client,
                                handshake->transient_secret) == 0 &&
           sodium_memcmp(content, handshake->client_transient, KEY) == 0 &&
           sodium_memcmp(content + KEY, handshake->server, KEY) == 0;
}

// Takes len bytes from the front.
static bool take_bytes(struct bytes *from, size_t len, struct bytes *taken)
{
    if (from->len < len)
        return false;
    *taken = bytes_of(from->data, len);
    *from = bytes_of(from->data + len, from->len - len);
    return true;
}

static bool take_property(struct bytes *metadata, struct bytes *name, struct bytes *value)
{
    struct bytes size;
    if (!take_bytes(metadata, 1, &size) || !size.data[0] ||
        !take_bytes(metadata, size.data[0], name) || !take_bytes(metadata, 4, &size))
        return false;
    uint32_t len = (uint32_t)size.data[0] << 24 | (uint32_t)size.data[1] << 16 |
                   (uint32_t)size.data[2] << 8 | size.data[3];
    return take_bytes(metadata, len, value);
}

// RFC 23: the names of properties are the same in small letters.
static bool is_named(struct bytes name, struct bytes wanted)
{
    return name.len == wanted.len &&
           strncasecmp((const char *)name.data, (const char *)wanted.data, name.len) == 0;
}

static bool may_talk_to_router(struct bytes type)
{
    return bytes_equal(type, BYTES_LITERAL("DEALER")) || bytes_equal(type, BYTES_LITERAL("REQ")) ||
           bytes_equal(type, BYTES_LITERAL("ROUTER"));
}

// A socket that a ROUTER takes. Whoever names himself might mean to draw another's replies, and is
// none of ours (as zap_peer in hsmd/server/zap.h says).
static bool is_metadata(struct bytes metadata)
{
    unsigned types = 0;
    unsigned identities = 0;
    while (metadata.len) {
        struct bytes name;
        struct bytes value;
        if (!take_property(&metadata, &name, &value))
            return false;
        bool is_type = is_named(name, BYTES_LITERAL("Socket-Type"));
        bool is_identity = is_named(name, BYTES_LITERAL("Identity"));
        if ((is_type && !may_talk_to_router(value)) || (is_identity && value.len))
            return false;
        types += is_type;
        identities += is_identity;
    }
    return types == 1 && identities <= 1;
}

static enum err put_ready(struct zmtp *zmtp)
{
    uint8_t nonce[NONCE];
    uint8_t box[METADATA_SIZE + MAC];
    zmtp_short_nonce(nonce, "CurveZMQREADY---", ++zmtp->sent);
    if (crypto_box_easy_afternm(box, (const uint8_t *)METADATA("ROUTER"), METADATA_SIZE, nonce,
                                zmtp->session) != 0)
        return ERR_TEMP;
    const struct bytes parts[] = {
        BYTES_LITERAL(NAME_READY),
        bytes_of(nonce + LONG_NONCE, SHORT_NONCE),
        bytes_of(box, sizeof box),
    };
    return zmtp_put_command(zmtp, parts, sizeof parts / sizeof *parts);
}

static enum err decide(struct zmtp *zmtp, const uint8_t client[KEY])
{
    const struct handshake *handshake = zmtp->handshake;
    const struct bytes denied = BYTES_LITERAL(NAME_ERROR REASON_DENIED);
    char key[CURVE_TEXT_SIZE];
    curve_encode(client, key);
    if (!handshake->host.is_allowed(handshake->host.context, key)) {
        enum err err = zmtp_put_command(zmtp, &denied, 1);
        return err == ERR_OK ? zmtp_fail(zmtp, ZMTP_REFUSED) : err;
    }
    enum err err = put_ready(zmtp);
    if (err != ERR_OK)
        return err;
    memcpy(zmtp->peer, key, sizeof key);
    return zmtp_end_handshake(zmtp);
}

// C, the vouch and metadata, in a box from C' to S', behind the cookie.
static enum err take_initiate(struct zmtp *zmtp, const struct zmtp_frame *frame)
{
    const struct handshake *handshake = zmtp->handshake;
    const uint8_t *cookie = frame->body + NAME_SIZE(NAME_INITIATE);
    struct bytes content;
    if (!zmtp_has_name(frame, BYTES_LITERAL(NAME_INITIATE),
                       COOKIE + SHORT_NONCE + MAC + KEY + VOUCH) ||
        sodium_memcmp(cookie, handshake->cookie, COOKIE) != 0 ||
        crypto_box_beforenm(zmtp->session, handshake->client_transient,
                            handshake->transient_secret) != 0 ||
        !zmtp_open_box(zmtp, frame, NAME_SIZE(NAME_INITIATE) + COOKIE, "CurveZMQINITIATE",
                       zmtp->session, &content) ||
        !is_vouched(handshake, content.data, content.data + KEY) ||
        !is_metadata(bytes_of(content.data + KEY + VOUCH, content.len - KEY - VOUCH)))
        return zmtp_fail(zmtp, ZMTP_UNTRUSTED);
    return decide(zmtp, content.data);
}

static enum err await_hello(struct zmtp *zmtp)
{
    zmtp->state = ZMTP_HELLO;
    return ERR_OK;
}

static enum err take(struct zmtp *zmtp, const struct zmtp_frame *frame)
{
    return zmtp->state == ZMTP_HELLO ? take_hello(zmtp, frame) : take_initiate(zmtp, frame);
}

enum err zmtp_serve(const struct zmtp_host *host, size_t frame_max, struct zmtp **zmtp,
                    struct detail *detail)
{
    static const struct zmtp_half server = {
        .is_server = true,
        .sends = "CurveZMQMESSAGES",
        .receives = "CurveZMQMESSAGEC",
        .handshake_size = sizeof(struct handshake),
        .greet = await_hello,
        .take = take,
    };
    if (!zmtp_has_sodium() || !curve_is_key(host->secret_key) || !curve_is_key(host->public_key))
        return err_set(detail, ERR_PERM, "the server's CURVE key is none");
    enum err err = zmtp_make(&server, frame_max, zmtp, detail);
    if (err == ERR_OK)
        ((struct handshake *)(*zmtp)->handshake)->host = *host;
    return err;
}
