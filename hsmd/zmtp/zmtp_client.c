// SPDX-License-Identifier: Apache-2.0
// The client's handshake.
#include <string.h>

#include "hsmd/zmtp/zmtp_internal.h"

struct handshake {
    uint8_t server[KEY];           // S in RFC 26
    uint8_t public[KEY];           // C
    const char *secret;            // c, Z85, borrowed
    uint8_t transient_public[KEY]; // C'
    uint8_t transient_secret[KEY]; // c'
    uint8_t hello_key[KEY];        // between c' and S
};

bool zmtp_is_pair(const char *public_key, const char *secret_key)
{
    uint8_t public[KEY];
    uint8_t secret[KEY];
    uint8_t derived[KEY];
    bool is_pair = curve_decode(public_key, public) && curve_decode(secret_key, secret) &&
                   zmtp_has_sodium() && crypto_scalarmult_base(derived, secret) == 0 &&
                   memcmp(derived, public, KEY) == 0;
    explicit_bzero(secret, sizeof secret);
    return is_pair;
}

static bool read_keys(const struct zmtp_keys *keys, struct handshake *handshake)
{
    handshake->secret = keys->secret_key;
    return curve_decode(keys->server_key, handshake->server) &&
           curve_decode(keys->public_key, handshake->public) && curve_is_key(keys->secret_key) &&
           zmtp_has_sodium() &&
           crypto_box_keypair(handshake->transient_public, handshake->transient_secret) == 0 &&
           crypto_box_beforenm(handshake->hello_key, handshake->server,
                               handshake->transient_secret) == 0;
}

// C' and a box of zeros from c' to S: we know S, and have c'.
static enum err put_hello(struct zmtp *zmtp)
{
    static const uint8_t zeros[HELLO_PADDING];
    const struct handshake *handshake = zmtp->handshake;
    uint8_t nonce[NONCE];
    uint8_t box[HELLO_ZEROS + MAC];
    zmtp_short_nonce(nonce, "CurveZMQHELLO---", ++zmtp->sent);
    if (crypto_box_easy_afternm(box, zeros, HELLO_ZEROS, nonce, handshake->hello_key) != 0)
        return ERR_TEMP;
    const struct bytes parts[] = {
        BYTES_LITERAL(NAME_HELLO),
        BYTES_LITERAL(HELLO_VERSION),
        bytes_of(zeros, HELLO_PADDING),
        bytes_of(handshake->transient_public, KEY),
        bytes_of(nonce + LONG_NONCE, SHORT_NONCE),
        bytes_of(box, sizeof box),
    };
    zmtp->state = ZMTP_WELCOME;
    return zmtp_put_command(zmtp, parts, sizeof parts / sizeof *parts);
}

// C and C' are of one owner, says c: a box of C' and S from c to S'.
static bool make_vouch(const struct handshake *handshake, const uint8_t *server_transient,
                       uint8_t vouch[VOUCH])
{
    uint8_t nonce[NONCE];
    uint8_t content[VOUCHED];
    randombytes_buf(vouch, LONG_NONCE);
    zmtp_long_nonce(nonce, "VOUCH---", vouch);
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
    const struct handshake *handshake = zmtp->handshake;
    uint8_t nonce[NONCE];
    uint8_t content[KEY + VOUCH + METADATA_SIZE];
    uint8_t box[sizeof content + MAC];
    memcpy(content, handshake->public, KEY);
    memcpy(content + KEY + VOUCH, METADATA("DEALER"), METADATA_SIZE);
    zmtp_short_nonce(nonce, "CurveZMQINITIATE", ++zmtp->sent);
    if (!make_vouch(handshake, server_transient, content + KEY) ||
        crypto_box_easy_afternm(box, content, sizeof content, nonce, zmtp->session) != 0)
        return ERR_TEMP;
    const struct bytes parts[] = {
        BYTES_LITERAL(NAME_INITIATE),
        bytes_of(cookie, COOKIE),
        bytes_of(nonce + LONG_NONCE, SHORT_NONCE),
        bytes_of(box, sizeof box),
    };
    return zmtp_put_command(zmtp, parts, sizeof parts / sizeof *parts);
}

// S' and a cookie, in a box from S to C': only the owner of S makes it.
static enum err take_welcome(struct zmtp *zmtp, const struct zmtp_frame *frame)
{
    const struct handshake *handshake = zmtp->handshake;
    uint8_t nonce[NONCE];
    uint8_t content[KEY + COOKIE];
    const size_t name = NAME_SIZE(NAME_WELCOME);
    if (!zmtp_has_name(frame, BYTES_LITERAL(NAME_WELCOME), 0) ||
        frame->len != name + LONG_NONCE + sizeof content + MAC)
        return zmtp_fail(zmtp, ZMTP_UNTRUSTED);
    zmtp_long_nonce(nonce, "WELCOME-", frame->body + name);
    if (crypto_box_open_easy_afternm(content, frame->body + name + LONG_NONCE, sizeof content + MAC,
                                     nonce, handshake->hello_key) != 0 ||
        crypto_box_beforenm(zmtp->session, content, handshake->transient_secret) != 0)
        return zmtp_fail(zmtp, ZMTP_UNTRUSTED);
    zmtp->state = ZMTP_INITIATE;
    return put_initiate(zmtp, content, content + KEY);
}

// The other side has our key too.
static enum err take_ready(struct zmtp *zmtp, const struct zmtp_frame *frame)
{
    struct bytes content;
    const size_t error = NAME_SIZE(NAME_ERROR);
    if (zmtp_has_name(frame, BYTES_LITERAL(NAME_ERROR), 1))
        return zmtp_fail(zmtp, bytes_equal(bytes_of(frame->body + error, frame->len - error),
                                           BYTES_LITERAL(REASON_DENIED))
                                   ? ZMTP_REFUSED
                                   : ZMTP_ENDED);
    if (!zmtp_has_name(frame, BYTES_LITERAL(NAME_READY), SHORT_NONCE + MAC) ||
        !zmtp_open_box(zmtp, frame, NAME_SIZE(NAME_READY), "CurveZMQREADY---", zmtp->session,
                       &content))
        return zmtp_fail(zmtp, ZMTP_UNTRUSTED);
    return zmtp_end_handshake(zmtp);
}

static enum err take(struct zmtp *zmtp, const struct zmtp_frame *frame)
{
    return zmtp->state == ZMTP_WELCOME ? take_welcome(zmtp, frame) : take_ready(zmtp, frame);
}

enum err zmtp_new(const struct zmtp_keys *keys, size_t frame_max, struct zmtp **zmtp,
                  struct detail *detail)
{
    static const struct zmtp_half client = {
        .sends = "CurveZMQMESSAGEC",
        .receives = "CurveZMQMESSAGES",
        .handshake_size = sizeof(struct handshake),
        .greet = put_hello,
        .take = take,
    };
    struct zmtp *made = NULL;
    enum err err = zmtp_make(&client, frame_max, &made, detail);
    if (err != ERR_OK)
        return err;
    if (!read_keys(keys, made->handshake)) {
        zmtp_free(made);
        return err_set(detail, ERR_PERM, "a CURVE key is none");
    }
    *zmtp = made;
    return ERR_OK;
}
