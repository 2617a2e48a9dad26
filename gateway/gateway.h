// SPDX-License-Identifier: Apache-2.0
// What the messages share: configuration, trust anchors, store and our identities, opened once at
// start and used by all threads.
#pragma once

#include <pthread.h>

#include "gateway/certstore.h"
#include "gateway/conf.h"
#include "gateway/identity.h"
#include "gateway/spool.h"
#include "gateway/trust.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"

struct envelope {
    const char *sender; // with or without angle brackets; "" or "<>": none
    const char *const *recipients;
    size_t recipient_count;
};

struct gateway {
    const struct conf *conf;
    struct spool_conf spool;
    struct trust *trust; // NULL: nothing is verified
    struct certstore *store;
    struct identity **identities; // in the configuration's order
    _Atomic bool *has_identity;   // those that gateway_get_identity once gave
    pthread_mutex_t away_lock;    // over the rest
    deadline_t away_until;        // hsmd did not answer a moment ago and is not asked again before
    struct detail away_why;
};

// Reads the files that the configuration names. hsmd need not be there. conf must outlive it.
enum err gateway_open(const struct conf *conf, struct gateway **gateway, struct detail *detail);
void gateway_close(struct gateway *gateway); // NULL is fine

// identity_get, but after ERR_TEMP from hsmd nobody asks it again for GATEWAY_AWAY ms: until then
// only identities that are known are given, to any thread. is_away is for who asks for several in a
// row, each of which may take as long as its deadline: set on ERR_TEMP, and heeded for as long as
// the caller likes.
#define GATEWAY_AWAY 1000
enum err gateway_get_identity(struct gateway *gateway, size_t index, bool *is_away,
                              struct identity_material *material, struct detail *detail);

// Tells everything that is wrong with our own certificates, the spool directory (features F22, F23)
// and names in the configuration, a line each, and returns how many of these forbid to start.
// asks_for_keys: also for those of hsmd, which may take as long as its deadline for each.
size_t gateway_check(const struct gateway *gateway, bool asks_for_keys,
                     void (*tell)(void *ctx, bool is_error, const char *line), void *ctx);
