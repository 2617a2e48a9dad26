// SPDX-License-Identifier: Apache-2.0
// ZMTP 3.0 with CURVE (ZeroMQ RFC 23 and 26), the client's half and the server's, as a state
// machine over bytes: no socket, no thread, no clock. libzmq would hand each frame to a thread of
// its own and back, and on a machine that is not busy those wake-ups cost more than all the rest of
// a request; a library in other people's processes had better have no threads anyway. The other
// side may be libzmq: a DEALER, REQ or ROUTER socket for the server's half, a ROUTER for the
// client's.
//
// One caller at a time.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/curve.h"
#include "hsmd/base/err.h"

enum zmtp_state {
    ZMTP_GREETING,  // nothing has come yet
    ZMTP_HELLO,     // server: it is a ZMTP client with CURVE, and is to say that it knows our key
    ZMTP_WELCOME,   // client: it is a ZMTP server with CURVE
    ZMTP_INITIATE,  // client: it has the key that we were told, and now learns ours;
                    // server: it knows our key, and is to prove its own
    ZMTP_READY,     // messages may pass; what follows is final
    ZMTP_UNTRUSTED, // client: it is no such server, or has another key; server: it is no such
                    // client, does not know our key, or has not proved its own
    ZMTP_REFUSED,   // one side does not admit the other's key; server: the output says so
    ZMTP_ENDED,     // client: it ended the handshake for a reason of its own
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

// The client's half of a connection. frame_max: bytes of a message that is received. The secret key
// is borrowed until the handshake is over, so that it stays where its owner keeps it; the others
// are copied. ERR_PERM: one is no key; ERR_TEMP: out of memory.
enum err zmtp_new(const struct zmtp_keys *keys, size_t frame_max, struct zmtp **zmtp,
                  struct detail *detail);

// The public key of a secret one. False: that is none.
bool zmtp_public_key(const char *secret_key, char public_key[CURVE_TEXT_SIZE]);

struct zmtp_host {
    const char *secret_key; // the server's, Z85; borrowed as long as zmtp lives, as the next
    const char *public_key; // its other half (zmtp_public_key), not to be found out at each HELLO
    // May the holder of this CURVE key (Z85) come in? Called once, from zmtp_feed, when the peer
    // has proved that it has it.
    bool (*is_allowed)(void *context, const char *public_key);
    void *context;
};

// The server's half of a connection; the struct is copied. frame_max: as above. ERR_PERM: the
// keys are none; ERR_TEMP: out of memory.
enum err zmtp_serve(const struct zmtp_host *host, size_t frame_max, struct zmtp **zmtp,
                    struct detail *detail);

// The key (Z85) that the other side has proved to have and is_allowed let in; NULL before the
// handshake is over. Server's half only.
const char *zmtp_peer(const struct zmtp *zmtp);

void zmtp_free(struct zmtp *zmtp); // wipes; NULL is fine

enum zmtp_state zmtp_state(const struct zmtp *zmtp);
// The last state before one of those after ZMTP_READY: in which it went wrong.
enum zmtp_state zmtp_reached(const struct zmtp *zmtp);

// What is to be written now, valid until the next call; and that the first len bytes were.
struct bytes zmtp_output(const struct zmtp *zmtp);
void zmtp_written(struct zmtp *zmtp, size_t len);

// Bytes that have been read, in pieces of any size; it makes no difference of which. ERR_PERM: the
// state says what is wrong, and nothing more is to be read or written, but for the output of a
// server that is ZMTP_REFUSED, which tells the client; ERR_TEMP: out of memory, nothing more
// either.
enum err zmtp_feed(struct zmtp *zmtp, struct bytes bytes);

// Puts one message of one frame into the output; before the handshake is over it is kept for then.
// ERR_TEMP: out of memory; ERR_BUG: one is kept already.
enum err zmtp_send(struct zmtp *zmtp, struct bytes frame);

// The next message that was received whole, put behind what is in out. *is_there: there was one.
// Of several frames: an empty message for the server, who does not keep them; nothing that a client
// may get. A PING (RFC 37) to the server is no message: its PONG is in the output then, or is left
// out if much waits there; other commands are dropped. ERR_PERM: it is not for us (the state is
// ZMTP_MALFORMED), or is over the cap of out; ERR_TEMP: out of memory.
enum err zmtp_receive(struct zmtp *zmtp, struct buf *out, bool *is_there);
