// SPDX-License-Identifier: Apache-2.0
// The client's side of ZMTP 3.0 with CURVE (ZeroMQ RFC 23 and 26) as a state machine over bytes: no
// socket, no thread, no clock. libzmq would hand each frame to a thread of its own and back, and on
// a machine that is not busy those wake-ups cost more than all the rest of a request; a library in
// other people's processes had better have no threads anyway. The other side is libzmq.
//
// One caller at a time.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

enum zmtp_state {
    ZMTP_GREETING,  // nothing has come yet
    ZMTP_WELCOME,   // it is a ZMTP server with CURVE
    ZMTP_INITIATE,  // it has the key that we were told, and now learns ours
    ZMTP_READY,     // messages may pass; what follows is final
    ZMTP_UNTRUSTED, // it is none, or has another key
    ZMTP_REFUSED,   // it does not admit our key
    ZMTP_ENDED,     // it ended the handshake for a reason of its own
    ZMTP_MALFORMED, // it sent what is no message
};

struct zmtp_keys {
    const char *server_key; // Z85, as the others
    const char *public_key;
    const char *secret_key;
};

// Whether they are two halves of one key.
bool zmtp_is_pair(const char *public_key, const char *secret_key);

struct zmtp;

// frame_max: bytes of a message that is received. The secret key is borrowed until the handshake is
// over, so that it stays where its owner keeps it; the others are copied. ERR_PERM: one is no key;
// ERR_TEMP: out of memory.
enum err zmtp_new(const struct zmtp_keys *keys, size_t frame_max, struct zmtp **zmtp,
                  struct detail *detail);
void zmtp_free(struct zmtp *zmtp); // wipes; NULL is fine

enum zmtp_state zmtp_state(const struct zmtp *zmtp);

// What is to be written now, valid until the next call; and that the first len bytes were.
struct bytes zmtp_output(const struct zmtp *zmtp);
void zmtp_written(struct zmtp *zmtp, size_t len);

// Bytes that have been read, in pieces of any size. ERR_PERM: the state says what is wrong, and
// nothing more is to be read or written; ERR_TEMP: out of memory, the same.
enum err zmtp_feed(struct zmtp *zmtp, struct bytes bytes);

// Puts one message of one frame into the output; before the handshake is over it is kept for then.
// ERR_TEMP: out of memory; ERR_BUG: one is kept already.
enum err zmtp_send(struct zmtp *zmtp, struct bytes frame);

// The next message that was received whole, put behind what is in out. *is_there: there was one.
// ERR_PERM: it is not for us (the state is ZMTP_MALFORMED), or is over the cap of out; ERR_TEMP:
// out of memory.
enum err zmtp_receive(struct zmtp *zmtp, struct buf *out, bool *is_there);
