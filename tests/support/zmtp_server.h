// SPDX-License-Identifier: Apache-2.0
// The server's half of ZMTP 3.0 with CURVE (ZeroMQ RFC 23 and 26), frame by frame and without I/O,
// for a test to say what it likes: right, wrong or out of turn. Own code, not the client's. What is
// made is put behind what is in out; that memory runs out ends the program.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"

// The pairs of keys in zmq_curve(7).
#define ZMTP_SERVER_PUBLIC "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define ZMTP_SERVER_SECRET "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"
#define ZMTP_CLIENT_PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define ZMTP_CLIENT_SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"

#define ZMTP_GREETING_SIZE 64
#define ZMTP_HELLO_SIZE 202 // with its header, as those below
#define ZMTP_WELCOME_SIZE 170
#define ZMTP_INITIATE_SIZE 301 // of our client
#define ZMTP_FLAG_MORE 1
#define ZMTP_FLAG_LONG 2
#define ZMTP_FLAG_COMMAND 4

struct zmtp_server {
    uint8_t secret[32];
    uint8_t transient_public[32];
    uint8_t transient_secret[32];
    uint8_t client_transient[32];
    uint8_t client[32];  // its permanent key, as told by INITIATE
    uint8_t session[32]; // shared by the two transient keys
    uint8_t cookie[96];
    uint64_t sent; // the last short nonce of ours: set it to use it again
    uint64_t seen; // of the client
};

// secret: Z85.
void zmtp_server_init(struct zmtp_server *server, const char *secret);

void zmtp_server_greeting(const char *mechanism, struct buf *out);
void zmtp_server_welcome(struct zmtp_server *server, struct buf *out);
void zmtp_server_ready(struct zmtp_server *server, struct buf *out);
void zmtp_server_error(const char *reason, struct buf *out);
// flags: those inside the box, before the content.
void zmtp_server_message(struct zmtp_server *server, unsigned flags, struct bytes content,
                         struct buf *out);
// A sealed command of any name and prefix of a nonce (16 characters).
void zmtp_server_sealed(struct zmtp_server *server, unsigned frame_flags, const char *name,
                        const char *prefix, struct bytes content, struct buf *out);
// Any frame, with the header that is due.
void zmtp_server_frame(unsigned flags, struct bytes body, struct buf *out);

// Each takes one whole frame. False: it is not what the RFC asks for.
bool zmtp_server_take_greeting(struct bytes greeting);
bool zmtp_server_take_hello(struct zmtp_server *server, struct bytes frame);
bool zmtp_server_take_initiate(struct zmtp_server *server, struct bytes frame);
bool zmtp_server_take_message(struct zmtp_server *server, struct bytes frame, struct buf *content);

// The length of the first frame, with its header; 0: it is not whole yet.
size_t zmtp_server_frame_len(struct bytes bytes);
