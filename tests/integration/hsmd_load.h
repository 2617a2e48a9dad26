// SPDX-License-Identifier: Apache-2.0
// Sixteen callers of a real hsmd who sign (key "signing") and unwrap (key "decryption") without a
// pause, each request with a digest or ciphertext of its own. Every answer is checked: signatures
// with the public key, unwrapped secrets with what was wrapped. Exits the test if something of its
// own fails.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "hsmd/base/clock.h"
#include "hsmd/base/hash.h"
#include "tests/integration/hsmd_process.h"

#define LOAD_CALLERS 16

enum { LOAD_SIGN, LOAD_UNWRAP, LOAD_OPERATIONS };

// What hsmd has answered ok, as its audit log tells it.
struct load_answer {
    uint8_t digest[HASH_SIZE_MAX]; // 32 bytes: message digest, or SHA-256 of the ciphertext
    uint64_t id;
    unsigned operation;
};

struct load_caller {
    struct load *load;
    pthread_t thread;
    bool is_started;
    struct load_answer *answers;
    size_t answer_room;
    atomic_size_t answer_count;
};

struct load {
    struct client *client;
    EVP_PKEY *signing, *decryption;
    unsigned late_ms; // an answer that takes longer is late
    atomic_bool is_stopping;
    atomic_uint answered, temporary, late, wrong, other;
    atomic_uint longest_ms;
    _Atomic deadline_t begun[LOAD_OPERATIONS]; // latest beginning of a request answered ok
    struct load_caller callers[LOAD_CALLERS];
};

// timeout_ms: of the client. late_ms: see above.
void load_begin(struct load *load, struct hsmd *hsmd, unsigned timeout_ms, unsigned late_ms);
// Until so many more requests were answered ok. False: not in time.
bool load_wait(struct load *load, unsigned more, unsigned ms);
// Until requests of both operations that were begun from now on are answered ok. How long it took;
// over limit_ms: not in time.
unsigned load_wait_healthy(struct load *load, unsigned limit_ms);
// Until each caller was answered ok once more. False: not in time.
bool load_wait_everybody(struct load *load, unsigned ms);
void load_stop(struct load *load); // the answers remain
void load_clear(struct load *load);

// Looks for the line of each answer in the text of an audit log. Says which of them has none, or
// more than one; how many have not one.
unsigned load_missing(const struct load *load, struct bytes log);
