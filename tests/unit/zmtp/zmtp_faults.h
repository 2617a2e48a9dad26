// SPDX-License-Identifier: Apache-2.0
// What a server may say wrong, for test_zmtp_client.c: after a right handshake up to the state
// from, and what the client is to make of it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/zmtp/zmtp.h"
#include "tests/support/zmtp_server.h"

enum fault_kind {
    FAULT_RAW,           // text, or its first len bytes
    FAULT_GREETING,      // of the mechanism text, or CURVE
    FAULT_WELCOME,       // right
    FAULT_OTHER_WELCOME, // right, by another server's key
    FAULT_READY,         // right
    FAULT_ERROR,         // text is the reason
    FAULT_MESSAGE,       // flags inside the box, len bytes
    FAULT_SEALED,        // flags of the frame, text is the name, prefix the nonce's, len bytes
};

struct fault {
    const char *name;
    enum fault_kind kind;
    enum zmtp_state from;
    enum zmtp_state to;
    const char *text;
    const char *prefix;
    unsigned flags;
    size_t len;
    int cut;       // bytes that are left out at the end, if negative; put there, if positive
    size_t at;     // where in the result
    uint8_t flip;  // these bits are flipped
    uint64_t sent; // the short nonce before it, if not 0
};

#define MESSAGES "CurveZMQMESSAGES"

