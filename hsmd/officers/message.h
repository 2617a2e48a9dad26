// SPDX-License-Identifier: Apache-2.0
// The officers' channel: what hsmctl and hsmd say to one another, as flat msgpack arrays like those
// of the data path, but on another socket, with other keys and another ZAP domain.
//
//     request  [version, operation, id, field...]
//     reply    [version, class, id, detail, body]
//
// Decoding is strict in the way of wire.h; on ERR_PERM the id is the frame's if that much could be
// read, else 0, and nothing else is set. The peer is who its CURVE key says.
#pragma once

#include "hsmd/officers/act.h"
#include "hsmd/officers/statement.h"

#define MESSAGE_VERSION 1
#define MESSAGE_REQUEST_MAX 131072 // bytes of a request; ZMQ_MAXMSGSIZE of hsmd
#define MESSAGE_REPLY_MAX 1048576  // bytes of a reply
#define MESSAGE_DETAIL_MAX 479

// X(symbol, number, name)
#define MESSAGE_OPERATIONS(X)        \
    X(MESSAGE_READ, 1, "read")       \
    X(MESSAGE_PROPOSE, 2, "propose") \
    X(MESSAGE_APPROVE, 3, "approve") \
    X(MESSAGE_REJECT, 4, "reject")

enum message_operation {
#define X(symbol, number, name) symbol = (number),
    MESSAGE_OPERATIONS(X)
#undef X
};

// What can be read, by officers and auditors alike; the bodies are JSON, see reads.md's tables in
// hsmctl(1), but for audit-log, which is the bytes of the file. argument: a name or a number, or
// empty; offset: audit-log alone.
// X(symbol, number, name)
#define MESSAGE_READS(X)                                                                    \
    X(READ_STATUS, 1, "status")                                                             \
    X(READ_KEYS, 2, "keys")       /* argument: one */                                       \
    X(READ_CLIENTS, 3, "clients") /* argument: one */                                       \
    X(READ_OFFICERS, 4, "officers")                                                         \
    X(READ_PROPOSALS, 5, "proposals") /* argument: number, "all", or empty: pending ones */ \
    X(READ_USAGE, 6, "usage")                                                               \
    X(READ_OBJECTS, 7, "objects")     /* argument: token: the private keys in it */         \
    X(READ_AUDIT_LOG, 8, "audit-log") /* offset in the present file */

enum message_read {
#define X(symbol, number, name) symbol = (number),
    MESSAGE_READS(X)
#undef X
};

const char *message_operation_name(enum message_operation operation);

struct message_request {
    enum message_operation operation;
    uint64_t id;
    union {
        struct {
            enum message_read what; // uint
            struct bytes argument;  // str, up to WIRE_NAME_MAX
            uint64_t offset;        // uint
        } read;
        struct {
            struct statement statement; // as signed, but for instance, which hsmd knows
            struct bytes signature;     // bin, 64
            struct bytes attachment;    // bin, up to ACT_ATTACHMENT_MAX; a secret
        } propose; // fields: nonce bin 16, replaces uint, lapse uint, act bin, signature,
                   // attachment
        struct {
            uint64_t number;        // uint
            struct bytes digest;    // bin, 32: statement_digest of the proposal that is meant
            struct bytes signature; // bin, 64: of statement_verdict
        } verdict;                  // approve, reject
    };
};

struct message_reply {
    enum err class;
    uint64_t id;
    struct bytes detail; // str: why not, for people; empty if ok
    struct bytes body;   // bin: of read, what was asked for; of the others {"number":N,...}, as one
                         // item of READ_PROPOSALS
};

// Append one frame, or nothing. The buffer grows at most once, before a byte of an attachment is in
// it. ERR_PERM: a field is over its cap, missing, or does not go with the operation.
enum err message_encode_request(const struct message_request *request, struct buf *out,
                                struct detail *detail);
enum err message_decode_request(struct bytes frame, struct message_request *request,
                                struct detail *detail);
// What is not printable ASCII in detail becomes '?', so that it can be put on a terminal.
enum err message_encode_reply(const struct message_reply *reply, struct buf *out);
enum err message_decode_reply(struct bytes frame, struct message_reply *reply,
                              struct detail *detail);
