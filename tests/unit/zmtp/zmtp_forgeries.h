// SPDX-License-Identifier: Apache-2.0
// What a client may say wrong, for test_zmtp_forged.c: after a right handshake up to the state
// from, and what the server is to make of it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/zmtp/zmtp.h"
#include "tests/support/zmtp_forger.h"
#include "tests/support/zmtp_server.h"

enum forgery_kind {
    FORGE_RAW,      // text
    FORGE_GREETING, // of the mechanism text
    FORGE_HELLO,
    FORGE_INITIATE, // text is the metadata
    FORGE_MESSAGE,  // flags inside the box, len bytes
    FORGE_SEALED,   // flags of the frame, text is the name, prefix the nonce's, len bytes
};

struct forgery {
    const char *name;
    enum forgery_kind kind;
    enum zmtp_state from;
    enum zmtp_state to;
    struct bytes text;
    const char *prefix;
    unsigned flags;
    size_t len;
    int cut;       // bytes that are left out at the end, if negative; put there, if positive
    size_t at;     // where in the result
    uint8_t flip;  // these bits are flipped
    size_t field;  // FIELD: where in the forger, before
    uint64_t sent; // the short nonce before it, if not 0
};

#define TEXT(text)                                \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }
#define FIELD(name) (1 + offsetof(struct zmtp_forger, name))
#define TYPE(length, value) "\13Socket-Type\0\0\0" length value
#define DEALER TYPE("\6", "DEALER")
#define NO_IDENTITY "\10Identity\0\0\0\0"
#define RIGHT TEXT(DEALER NO_IDENTITY)
#define CLIENTS "CurveZMQMESSAGEC"
#define X50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X350 X50 X50 X50 X50 X50 X50 X50
#define X700 X350 X350
#define X39 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

#define AT_GREETING(what, mechanism, ...)                                                         \
    {                                                                                             \
        what, FORGE_GREETING, ZMTP_GREETING, ZMTP_UNTRUSTED, .text = TEXT(mechanism), __VA_ARGS__ \
    }
#define AT_HELLO(what, ...)                                        \
    {                                                              \
        what, FORGE_HELLO, ZMTP_HELLO, ZMTP_UNTRUSTED, __VA_ARGS__ \
    }
#define AT_INITIATE(what, ...)                                                          \
    {                                                                                   \
        what, FORGE_INITIATE, ZMTP_INITIATE, ZMTP_UNTRUSTED, .text = RIGHT, __VA_ARGS__ \
    }
#define METADATA_IS(to, what, metadata)                                 \
    {                                                                   \
        what, FORGE_INITIATE, ZMTP_INITIATE, to, .text = TEXT(metadata) \
    }
#define IS_RAW(what, from, to, bytes)                  \
    {                                                  \
        what, FORGE_RAW, from, to, .text = TEXT(bytes) \
    }
#define AT_READY(what, kind, ...)                           \
    {                                                       \
        what, kind, ZMTP_READY, ZMTP_MALFORMED, __VA_ARGS__ \
    }

