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
#include "hsmd/base/err.h"

struct envelope {
    const char *sender; // with or without angle brackets; "" or "<>": none
    const char *const *recipients;
    size_t recipient_count;
};

struct gateway {
    const struct conf *conf;
    struct spool_conf spool;
    struct trust *trust;          // NULL: nothing is verified
    struct certstore *store;      // only through gateway_find_certificates
    struct identity **identities; // in the configuration's order
    _Atomic bool *has_identity;   // those that gateway_get_identity once gave
    pthread_mutex_t store_mutex;
};

// Reads the files that the configuration names. hsmd need not be there. conf must outlive it.
enum err gateway_open(const struct conf *conf, struct gateway **gateway, struct detail *detail);
void gateway_close(struct gateway *gateway); // NULL is fine

// certstore_find for any thread.
enum err gateway_find_certificates(struct gateway *gateway, const char *address, time_t at,
                                   STACK_OF(X509) * *certs, struct detail *detail);

// identity_get, for who asks for several in a row: while hsmd is away each of them may take as long
// as its deadline. So after ERR_TEMP for one, is_away is set, and only those that are known are
// given.
enum err gateway_get_identity(struct gateway *gateway, size_t index, bool *is_away,
                              struct identity_material *material, struct detail *detail);

// Tells everything that is wrong with our own certificates and the spool directory (features F22,
// F23), a line each, and returns how many of these forbid to start. Asks hsmd for nothing.
size_t gateway_check(const struct gateway *gateway,
                     void (*tell)(void *ctx, bool is_error, const char *line), void *ctx);
