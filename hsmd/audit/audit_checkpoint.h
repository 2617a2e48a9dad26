// SPDX-License-Identifier: Apache-2.0
// Signs the audit log, with a key in a token that no client can use.
//
// A thread of its own makes a checkpoint at start, after so many lines or so much time if there are
// lines that none covers, after a rotation, and at the stop. Requests go on meanwhile: a checkpoint
// covers the line that was the last one when signing began, and may stand some lines after it.
// While the token is away none is made; that is logged once and tried again, and the log goes on.
#pragma once

#include "hsmd/audit/audit.h"
#include "hsmd/keystore/keystore.h"

#define CHECKPOINT_RETRY_MS 2000
#define CHECKPOINT_STOP_MS 5000 // for the last one

struct checkpointer;

struct checkpointer_conf {
    struct audit *audit;                 // borrowed
    const struct keystore_ops *keystore; // borrowed
    struct keystore_key *key;            // borrowed
    unsigned lines;
    unsigned seconds;
};

// ERR_PERM: no key to sign with. All signals are blocked in its thread.
enum err checkpointer_open(const struct checkpointer_conf *conf, struct checkpointer **checkpointer,
                           struct detail *detail);

// Makes the last checkpoint and ends the thread. ERR_TEMP: the thread is stuck in the token; it,
// the log and the token must be left alone until the process ends.
enum err checkpointer_close(struct checkpointer *checkpointer, struct detail *detail);

// The id of an audit key: SHA-256 of its SubjectPublicKeyInfo.
enum err checkpoint_key_id(struct bytes public_key, uint8_t id[AUDIT_HASH_SIZE]);