static const struct forgery forgeries[] = {
    IS_RAW("another protocol's line", ZMTP_GREETING, ZMTP_UNTRUSTED, "GET / HTTP/1.1\r\n"),
    IS_RAW("one wrong byte", ZMTP_GREETING, ZMTP_UNTRUSTED, "\x7f"),
    IS_RAW("version 2, and no more", ZMTP_GREETING, ZMTP_UNTRUSTED,
           "\xff\0\0\0\0\0\0\0\x01\x7f\x01\x06"),
    AT_GREETING("a wrong start", "CURVE", .at = 0, .flip = 1),
    AT_GREETING("a wrong signature", "CURVE", .at = 9, .flip = 1),
    AT_GREETING("version 2", "CURVE", .at = 10, .flip = 1),
    AT_GREETING("a server", "CURVE", .at = 32, .flip = 1),
    AT_GREETING("NULL", "NULL", .at = 0),
    AT_GREETING("PLAIN", "PLAIN", .at = 0),
    AT_GREETING("CURVE with a tail", "CURVE25519", .at = 0),
    AT_GREETING("CURVE with a far tail", "CURVE", .at = 31, .flip = 1),

    AT_HELLO("HELLO 2.0", .field = FIELD(version), .flip = 3),
    AT_HELLO("HELLO 1.1", .field = FIELD(version) + 1, .flip = 1),
    AT_HELLO("one bit set of the zeros", .field = FIELD(zeros) + 63, .flip = 0x80),
    AT_HELLO("a zero too many", .field = FIELD(more_zeros), .flip = 1),
    AT_HELLO("HELLO to another server", .field = FIELD(server), .flip = 4),
    AT_HELLO("HELLO of another key", .field = FIELD(transient_public), .flip = 4),
    AT_HELLO("HELLO with the nonce 0", .sent = UINT64_MAX),
    AT_HELLO("HELLO with another nonce", .at = 2 + 119, .flip = 2),
    AT_HELLO("HELLO in a bad box", .at = ZMTP_HELLO_SIZE - 1, .flip = 1),
    AT_HELLO("HELLO cut", .cut = -1),
    AT_HELLO("a long HELLO", .cut = 1),
    AT_HELLO("HELLO by another name", .at = 3, .flip = 32),
    AT_HELLO("HELLO as a message", .at = 0, .flip = ZMTP_FLAG_COMMAND),
    AT_HELLO("HELLO with more", .at = 0, .flip = ZMTP_FLAG_MORE),
    IS_RAW("nothing instead of HELLO", ZMTP_HELLO, ZMTP_UNTRUSTED, "\4\0"),
    IS_RAW("a command too long", ZMTP_HELLO, ZMTP_UNTRUSTED, "\6\0\0\0\0\0\0\4\1"),
    IS_RAW("HELLO of 2^63 bytes", ZMTP_HELLO, ZMTP_UNTRUSTED, "\6\x80\0\0\0\0\0\0\0"),
    {"INITIATE instead of HELLO", FORGE_SEALED, ZMTP_HELLO, ZMTP_UNTRUSTED,
     .text = TEXT("INITIATE"), "CurveZMQINITIATE", ZMTP_FLAG_COMMAND, 300},
    {"a message instead of HELLO", FORGE_MESSAGE, ZMTP_HELLO, ZMTP_UNTRUSTED, .len = 5},
    {"a greeting instead of HELLO", FORGE_GREETING, ZMTP_HELLO, ZMTP_UNTRUSTED,
     .text = TEXT("CURVE")},

    AT_INITIATE("another cookie", .field = FIELD(cookie), .flip = 1),
    AT_INITIATE("a cookie with another end", .field = FIELD(cookie) + 95, .flip = 1),
    AT_INITIATE("a vouch for another key", .field = FIELD(vouch_transient), .flip = 1),
    AT_INITIATE("a vouch for a key with another end", .field = FIELD(vouch_transient) + 31,
                .flip = 1),
    AT_INITIATE("a vouch for another server", .field = FIELD(vouch_server), .flip = 1),
    AT_INITIATE("a vouch for a server with another end", .field = FIELD(vouch_server) + 31,
                .flip = 1),
    AT_INITIATE("a vouch with another secret", .field = FIELD(vouch_secret), .flip = 8),
    AT_INITIATE("a vouch of another's", .field = FIELD(public), .flip = 4),
    AT_INITIATE("a vouch to another connection", .field = FIELD(vouch_to), .flip = 4),
    AT_INITIATE("INITIATE with another key", .field = FIELD(session), .flip = 1),
    AT_INITIATE("INITIATE with HELLO's nonce", .sent = UINT64_MAX),
    AT_INITIATE("INITIATE in a bad box", .at = ZMTP_INITIATE_SIZE - 1, .flip = 1),
    AT_INITIATE("INITIATE by another name", .at = 10, .flip = 32),
    AT_INITIATE("INITIATE as a message", .at = 0, .flip = ZMTP_FLAG_COMMAND),
    AT_INITIATE("INITIATE with more", .at = 0, .flip = ZMTP_FLAG_MORE),
    AT_INITIATE("INITIATE cut", .cut = -1),
    AT_INITIATE("a long INITIATE", .cut = 1),
    {"HELLO again", FORGE_HELLO, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED},
    {"a message before READY", FORGE_MESSAGE, ZMTP_INITIATE, ZMTP_UNTRUSTED, .len = 5},
    {"READY instead of INITIATE", FORGE_SEALED, ZMTP_INITIATE, ZMTP_UNTRUSTED,
     .text = TEXT("READY"), "CurveZMQREADY---", ZMTP_FLAG_COMMAND, 200},
    IS_RAW("INITIATE with nothing in it", ZMTP_INITIATE, ZMTP_UNTRUSTED, "\4\11\10INITIATE"),

    METADATA_IS(ZMTP_READY, "DEALER", DEALER),
    METADATA_IS(ZMTP_READY, "REQ", TYPE("\3", "REQ") NO_IDENTITY),
    METADATA_IS(ZMTP_READY, "ROUTER, at the end", NO_IDENTITY TYPE("\6", "ROUTER")),
    METADATA_IS(ZMTP_READY, "names in other letters",
                "\13SOCKET-tYPE\0\0\0\6DEALER\10identity\0\0\0\0"),
    METADATA_IS(ZMTP_READY, "others too", DEALER "\1X\0\0\0\1y\1X\0\0\0\0"),
    METADATA_IS(ZMTP_UNTRUSTED, "no metadata", ""),
    METADATA_IS(ZMTP_UNTRUSTED, "no type", NO_IDENTITY),
    METADATA_IS(ZMTP_UNTRUSTED, "PUB", TYPE("\3", "PUB")),
    METADATA_IS(ZMTP_UNTRUSTED, "REP", TYPE("\3", "REP")),
    METADATA_IS(ZMTP_UNTRUSTED, "an empty type", TYPE("\0", "")),
    METADATA_IS(ZMTP_UNTRUSTED, "a type in small letters", TYPE("\6", "dealer")),
    METADATA_IS(ZMTP_UNTRUSTED, "a longer type", TYPE("\7", "DEALERS")),
    METADATA_IS(ZMTP_UNTRUSTED, "two types", DEALER DEALER),
    METADATA_IS(ZMTP_UNTRUSTED, "two types that differ", DEALER TYPE("\3", "PUB")),
    METADATA_IS(ZMTP_UNTRUSTED, "a routing id", DEALER "\10Identity\0\0\0\1x"),
    METADATA_IS(ZMTP_UNTRUSTED, "a routing id in small letters", DEALER "\10identity\0\0\0\1x"),
    METADATA_IS(ZMTP_UNTRUSTED, "two identities", DEALER NO_IDENTITY NO_IDENTITY),
    METADATA_IS(ZMTP_UNTRUSTED, "one and a routing id", DEALER NO_IDENTITY "\10Identity\0\0\0\1x"),
    METADATA_IS(ZMTP_UNTRUSTED, "a byte too many", DEALER "\0"),
    METADATA_IS(ZMTP_UNTRUSTED, "a property without a name", DEALER "\0\0\0\0\0"),
    METADATA_IS(ZMTP_UNTRUSTED, "a name that is cut", DEALER "\3ab"),
    METADATA_IS(ZMTP_UNTRUSTED, "a name alone", DEALER "\1x"),
    METADATA_IS(ZMTP_UNTRUSTED, "a length that is cut", DEALER "\1x\0\0\0"),
    METADATA_IS(ZMTP_UNTRUSTED, "a value that is cut", DEALER "\1x\0\0\0\2y"),
    METADATA_IS(ZMTP_UNTRUSTED, "a value of 2^24 bytes", DEALER "\1x\1\0\0\0"),
    METADATA_IS(ZMTP_UNTRUSTED, "a value of 2^32 - 1 bytes", DEALER "\1x\xff\xff\xff\xff"),
    METADATA_IS(ZMTP_READY, "all that may come", DEALER "\1x\0\0\2\343" X700 X39),
    METADATA_IS(ZMTP_UNTRUSTED, "more than may come", DEALER "\1x\0\0\2\344" X700 X39 "x"),

    AT_READY("a message with the last nonce", FORGE_MESSAGE, .len = 5, .sent = 1),
    AT_READY("a message with the nonce 0", FORGE_MESSAGE, .len = 5, .sent = UINT64_MAX),
    AT_READY("a frame with more", FORGE_SEALED, .text = TEXT("MESSAGE"), CLIENTS, ZMTP_FLAG_MORE,
             5),
    AT_READY("a command", FORGE_SEALED, .text = TEXT("MESSAGE"), CLIENTS, ZMTP_FLAG_COMMAND, 5),
    AT_READY("a reserved flag", FORGE_SEALED, .text = TEXT("MESSAGE"), CLIENTS, 8, 5),
    AT_READY("a command with more in the box", FORGE_MESSAGE, .flags = 3, .len = 5),
    AT_READY("4 in the box", FORGE_MESSAGE, .flags = 4, .len = 5),
    AT_READY("128 in the box", FORGE_MESSAGE, .flags = 128, .len = 5),
    AT_READY("a message of another name", FORGE_SEALED, .text = TEXT("MESSAGF"), CLIENTS, 0, 5),
    AT_READY("a server's message", FORGE_SEALED, .text = TEXT("MESSAGE"), "CurveZMQMESSAGES", 0, 5),
    AT_READY("INITIATE again", FORGE_INITIATE, .text = RIGHT),
    AT_READY("a tampered message", FORGE_MESSAGE, .len = 5, .at = 36, .flip = 1),
    AT_READY("a message with another key", FORGE_MESSAGE, .len = 5, .field = FIELD(session),
             .flip = 1),
    AT_READY("a box with nothing in it", FORGE_SEALED, .text = TEXT("MESSAGE"), CLIENTS, 0, 0),
    AT_READY("a message too long by one", FORGE_MESSAGE, .len = 1001),
    IS_RAW("half a box", ZMTP_READY, ZMTP_MALFORMED,
           "\0\40\7MESSAGE\0\0\0\0\0\0\0\x09"
           "0123456789abcdef"),
    IS_RAW("an empty frame", ZMTP_READY, ZMTP_MALFORMED, "\0\0"),
    IS_RAW("a message's name alone", ZMTP_READY, ZMTP_MALFORMED, "\0\10\7MESSAGE"),
    IS_RAW("the header of one too long", ZMTP_READY, ZMTP_MALFORMED, "\2\0\0\0\0\0\0\4\12"),
    IS_RAW("a message of 2^63 bytes", ZMTP_READY, ZMTP_MALFORMED, "\2\x80\0\0\0\0\0\0\0"),
    IS_RAW("a message of 2^64 - 1 bytes", ZMTP_READY, ZMTP_MALFORMED,
           "\2\xff\xff\xff\xff\xff\xff\xff\xff"),
};
