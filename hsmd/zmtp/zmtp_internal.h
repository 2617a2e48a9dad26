// SPDX-License-Identifier: Apache-2.0
// What the two halves of ZMTP share: the connection, and the pieces that commands are made of.
#pragma once

#include <assert.h>
#include <stdint.h>

#include <sodium.h>

#include "hsmd/base/curve.h"
#include "hsmd/zmtp/zmtp.h"

// Sizes and places of RFC 23 (ZMTP 3.0) and RFC 26 (CurveZMQ). A box is 16 bytes longer than what
// is in it.
#define MAC crypto_box_MACBYTES
#define KEY CURVE_KEY_SIZE
#define SHORT_NONCE 8
#define LONG_NONCE 16
#define NONCE crypto_box_NONCEBYTES
#define COOKIE 96
#define VOUCHED (2 * KEY) // C' and S, in a box from c to S'
#define VOUCH (LONG_NONCE + VOUCHED + MAC)
#define HELLO_VERSION "\1\0"
#define HELLO_PADDING 72 // so that nobody is sent more than he sent
#define HELLO_ZEROS 64

static_assert(KEY == crypto_box_PUBLICKEYBYTES && KEY == crypto_box_SECRETKEYBYTES &&
              KEY == crypto_box_BEFORENMBYTES && LONG_NONCE + SHORT_NONCE == NONCE);

// Commands begin with their name, which is prefixed with its length; values in metadata are with
// theirs in four bytes.
#define NAME_HELLO "\5HELLO"
#define NAME_WELCOME "\7WELCOME"
#define NAME_INITIATE "\10INITIATE"
#define NAME_READY "\5READY"
#define NAME_ERROR "\5ERROR"
#define NAME_MESSAGE "\7MESSAGE"
#define NAME_SIZE(name) (sizeof(name) - 1)
#define METADATA(socket_type) "\13Socket-Type\0\0\0\6" socket_type "\10Identity\0\0\0\0"
#define METADATA_SIZE NAME_SIZE(METADATA("ROUTER"))
#define REASON_DENIED \
    "\3"              \
    "400" // of ERROR

struct zmtp_frame {
    uint8_t *body; // in the input
    size_t len;
    size_t whole; // with the header
};

// What the halves do each in its own way.
struct zmtp_half {
    bool is_server;
    const char *sends; // prefixes of a message's nonce
    const char *receives;
    size_t handshake_size;
    // The greeting was right.
    enum err (*greet)(struct zmtp *zmtp);
    // A command, until the state is ZMTP_READY.
    enum err (*take)(struct zmtp *zmtp, const struct zmtp_frame *frame);
};

struct zmtp {
    const struct zmtp_half *half;
    enum zmtp_state state;
    enum zmtp_state reached; // before it failed
    bool is_kept;            // there is a message in kept; it may be empty
    bool is_dropping;        // a message of several frames, until its last
    size_t frame_max;
    struct buf in;
    size_t taken; // of in
    struct buf out;
    size_t written;             // of out
    struct buf kept;            // a message that waits for the handshake's end
    uint64_t sent;              // the last short nonce
    uint64_t seen;              // that of the other side
    uint8_t session[KEY];       // between c' and s'
    char peer[CURVE_TEXT_SIZE]; // server: who was let in; "" before
    void *handshake;            // of the half, apart and wiped at its end
};

// Once: sodium_init takes a lock each time, which a forked child may find held for ever.
bool zmtp_has_sodium(void);

// A connection with a handshake of zeros, and our greeting in the output.
enum err zmtp_make(const struct zmtp_half *half, size_t frame_max, struct zmtp **zmtp,
                   struct detail *detail);

// Sets the state, and returns ERR_PERM.
enum err zmtp_fail(struct zmtp *zmtp, enum zmtp_state state);
// The state is ZMTP_READY, what was kept is sent, the handshake is wiped and gone.
enum err zmtp_end_handshake(struct zmtp *zmtp);

// prefix: 16 characters of RFC 26, or 8.
void zmtp_short_nonce(uint8_t nonce[NONCE], const char *prefix, uint64_t number);
void zmtp_long_nonce(uint8_t nonce[NONCE], const char *prefix, const uint8_t number[LONG_NONCE]);

// A command of these parts.
enum err zmtp_put_command(struct zmtp *zmtp, const struct bytes *parts, size_t count);
// name: with its length before it. least: bytes behind it.
bool zmtp_has_name(const struct zmtp_frame *frame, struct bytes name, size_t least);
// Opens, with this key and in its place, the box behind the short nonce at at; the frame must be
// long enough for an empty one. Each short nonce is greater than the one before.
bool zmtp_open_box(struct zmtp *zmtp, const struct zmtp_frame *frame, size_t at, const char *prefix,
                   const uint8_t key[KEY], struct bytes *content);
