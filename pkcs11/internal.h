// SPDX-License-Identifier: Apache-2.0
// The insides of a token, for the files of this folder only.
//
// Locking. token->lock guards what is marked with it and is never held across a call into the
// module: a module may hang. Restoring is done by one thread at a time, which holds
// token->is_healing instead; the others wait for it until their deadlines (session.c). A session is
// used by the thread that got it; its state needs no lock but for is_out.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <openssl/ec.h>
#include <p11-kit/pkcs11.h>

#include "pkcs11/ct.h"
#include "pkcs11/module.h"
#include "pkcs11/padding.h"
#include "pkcs11/rv.h"
#include "pkcs11/token.h"

// Handles are only good for the time in which they were found. sessions is raised when all
// sessions are lost, objects when the login was made anew (private objects get new handles).
struct generation {
    uint64_t sessions, objects;
};

struct token_session {
    struct token *token;
    CK_SESSION_HANDLE handle;
    bool is_out;         // (lock)
    bool is_in_call;     // (lock) the module may be at work with it
    atomic_bool is_open; // as far as this session knows; see also generation
    _Atomic uint64_t generation;
    bool is_object_lost; // the key's handle was refused: it or the login is gone
    bool is_count_hit;   // the token has no session left for us
    deadline_t deadline;
    struct secret scratch; // for a raw RSA block: PADDING_BLOCK_MAX bytes
};

// What the mechanisms can do with a private key.
struct mechanisms {
    bool x509_sign, x509_decrypt, pkcs1_sign, pkcs1_decrypt, pss_sign, oaep_decrypt, ecdsa_sign,
        ecdh, ecdh_cofactor;
};

struct token {
    char *name, *label, *serial; // of the configuration; label and serial may be NULL
    unsigned wait_ms;
    struct module *module;
    CK_FUNCTION_LIST *fn;
    CK_SLOT_ID slot; // changed by the healer only
    struct token_info info;
    struct mechanisms can;
    bool needs_login;

    pthread_mutex_t lock;
    pthread_cond_t changed;       // a session came back, or the healer is done
    bool is_healing;              // (lock)
    bool is_lost;                 // (lock) the token is gone, or was
    bool is_logged_in;            // (lock)
    struct generation generation; // (lock)

    bool has_pin, is_pin_refused; // healer only
    struct secret pin;            // healer only

    unsigned session_count;
    struct token_session sessions[TOKEN_SESSIONS_MAX];
};

enum point_form { POINT_UNKNOWN, POINT_RAW, POINT_DER };

struct token_key {
    struct token *token;
    char *label;
    uint8_t id[64];
    size_t id_len;
    struct token_key_info info;
    uint8_t *spki;                          // owned, what info.public_key shows
    size_t size;                            // bytes of the modulus, or of a coordinate
    uint8_t *modulus;                       // RSA: size bytes, owned
    EC_GROUP *group;                        // EC
    uint8_t seed_secret[PADDING_SEED_SIZE]; // of the synthetic messages (unwrap.c)
    _Atomic enum point_form point_form;     // in which the token wants a peer's point

    pthread_mutex_t lock;
    bool is_found;           // (lock)
    CK_OBJECT_HANDLE handle; // (lock) of the private key
    uint64_t generation;     // (lock) of objects, in which it was found
};

// session.c

// Makes the session usable: finds the token again, opens the session, logs in, as far as needed.
enum err session_restore(struct token_session *session, struct detail *detail);

// Notes what a failed call says about session, login and token, so that session_restore mends it.
// Returns ERR_PERM if the call was refused as such, else ERR_TEMP.
enum err session_fail(struct token_session *session, CK_RV rv, const char *function,
                      struct detail *detail);

// The same for the second step of an operation, which may still be active: no more of this session.
enum err session_fail_midway(struct token_session *session, CK_RV rv, const char *function,
                             struct detail *detail);

// Private objects are not seen then.
bool session_is_logged_out(struct token_session *session);

// Gives up a session whose state is not known any more.
void session_drop(struct token_session *session);

struct generation token_generation(struct token *token);

// Around calls into the module with the session, other than those of session_restore.
void session_enter(struct token_session *session);
void session_leave(struct token_session *session);

// The right to restore, one thread at a time. ERR_TEMP: the deadline passed.
enum err session_heal_begin(struct token *token, deadline_t deadline, struct detail *detail);
void session_heal_end(struct token *token);

// token.c

// The slot that holds the configured token. ERR_PERM: none or several.
enum err token_find_slot(struct token *token, CK_SLOT_ID *slot, struct detail *detail);

// object.c: searches and attributes. Failures are noted with session_fail.

// At most max objects that match; *count tells how many there are, up to max.
enum err object_find(struct token_session *session, CK_ATTRIBUTE *match, CK_ULONG match_count,
                     CK_OBJECT_HANDLE *objects, CK_ULONG max, CK_ULONG *count,
                     struct detail *detail);

// The attribute's value appended; nothing if the object does not have it or does not show it.
enum err object_bytes(struct token_session *session, CK_OBJECT_HANDLE object,
                      CK_ATTRIBUTE_TYPE type, struct buf *out, struct detail *detail);
enum err object_bool(struct token_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                     bool if_absent, bool *value, struct detail *detail);
// ERR_PERM if absent.
enum err object_ulong(struct token_session *session, CK_OBJECT_HANDLE object,
                      CK_ATTRIBUTE_TYPE type, CK_ULONG *value, struct detail *detail);

// public.c: the public half of a private key, from the public key object with its CKA_ID (or
// label, if it has no ID), else from its own attributes, else from a certificate object.

#define PUBLIC_KEY_MAX 8192 // bytes of a SubjectPublicKeyInfo
enum err public_read(struct token_session *session, CK_OBJECT_HANDLE private, CK_KEY_TYPE type,
                     const struct token_key *key, EVP_PKEY **pkey, struct detail *detail);

// key.c

// Runs use with the session and the key's current handle. If it fails with ERR_TEMP, what is broken
// is restored and it runs once more; a result from a time when handles changed is thrown away.
typedef enum err (*key_use_fn)(struct token_session *session, struct token_key *key,
                               CK_OBJECT_HANDLE handle, void *arg, struct detail *detail);
enum err key_run(struct token_session *session, struct token_key *key, key_use_fn use, void *arg,
                 struct detail *detail);

// unwrap.c: the raw RSA operation on size bytes, once; the result in session->scratch.
enum err unwrap_raw(struct token_session *session, const struct token_key *key,
                    CK_OBJECT_HANDLE handle, const uint8_t *input, struct detail *detail);
// Sets key->seed_secret.
enum err unwrap_make_seed(struct token_session *session, struct token_key *key,
                          struct detail *detail);
