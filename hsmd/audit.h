// SPDX-License-Identifier: Apache-2.0
// The audit log: one line of JSON for every use of a key, every refusal, every start and stop, in
// the file before the answer leaves (promise 3). Each line carries the SHA-256 of the line before
// it (without its line end; 64 zeros before the first), so that lines hang together like a chain,
// over restarts and rotations too.
//
//     {"seq":7,"time":"2026-11-21T22:54:14.123Z","event":"use","client":"gw1","key":"signing",
//      "operation":"sign","algorithm":"rsa-pkcs1","hash":"sha256","id":12,"result":"ok",
//      "message_digest":"9f...","prev":"51..."}
//
// Threads that come together share one write. A line that could not be written whole is cut off
// again, and its writer told ERR_TEMP. A line that was torn all the same (power cut, SIGKILL while
// writing) is found at the next start: it gets a line end, and the line after it, of event "torn",
// goes on with the numbers and has the torn line's hash.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

#define AUDIT_LINE_MAX 2048 // bytes of a line; a longer reason is cut

// X(symbol, name, when)
#define AUDIT_EVENTS(X)                                                   \
    X(AUDIT_START, "start", "hsmd has checked everything and is serving") \
    X(AUDIT_STOP, "stop", "hsmd has stopped serving")                     \
    X(AUDIT_TORN, "torn", "the line before was torn")                     \
    X(AUDIT_ROTATE, "rotate", "the log goes on in this file")             \
    X(AUDIT_USE, "use", "a key was used; result tells whether it worked") \
    X(AUDIT_REFUSE, "refuse", "a client asked for what it may not have")

enum audit_event {
#define X(symbol, name, when) symbol,
    AUDIT_EVENTS(X)
#undef X
        AUDIT_EVENT_COUNT
};

// NULL and empty members are left out of the line.
struct audit_record {
    enum audit_event event;
    const char *client;
    struct bytes key; // as the client called it
    const char *operation;
    const char *algorithm;
    const char *hash;
    bool has_id;
    uint64_t id;
    const char *result;          // err_name
    const char *reason;          // why, if the result is not ok
    struct bytes message_digest; // of a signature: what was signed
    struct bytes ciphertext;     // of an unwrapping: SHA-256 of the encrypted key
};

struct audit;

// Opens or makes (mode 0600) the log and finds the end of its chain. One process at a time.
// ERR_PERM: another one has it, it is no audit log of ours; ERR_TEMP: disk full.
enum err audit_open(const char *path, struct audit **audit, struct detail *detail);
void audit_close(struct audit *audit);

// Thread-safe. On ERR_OK the line is in the file. ERR_TEMP: it is not, and whatever it is about
// must not happen or not be told. The first failure in a row, and the end of the row, are logged
// here.
enum err audit_write(struct audit *audit, const struct audit_record *record, struct detail *detail);

// Opens path anew, after the log was rotated away. On failure goes on with the file it has.
enum err audit_reopen(struct audit *audit, struct detail *detail);

const char *audit_event_name(enum audit_event event);
