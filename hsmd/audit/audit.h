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
// With an audit key in the token there are lines of event "checkpoint" too, which are signed: see
// audit_checkpoint.h for who makes them, audit_line.h for what exactly is signed. The page for
// people is hsmd-audit(5).
//
// Threads that come together share one write. A line that could not be written whole is cut off
// again, and its writer told ERR_TEMP. A line that was torn all the same (power cut, SIGKILL while
// writing) is found at the next start: it gets a line end, and the line after it, of event "torn",
// goes on with the numbers and has the torn line's hash.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"

#define AUDIT_LINE_MAX 2048 // bytes of a line; a longer reason is cut
#define AUDIT_WHAT_MAX 640  // bytes of what, as escaped in the line

// X(symbol, name, when)
#define AUDIT_EVENTS(X)                                                                     \
    X(AUDIT_START, "start", "hsmd has found its registry and this log well, and starts")    \
    X(AUDIT_FOUND, "found", "root has had officers taken from hsmd.conf anew")              \
    X(AUDIT_MIGRATE, "migrate", "it was brought from a former hsmd.conf, by nobody's vote") \
    X(AUDIT_STOP, "stop", "hsmd has stopped serving")                                       \
    X(AUDIT_TORN, "torn", "the line before was torn")                                       \
    X(AUDIT_ROTATE, "rotate", "the log goes on in this file")                               \
    X(AUDIT_SELF_TEST, "self-test", "hsmd has tried an enabled key")                        \
    X(AUDIT_USE, "use", "a key was used; result tells whether it worked")                   \
    X(AUDIT_REFUSE, "refuse", "a client asked for what it may not have")                    \
    X(AUDIT_CHECKPOINT, "checkpoint", "the lines up to covers are signed")                  \
    X(AUDIT_PROPOSE, "propose", "an officer has proposed an act, or changed one")           \
    X(AUDIT_APPROVE, "approve", "an officer has approved it")                               \
    X(AUDIT_REJECT, "reject", "an officer has rejected it, or taken it back")               \
    X(AUDIT_LAPSE, "lapse", "nobody has agreed on it in time")                              \
    X(AUDIT_BEGIN, "begin", "enough have agreed; a token begins to do it")                  \
    X(AUDIT_ACT, "act", "enough have agreed; result tells whether it worked")               \
    X(AUDIT_UNLOCK, "unlock", "that act, or hsmd itself, logs in to a token")               \
    X(AUDIT_LOCK, "lock", "that act was to log out of a token")                             \
    X(AUDIT_ACT_LOST, "act-lost", "what that line says was not kept")                       \
    X(AUDIT_OFFICER_REFUSED, "officer-refused", "an officer asked for what may not be")     \
    X(AUDIT_TOKEN_LOST, "token-lost", "a token does not answer any more")                   \
    X(AUDIT_TOKEN_BACK, "token-back", "it does again")

enum audit_event {
#define X(symbol, name, when) symbol,
    AUDIT_EVENTS(X)
#undef X
        AUDIT_EVENT_COUNT
};

