// SPDX-License-Identifier: Apache-2.0
// Signs the audit log, with a key in a token that no client can use: at each checkpoint the enabled
// key of purpose audit that the registry has then (registry_audit_key). Where officers change it
// the log goes on, and the next checkpoint names the new one.
//
// A thread of its own makes a checkpoint at start, after so many lines or so much time if there are
// lines that none covers, after a rotation, and at the stop. Requests go on meanwhile: a checkpoint
// covers the line that was the last one when signing began, and may stand some lines after it.
// While there is no such key, or its token is locked or away, none is made; that is logged once and
// tried again, and the log goes on.
#pragma once

#include "hsmd/audit/audit.h"
#include "hsmd/keystore/keystore.h"
#include "hsmd/registry/live.h"

#define CHECKPOINT_RETRY_MS 2000
#define CHECKPOINT_STOP_MS 5000 // for the last one

struct checkpointer;

struct checkpointer_conf {
    struct audit *audit;                 // borrowed
    const struct keystore_ops *keystore; // borrowed
    struct live *live;                   // borrowed
    unsigned lines;
    unsigned seconds;
};

// All signals are blocked in its thread.
enum err checkpointer_open(const struct checkpointer_conf *conf, struct checkpointer **checkpointer,
                           struct detail *detail);

struct checkpointer_status {
    char key[TEXT_NAME_MAX + 1]; // that signs, or would; "": there is none
    bool is_failing;             // none could be made when it was due
    uint64_t seq;                // of the last line that a checkpoint made here covers; 0: none yet
    uint64_t age_ms;             // of that checkpoint
    uint64_t uncovered;          // lines since then, but for the checkpoint itself
};

// Thread-safe; waits for no token.
void checkpointer_get_status(struct checkpointer *checkpointer, struct checkpointer_status *status);

// Makes the last checkpoint and ends the thread. ERR_TEMP: the thread is stuck in the token; it,
// the log and the token must be left alone until the process ends.
enum err checkpointer_close(struct checkpointer *checkpointer, struct detail *detail);

// The id of an audit key: SHA-256 of its SubjectPublicKeyInfo.
enum err checkpoint_key_id(struct bytes public_key, uint8_t id[AUDIT_HASH_SIZE]);
