// SPDX-License-Identifier: Apache-2.0
// What custody needs of the keystore, as a table, so that its tests need no token. Contracts are
// those of keystore_token.h and keystore_status.h.
#pragma once

#include "hsmd/keystore/keystore_status.h"
#include "hsmd/keystore/keystore_token.h"

struct custody_token_ops {
    const struct keystore_ops *keys;
    bool (*is_open)(const struct keystore_key *key, size_t i);
    enum err (*add_key)(struct keystore *keystore, const char *name, enum wire_purpose purpose,
                        struct bytes public_key, const struct keystore_place *places, size_t count,
                        struct keystore_key **key, struct detail *detail);
    void (*drop_key)(struct keystore *keystore, struct keystore_key *key);
    enum err (*generate)(struct keystore *keystore, const char *token,
                         const struct token_key_wish *wish, enum wire_purpose purpose,
                         deadline_t deadline, struct buf *public_key, struct detail *detail);
    enum err (*import)(struct keystore *keystore, const char *token,
                       const struct token_key_wish *wish, enum wire_purpose purpose,
                       const struct secret *pkcs8, deadline_t deadline, bool *is_wrapped,
                       struct buf *public_key, struct detail *detail);
    enum err (*look)(struct keystore *keystore, const struct keystore_place *place,
                     enum wire_purpose purpose, deadline_t deadline, struct buf *public_key,
                     struct detail *detail);
    enum err (*destroy)(struct keystore *keystore, const struct keystore_place *place,
                        struct bytes public_key, deadline_t deadline, struct detail *detail);
    enum err (*list)(struct keystore *keystore, const char *token, deadline_t deadline,
                     token_key_see_fn see, void *context, struct detail *detail);
    enum err (*unlock)(struct keystore *keystore, const char *token, const struct secret *pin,
                       struct detail *detail);
    enum err (*lock)(struct keystore *keystore, const char *token, struct detail *detail);
    bool (*is_locked)(struct keystore *keystore, const char *token);
};

extern const struct custody_token_ops custody_keystore_ops; // the keystore's own
