// SPDX-License-Identifier: Apache-2.0
// The client's half of ZMTP 3.0 with CURVE (ZeroMQ RFC 23 and 26), frame by frame and without I/O,
// for a test to say what it likes to a server: right, wrong or out of turn. Own code, not our
// client's; the server's is in zmtp_server.h, where sizes, flags and keys are. What is made is put
// behind what is in out; that memory runs out ends the program.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"

#define ZMTP_READY_SIZE 67 // with its header, of our server; as that below
#define ZMTP_DENIED_SIZE 12

struct zmtp_forger {
    uint8_t public[32]; // C in RFC 26
    uint8_t server[32]; // S
    uint8_t transient_public[32];
    uint8_t transient_secret[32];
    uint8_t session[32]; // shared by the two transient keys
    uint8_t cookie[96];
    // What the vouch says, C' and S, and the keys that it is sealed with, c to S': right until they
    // are changed; the last from take_welcome on.
    uint8_t vouch_transient[32];
    uint8_t vouch_server[32];
    uint8_t vouch_secret[32];
    uint8_t vouch_to[32];
    uint8_t version[2]; // of HELLO
    uint8_t zeros[65];  // that are in its box, and one more
    uint8_t more_zeros; // 1: it is in the box too
    uint64_t sent;      // the last short nonce of ours: set it to use it again
    uint64_t seen;      // of the server
};

// Keys in Z85.
void zmtp_forger_init(struct zmtp_forger *forger, const char *server_public,
                      const char *client_public, const char *client_secret);

void zmtp_forger_greeting(const char *mechanism, struct buf *out);
void zmtp_forger_hello(struct zmtp_forger *forger, struct buf *out);
void zmtp_forger_initiate(struct zmtp_forger *forger, struct bytes metadata, struct buf *out);
// flags: those inside the box, before the content.
void zmtp_forger_message(struct zmtp_forger *forger, unsigned flags, struct bytes content,
                         struct buf *out);
// Any name, and prefix of a nonce (16 characters).
void zmtp_forger_sealed(struct zmtp_forger *forger, unsigned frame_flags, const char *name,
                        const char *prefix, struct bytes content, struct buf *out);

// Each takes one whole frame. False: it is not what the RFC asks for, and our server says.
bool zmtp_forger_take_greeting(struct bytes greeting);
bool zmtp_forger_take_welcome(struct zmtp_forger *forger, struct bytes frame);
bool zmtp_forger_take_ready(struct zmtp_forger *forger, struct bytes frame);
bool zmtp_forger_take_message(struct zmtp_forger *forger, struct bytes frame, struct buf *content);
// The same with the flag of a command in the box.
bool zmtp_forger_take_command(struct zmtp_forger *forger, struct bytes frame, struct buf *content);
bool zmtp_forger_take_denied(struct bytes frame);
