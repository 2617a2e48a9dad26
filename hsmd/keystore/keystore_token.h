// SPDX-License-Identifier: Apache-2.0
// The keystore whose keys are in PKCS#11 tokens. Tokens are those of hsmd.conf and are opened once;
// keys come and go while hsmd runs. Thread-safe.
//
// A token is locked until it has a PIN: from its file or credential at the start, else from an
// officer. Nothing here fails because a token is away: it is looked for again, by the requests that
// want it and once a second by keystore_tick.
#pragma once

#include "hsmd/config.h"
#include "hsmd/keystore/keystore.h"
#include "hsmd/keystore/keystore_status.h"
#include "pkcs11/token_admin.h"

struct keystore;

extern const struct keystore_ops keystore_token_ops;

// Tells of a token that was lost or is back, or that the configured PIN has unlocked for the first
// time, for the audit log: name of the token, what (of keystore_event), why. Called by whoever
// noticed, with no lock held.
enum keystore_event { KEYSTORE_TOKEN_LOST, KEYSTORE_TOKEN_BACK, KEYSTORE_TOKEN_UNLOCKED };
typedef void (*keystore_tell)(void *context, enum keystore_event event, const char *token,
                              const char *reason);

// Opens every token of the configuration that is there, and logs in to those that have a PIN
// configured, each in a thread of its own. Waits for them ten seconds; one whose module hangs
// longer is absent until that comes back. A wrong PIN leaves its token locked for good (until
// keystore_unlock), logged as an error. is_locked: by index of config->tokens, those that officers
// have locked, whose configured PIN is not used; NULL: none. ERR_TEMP: out of memory; ERR_PERM: a
// PIN file that cannot be used.
enum err keystore_open(const struct config *config, const bool *is_locked,
                       struct keystore **keystore, struct detail *detail);
// No operation may be under way. False: a module hangs with a token's thread in it, which still
// uses the keystore, the configuration and whoever is told; all of it must be left as it is, and
// the process end without cleaning up. NULL is fine.
bool keystore_close(struct keystore *keystore);
// From now on, and of those that are lost or unlocked already; NULL: nobody any more, once this has
// returned.
void keystore_on_event(struct keystore *keystore, keystore_tell tell, void *context);

// Tries what is lost, so that a token heals before somebody needs it: twice a second, by a ticker.
void keystore_tick(struct keystore *keystore);

struct keystore_place {
    const char *token; // name of the token section
    const char *label; // CKA_LABEL
    struct bytes id;   // CKA_ID; empty: any
};

// A key that is (to be) in those tokens, opened as its tokens become ready: the key of this name
// and public key if it is known already (its places are then those given now), else a new one.
// Lives as long as the keystore. public_key: SubjectPublicKeyInfo that each place's must equal;
// empty: that of the first one that is opened. A place that cannot be opened, or that holds another
// key or one that may leave its token (promise 1, keystore_check_key), or of unproved halves
// (is_pair_proved), is left out and logged. ERR_PERM: no such token section.
enum err keystore_add_key(struct keystore *keystore, const char *name, enum wire_purpose purpose,
                          struct bytes public_key, const struct keystore_place *places,
                          size_t count, struct keystore_key **key, struct detail *detail);
// Nobody will use it any more (its name may come back with another public key).
void keystore_drop_key(struct keystore *keystore, struct keystore_key *key);

// Promise 1 and the purpose, apart from the token: pure. ERR_PERM: the detail says which.
enum err keystore_check_key(const struct token_key_info *info, enum wire_purpose purpose,
                            struct detail *detail);

// What officers do. token: name of a token section, ERR_PERM: there is none. ERR_TEMP: it is
// locked, or away. deadline as in token_admin.h.

// Makes a key; its SubjectPublicKeyInfo is appended to public_key, after it was opened, checked and
// proved. On failure there is no such key. is_wrapped: as token_key_import's.
enum err keystore_generate(struct keystore *keystore, const char *token,
                           const struct token_key_wish *wish, enum wire_purpose purpose,
                           deadline_t deadline, struct buf *public_key, struct detail *detail);
enum err keystore_import(struct keystore *keystore, const char *token,
                         const struct token_key_wish *wish, enum wire_purpose purpose,
                         const struct secret *pkcs8, deadline_t deadline, bool *is_wrapped,
                         struct buf *public_key, struct detail *detail);
// Opens and checks a key that is there already, and appends its SubjectPublicKeyInfo.
enum err keystore_look(struct keystore *keystore, const struct keystore_place *place,
                       enum wire_purpose purpose, deadline_t deadline, struct buf *public_key,
                       struct detail *detail);
// Destroys the key's objects in that token. Can be done again when it failed half way: it then
// destroys what is left. ERR_PERM: nothing of it is there, or it is another key.
enum err keystore_destroy(struct keystore *keystore, const struct keystore_place *place,
                          struct bytes public_key, deadline_t deadline, struct detail *detail);
enum err keystore_list(struct keystore *keystore, const char *token, deadline_t deadline,
                       token_key_see_fn see, void *context, struct detail *detail);

// Logs in with a PIN, which stays with the token in locked memory if healing = true in its section,
// and is wiped at once otherwise. Never tried twice. ERR_DENIED: wrong, or the final try. ERR_PERM:
// it is not locked.
enum err keystore_unlock(struct keystore *keystore, const char *token, const struct secret *pin,
                         struct detail *detail);
// Logs out and forgets the PIN; ERR_TEMP as token_logout. The configured PIN is not used again: at
// the next start that is for keystore_open's caller to know.
enum err keystore_lock(struct keystore *keystore, const char *token, struct detail *detail);

// Have officers locked it, and not unlocked it since?
bool keystore_is_locked(struct keystore *keystore, const char *token);

// Reads the PIN of a token section, as keystore_open does: from its file or from the systemd
// credential ($CREDENTIALS_DIRECTORY). pin must be initialised. ERR_PERM: it has none.
enum err keystore_read_pin(const struct config_token *token, struct secret *pin,
                           struct detail *detail);