// The fields of a line, in their order. X(symbol, name, kind, what)
#define AUDIT_FIELDS(X)                                                                            \
    X(AUDIT_FIELD_SEQ, "seq", AUDIT_KIND_NUMBER, "the line's number")                              \
    X(AUDIT_FIELD_TIME, "time", AUDIT_KIND_TIME, "when, UTC")                                      \
    X(AUDIT_FIELD_EVENT, "event", AUDIT_KIND_TEXT, "what happened")                                \
    X(AUDIT_FIELD_CLIENT, "client", AUDIT_KIND_TEXT, "who asked")                                  \
    X(AUDIT_FIELD_OFFICER, "officer", AUDIT_KIND_TEXT, "which officer it was")                     \
    X(AUDIT_FIELD_INSTANCE, "instance", AUDIT_KIND_HEX, "which registry it is")                    \
    X(AUDIT_FIELD_PROPOSAL, "proposal", AUDIT_KIND_NUMBER, "number of the proposal")               \
    X(AUDIT_FIELD_REGISTRY, "registry_sha256", AUDIT_KIND_HEX, "SHA-256 of what it then says")     \
    X(AUDIT_FIELD_BUDGETS, "budgets", AUDIT_KIND_NUMBER, "writes of the file of budgets so far")   \
    X(AUDIT_FIELD_ACT, "act", AUDIT_KIND_TEXT, "kind of act")                                      \
    X(AUDIT_FIELD_WHAT, "what", AUDIT_KIND_TEXT, "what is to be done, in words")                   \
    X(AUDIT_FIELD_ACT_HASH, "act_sha256", AUDIT_KIND_HEX, "SHA-256 of the act's encoding")         \
    X(AUDIT_FIELD_TOKEN, "token", AUDIT_KIND_TEXT, "of which token")                               \
    X(AUDIT_FIELD_KEY, "key", AUDIT_KIND_TEXT, "for which key")                                    \
    X(AUDIT_FIELD_OPERATION, "operation", AUDIT_KIND_TEXT, "to do what")                           \
    X(AUDIT_FIELD_ALGORITHM, "algorithm", AUDIT_KIND_TEXT, "of the key")                           \
    X(AUDIT_FIELD_HASH, "hash", AUDIT_KIND_TEXT, "hash function")                                  \
    X(AUDIT_FIELD_ID, "id", AUDIT_KIND_NUMBER, "of the request")                                   \
    X(AUDIT_FIELD_RESULT, "result", AUDIT_KIND_TEXT, "class of the answer")                        \
    X(AUDIT_FIELD_MESSAGE_DIGEST, "message_digest", AUDIT_KIND_HEX, "what was signed")             \
    X(AUDIT_FIELD_CIPHERTEXT, "ciphertext_sha256", AUDIT_KIND_HEX, "what was decrypted")           \
    X(AUDIT_FIELD_REASON, "reason", AUDIT_KIND_TEXT, "why it is not ok")                           \
    X(AUDIT_FIELD_COVERS, "covers", AUDIT_KIND_NUMBER, "checkpoint: the last line it vouches for") \
    X(AUDIT_FIELD_CHAIN, "chain", AUDIT_KIND_HEX, "checkpoint: hash of that line")                 \
    X(AUDIT_FIELD_KEY_ID, "key_id", AUDIT_KIND_HEX, "checkpoint: SHA-256 of the audit key's SPKI") \
    X(AUDIT_FIELD_SIGNATURE, "signature", AUDIT_KIND_BASE64, "checkpoint: the signature")          \
    X(AUDIT_FIELD_PREV, "prev", AUDIT_KIND_HEX, "hash of the line before")

enum audit_kind {
    AUDIT_KIND_NUMBER,
    AUDIT_KIND_TIME,
    AUDIT_KIND_TEXT,
    AUDIT_KIND_HEX,
    AUDIT_KIND_BASE64
};

enum audit_field {
#define X(symbol, name, kind, what) symbol,
    AUDIT_FIELDS(X)
#undef X
        AUDIT_FIELD_COUNT
};

#define AUDIT_HASH_SIZE 32
#define AUDIT_INSTANCE_SIZE 16 // STATEMENT_INSTANCE_SIZE

// An end of the chain.
struct audit_link {
    uint64_t seq;                  // of the last line; 0: none yet
    uint8_t hash[AUDIT_HASH_SIZE]; // of the last line
};

// A signature over the chain up to a line that was the last one when signing began.
struct audit_checkpoint {
    struct audit_link covered;
    uint8_t key_id[AUDIT_HASH_SIZE];
    struct bytes signature;
};

// A checkpoint is at most so many lines behind what it covers, so that a reader need not remember
// more.
#define AUDIT_COVER_MAX 16384

// When lines go from the system's memory to the disk.
// X(symbol, name)
#define AUDIT_SYNCS(X)           \
    X(AUDIT_SYNC_OFF, "off")     \
    X(AUDIT_SYNC_BATCH, "batch") \
    X(AUDIT_SYNC_ALWAYS, "always")