static const struct fault faults[] = {
    // The greeting
    {"another protocol's line", FAULT_RAW, ZMTP_GREETING, .to = ZMTP_UNTRUSTED,
     "220 mail.example ESMTP\r\n"},
    {"one wrong byte", FAULT_RAW, ZMTP_GREETING, .to = ZMTP_UNTRUSTED, "\x7f"},
    {"a wrong start", FAULT_GREETING, ZMTP_GREETING, .to = ZMTP_UNTRUSTED, .at = 0, .flip = 1},
    {"a wrong signature", FAULT_GREETING, ZMTP_GREETING, .to = ZMTP_UNTRUSTED, .at = 9, .flip = 1},
    {"version 2", FAULT_GREETING, ZMTP_GREETING, .to = ZMTP_UNTRUSTED, .at = 10, .flip = 1},
    {"version 2, and no more", FAULT_RAW, ZMTP_GREETING, .to = ZMTP_UNTRUSTED,
     "\xff\0\0\0\0\0\0\0\x01\x7f\x01\x06", .len = 12},
    {"NULL", FAULT_GREETING, ZMTP_GREETING, .to = ZMTP_UNTRUSTED, "NULL"},
    {"PLAIN", FAULT_GREETING, ZMTP_GREETING, .to = ZMTP_UNTRUSTED, "PLAIN"},
    {"CURVE with a tail", FAULT_GREETING, ZMTP_GREETING, .to = ZMTP_UNTRUSTED, "CURVE25519"},
    {"CURVE with a far tail", FAULT_GREETING, ZMTP_GREETING, .to = ZMTP_UNTRUSTED, .at = 31,
     .flip = 1},
    // WELCOME
    {"WELCOME of another key", FAULT_OTHER_WELCOME, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED},
    {"a short WELCOME", FAULT_WELCOME, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED, .cut = -1},
    {"a long WELCOME", FAULT_WELCOME, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED, .cut = 1},
    {"WELCOME as a message", FAULT_WELCOME, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED, .flip = 4},
    {"WELCOME with more", FAULT_WELCOME, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED, .flip = 1},
    {"WELCOME by another name", FAULT_WELCOME, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED, .at = 3,
     .flip = 32},
    {"READY instead of WELCOME", FAULT_READY, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED},
    {"ERROR instead of WELCOME", FAULT_ERROR, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED, "400"},
    {"nothing instead of WELCOME", FAULT_RAW, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED, "\4\0", .len = 2},
    {"WELCOME of 2^63 bytes", FAULT_RAW, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED, "\6\x80\0\0\0\0\0\0\0",
     .len = 9},
    {"WELCOME of 2^64 - 1 bytes", FAULT_RAW, ZMTP_WELCOME, .to = ZMTP_UNTRUSTED,
     "\6\xff\xff\xff\xff\xff\xff\xff\xff", .len = 9},
    // READY
    {"WELCOME again", FAULT_WELCOME, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED},
    {"READY in a bad box", FAULT_READY, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, .at = 20, .flip = 1},
    {"READY with the nonce 0", FAULT_SEALED, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, "READY",
     "CurveZMQREADY---", ZMTP_FLAG_COMMAND, 5, .sent = UINT64_MAX},
    {"READY with a message's nonce", FAULT_SEALED, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, "READY",
     MESSAGES, ZMTP_FLAG_COMMAND, 5},
    {"READY cut", FAULT_READY, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, .cut = -1},
    {"READY with no box", FAULT_RAW, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, "\4\6\5READY", .len = 8},
    {"READY as a message", FAULT_READY, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, .flip = 4},
    {"a message before READY", FAULT_MESSAGE, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, .len = 5},
    {"ERROR 400", FAULT_ERROR, ZMTP_INITIATE, .to = ZMTP_REFUSED, "400"},
    {"ERROR 300", FAULT_ERROR, ZMTP_INITIATE, .to = ZMTP_ENDED, "300"},
    {"ERROR 500", FAULT_ERROR, ZMTP_INITIATE, .to = ZMTP_ENDED, "500"},
    {"ERROR 4000", FAULT_ERROR, ZMTP_INITIATE, .to = ZMTP_ENDED, "4000"},
    {"ERROR without a reason", FAULT_ERROR, ZMTP_INITIATE, .to = ZMTP_ENDED, ""},
    {"ERROR without a length", FAULT_RAW, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, "\4\6\5ERROR",
     .len = 8},
    {"ERROR longer than it is", FAULT_RAW, ZMTP_INITIATE, .to = ZMTP_ENDED,
     "\4\12\5ERROR\4"
     "400",
     .len = 12},
    {"ERROR as a message", FAULT_ERROR, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, "400", .flip = 4},
    {"READY of 2^63 bytes", FAULT_RAW, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, "\6\x80\0\0\0\0\0\0\0",
     .len = 9},
    // MESSAGE
    {"a frame with more", FAULT_SEALED, ZMTP_READY, .to = ZMTP_MALFORMED, "MESSAGE", MESSAGES,
     ZMTP_FLAG_MORE, 5},
    {"a command", FAULT_SEALED, ZMTP_READY, .to = ZMTP_MALFORMED, "MESSAGE", MESSAGES,
     ZMTP_FLAG_COMMAND, 5},
    {"a reserved flag", FAULT_SEALED, ZMTP_READY, .to = ZMTP_MALFORMED, "MESSAGE", MESSAGES, 8, 5},
    {"more, in the box", FAULT_MESSAGE, ZMTP_READY, .to = ZMTP_MALFORMED, .flags = 1, .len = 5},
    {"a command in the box", FAULT_MESSAGE, ZMTP_READY, .to = ZMTP_MALFORMED, .flags = 2, .len = 5},
    {"another flag in the box", FAULT_MESSAGE, ZMTP_READY, .to = ZMTP_MALFORMED, .flags = 128,
     .len = 5},
    {"a message of another name", FAULT_SEALED, ZMTP_READY, .to = ZMTP_MALFORMED, "MESSAGF",
     MESSAGES, 0, 5},
    {"a client's message", FAULT_SEALED, ZMTP_READY, .to = ZMTP_MALFORMED, "MESSAGE",
     "CurveZMQMESSAGEC", 0, 5},
    {"READY again", FAULT_READY, ZMTP_READY, .to = ZMTP_MALFORMED},
    {"ERROR after READY", FAULT_ERROR, ZMTP_READY, .to = ZMTP_MALFORMED, "400"},
    {"a tampered message", FAULT_MESSAGE, ZMTP_READY, .to = ZMTP_MALFORMED, .len = 5, .at = 36,
     .flip = 1},
    {"a box with nothing in it", FAULT_SEALED, ZMTP_READY, .to = ZMTP_MALFORMED, "MESSAGE",
     MESSAGES, 0, 0},
    {"half a box", FAULT_RAW, ZMTP_READY, .to = ZMTP_MALFORMED,
     "\0\40\7MESSAGE\0\0\0\0\0\0\0\x09"
     "0123456789abcdef",
     .len = 34},
    {"an empty frame", FAULT_RAW, ZMTP_READY, .to = ZMTP_MALFORMED, "\0\0", .len = 2},
    {"a message's name alone", FAULT_RAW, ZMTP_READY, .to = ZMTP_MALFORMED, "\0\10\7MESSAGE",
     .len = 10},
    {"a message too long by one", FAULT_MESSAGE, ZMTP_READY, .to = ZMTP_MALFORMED, .len = 1001},
    {"the header of one too long", FAULT_RAW, ZMTP_READY, .to = ZMTP_MALFORMED,
     "\2\0\0\0\0\0\0\4\12", .len = 9},
    {"a message of 2^63 bytes", FAULT_RAW, ZMTP_READY, .to = ZMTP_MALFORMED, "\2\x80\0\0\0\0\0\0\0",
     .len = 9},
};
