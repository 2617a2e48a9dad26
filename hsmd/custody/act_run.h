// SPDX-License-Identifier: Apache-2.0
// An act on its way. Each kind is a row of functions, those it does not need NULL:
//
//     check    would it do? Looks at the store alone; asked when it is proposed, and again
//     prepare  what the token has to do; without the lock of the store
//     change   what the store has to do; in the transaction
//     salvage  of an act that failed half way: what of it the store must know nevertheless
//     undo     takes back in the token what prepare did, for nothing was committed; without the
//     lock finish   after the commit and the swap; without the lock
#pragma once

#include "hsmd/custody/custody_internal.h"

// A key of the store, copied. Embedded: key_copy_get, key_copy_clear (a zeroed struct is fine).
struct key_copy {
    struct store_key key;
    struct buf room; // of its bytes
};

struct act_run {
    struct custody *custody;
    struct call *call;
    const struct act_steps *steps;
    struct act act;
    uint64_t number;             // of the proposal; 0: only checked, or not marked as carried
    const uint8_t *digest;       // of the proposal; NULL: only checked
    struct bytes attachment;     // when it is only checked
    const struct secret *secret; // when it is carried out; NULL: none
    struct secret pin;           // what secret points to, if that is a PIN
    json_t *result;              // an object: what came of it
    enum err outcome;            // of prepare
    // What prepare has for change, undo and finish.
    struct key_copy key;   // the one the act is about, as it was
    struct store_key made; // as it is to be; bytes in public_key and certificates
    struct buf public_key;
    struct buf certificates;
    unsigned done; // places that were made, or destroyed, by index of made.places
    bool is_bound; // custody_bind was called for made
    bool is_salvaged;
    bool is_wrapped; // the imported key went into all its tokens under a key of theirs
    struct detail *detail;
};

struct act_steps {
    enum err (*check)(struct act_run *run);
    enum err (*prepare)(struct act_run *run);
    enum err (*change)(struct act_run *run);
    enum err (*salvage)(struct act_run *run);
    enum err (*undo)(struct act_run *run); // not ERR_OK: detail says what is left
    void (*finish)(struct act_run *run);
    bool is_registry_changed; // a new one must be made and swapped in
};

const struct act_steps *act_steps_of(enum act_kind kind); // NULL: none

extern const struct act_steps act_steps_generate, act_steps_import, act_steps_adopt,
    act_steps_place, act_steps_request, act_steps_self_sign, act_steps_certificate,
    act_steps_enable, act_steps_disable, act_steps_retire, act_steps_destroy, act_steps_limit,
    act_steps_client_add, act_steps_client_revoke, act_steps_grant, act_steps_ungrant,
    act_steps_officer_add, act_steps_officer_remove, act_steps_quorum, act_steps_unlock,
    act_steps_lock;

// found: false if there is none of that name; no error then.
enum err key_copy_get(struct store *store, const char *name, struct key_copy *copy, bool *found,
                      struct detail *detail);
void key_copy_clear(struct key_copy *copy);

// Helpers of several kinds, act_run.c.
// In the transaction: the key the act is about as it is now, since others may have changed it while
// a token worked. ERR_PERM: it is no more.
enum err act_find_key_again(struct act_run *run, struct key_copy *now);
// In the transaction: run->made's places for the key of that name, the rest as it is now.
enum err act_set_places(struct act_run *run);
// Under the lock of the store, of an act that waits: what only some recipients mind about the
// certificates it brings (or what it would be refused for by now), for those who are to agree.
// Empty: nothing, or it brings none.
enum err act_warning(struct store *store, const struct act *act, struct detail *warning,
                     struct detail *detail);
void act_name(struct bytes text, char name[TEXT_NAME_MAX + 1]);
// The key the act is about, into run->key. ERR_PERM: none, or destroyed.
enum err act_find_key(struct act_run *run, struct bytes name);
// The name was never one of a key. ERR_PERM: it was.
enum err act_check_new_name(struct act_run *run);
// No other key (than of that name) has this public key. In the transaction, or under the lock.
enum err act_check_new_public_key(struct act_run *run, struct bytes public_key, const char *name);
// The tokens of the act as places of run->made, behind those it has: with that label and CKA_ID.
// ERR_PERM: no such token, one twice or that it has already, too many.
enum err act_put_places(struct act_run *run, const char *label, struct bytes id);
struct keystore_place act_place(const struct store_place *place);
bool act_is_token(const struct act_run *run, struct bytes name);
// "public_key_pem" and "public_key_sha256" of run->public_key into the result.
enum err act_put_public_key(struct act_run *run);
// PEM of DER under a name.
enum err act_put_pem(struct act_run *run, const char *member, const char *label, struct bytes der);