enum audit_sync {
#define X(symbol, name) symbol,
    AUDIT_SYNCS(X)
#undef X
        AUDIT_SYNC_COUNT
};

#define AUDIT_SYNC_MS 100 // AUDIT_SYNC_BATCH: from one fdatasync(2) to the next

// NULL, empty and 0 members are left out of the line.
struct audit_record {
    enum audit_event event;
    const char *client;
    const char *officer;
    struct bytes instance; // of the registry
    uint64_t proposal;     // 0: none; of AUDIT_START: the registry's last one
    struct bytes registry; // SHA-256 of what it says from then on (store_digest)
    uint64_t budgets;      // how often their file was written; 0: not said
    const char *act;       // act_kind_name
    const char *what;      // act_summary; cut to AUDIT_WHAT_MAX
    struct bytes act_sha256;
    const char *token;
    struct bytes key; // as the client called it
    const char *operation;
    const char *algorithm;
    const char *hash;
    bool has_id;
    uint64_t id;
    const char *result;                        // err_name
    const char *reason;                        // why, if the result is not ok
    struct bytes message_digest;               // of a signature: what was signed
    struct bytes ciphertext;                   // of an unwrapping: SHA-256 of the encrypted key
    const struct audit_checkpoint *checkpoint; // of AUDIT_CHECKPOINT
    const char *stamp; // CLOCK_STAMP_SIZE; NULL: the time when it is written
};

struct audit;

// Opens or makes (mode 0600) the log and finds the end of its chain. One process at a time.
// ERR_PERM: another one has it, it is no audit log of ours; ERR_TEMP: disk full. AUDIT_SYNC_OFF.
enum err audit_open(const char *path, struct audit **audit, struct detail *detail);
void audit_close(struct audit *audit); // syncs, unless off

// Once, before others use it. OFF: a line is the system's when audit_write returns: it outlives
// hsmd, not the machine. BATCH: the same, and a thread syncs what was written, every
// AUDIT_SYNC_MS; if that fails nothing is written until it works again. ALWAYS: audit_write returns
// when the line is on the disk; lines that come together share one fdatasync(2).
enum err audit_set_sync(struct audit *audit, enum audit_sync sync, struct detail *detail);

// Which registry hsmd runs with (borrowed), and the number of its last proposal, once: for the
// first line of each rotated file, so that every file knows (audit_trace.h). What the registry says
// is remembered from the lines that are written.
void audit_set_registry(struct audit *audit, struct bytes instance, uint64_t proposal);

// Thread-safe. On ERR_OK the line is in the file. ERR_TEMP: it is not, and whatever it is about
// must not happen or not be told. The first failure in a row, and the end of the row, are logged
// here.
enum err audit_write(struct audit *audit, const struct audit_record *record, struct detail *detail);

// Goes on in a new file, after the log was moved away or removed: path must be absent or empty. It
// is made as path.new and takes the name with its first line in it. On failure goes on with the
// file it has, and path is as it was. ERR_PERM: another file is there; ERR_TEMP: disk full.
enum err audit_reopen(struct audit *audit, struct detail *detail);

// The end of the chain, and a wait for it: until there is a line of that number, until the
// deadline, or until audit_wake. One thread may wait.
struct audit_link audit_head(struct audit *audit);
struct audit_link audit_wait(struct audit *audit, uint64_t seq, deadline_t until);
void audit_wake(struct audit *audit);

struct audit_status {
    struct audit_link head;
    enum audit_sync sync;
    uint64_t unsynced; // lines written and not yet on the disk; of AUDIT_SYNC_OFF none is counted
    uint64_t unsynced_ms; // since the first of them was written
};

// Thread-safe; does not wait for the disk.
void audit_get_status(struct audit *audit, struct audit_status *status);

bool audit_event_by_name(struct bytes name, enum audit_event *event);
const char *audit_field_name(enum audit_field field);
enum audit_kind audit_field_kind(enum audit_field field);
const char *audit_sync_name(enum audit_sync sync);
bool audit_sync_by_name(const char *name, enum audit_sync *sync);
