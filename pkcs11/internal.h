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
#include "pkcs11/token_admin.h"

// Handles are only good for the time in which they were found. sessions is raised when all
// sessions are lost, objects when the login was made anew (private objects get new handles), copies
// with objects, and when the session that holds the copies of keys has ended (copy.c).
struct generation {
    uint64_t sessions, objects, copies;
};

struct token_session {
    struct token *token;
    CK_SESSION_HANDLE handle;
    bool is_out;                 // (lock)
    bool is_probe;               // its next restoration is allowed although the breaker is open
    bool is_rw;                  // for officers' acts, see admin.c
    bool is_soiled;              // a secret is left in it: to be closed after the act
    unsigned calls;              // (lock) under way: the module may be at work with it
    deadline_t call_began;       // (lock)
    atomic_bool is_open;         // as far as this session knows; see also generation
    _Atomic uint64_t generation; // of sessions
    bool is_object_lost;         // the key's handle was refused: it or the login is gone
    bool is_count_hit;           // the token has no session left for us
    deadline_t deadline;
    struct secret scratch; // for a raw RSA block: PADDING_BLOCK_MAX bytes
};

// What the mechanisms can do with a private key.
#define MECHANISM_AES_KWP 0x210bUL // CKM_AES_KEY_WRAP_KWP of PKCS#11 3.0
struct mechanisms {
    bool x509_sign, x509_decrypt, pkcs1_sign, pkcs1_decrypt, pss_sign, oaep_decrypt, ecdsa_sign,
        eddsa_sign, ecdh, ecdh_cofactor;
    bool aes_generate, kwp_unwrap, wrap_pad_unwrap, wrap_unwrap; // AES key wrap, of three kinds
    bool rsa_generate, ec_generate, eddsa_generate;
    CK_ULONG rsa_bits_min, rsa_bits_max; // of rsa_generate
};

// See breaker.c.
struct breaker {
    unsigned heal_failures; // restorations that failed, in a row
    unsigned losses;        // times the token was lost, since an operation succeeded
    deadline_t next_probe, heal_began;
    bool is_absent, is_final_try;
    enum token_state state; // as of the last breaker_note_state
    deadline_t since, error_at;
    unsigned failures;
    uint64_t calls, calls_failed, refused, restored;
    char error[sizeof((struct token_status *)NULL)->error];
};

// Behind those of the pool: the officers' (admin.c), and the one that holds the copies (copy.c).
#define SESSIONS_BEHIND 2

struct token {
    char *name, *label, *serial; // of the configuration; label and serial may be NULL
    unsigned wait_ms;
    struct module *module;
    CK_FUNCTION_LIST *fn;
    CK_SLOT_ID slot; // changed by the healer only
    struct token_info info;
    struct mechanisms can;
    bool needs_login, forgets_pin;

    pthread_mutex_t lock;
    pthread_cond_t changed;       // a session came back, or the healer is done
    bool is_healing;              // (lock)
    bool is_lost;                 // (lock) the token is gone, or was
    bool is_logged_in;            // (lock)
    bool is_locked;               // (lock) no PIN was given yet, or it was forgotten
    struct generation generation; // (lock)

    struct breaker breaker; // (lock)

    bool is_pin_refused; // (lock) written by the healer only
    bool has_pin;        // healer only
    struct secret pin;   // healer only

    bool may_copy;          // keys that are used often
    uint64_t copies_of;     // (lock) generation of objects, for which their holder was opened
    deadline_t next_holder; // (lock) not before it is opened again

    unsigned session_count; // of the pool
    struct token_session sessions[TOKEN_SESSIONS_MAX + SESSIONS_BEHIND];
};

static inline unsigned token_all_sessions(const struct token *token)
{
    return token->session_count + SESSIONS_BEHIND;
}

// See copy.c.
struct key_copy {
    bool is_wanted, is_in_work, is_made;
    bool is_doubtful; // a use of it has failed: the key itself is used until it was looked at
    CK_OBJECT_HANDLE original, handle;
    uint64_t generation;  // of copies, for which the above holds
    deadline_t next_look; // at the original; if there is no copy, until it is tried again
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
    struct key_copy copy;    // (lock)
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

// Around calls into the module with the session, other than those of session_restore; may be
// nested. ERR_TEMP: it is not to be used, since its token was lost or locked a moment ago.
enum err session_enter(struct token_session *session, struct detail *detail);
void session_leave(struct token_session *session);

// The right to restore, one thread at a time. ERR_TEMP: the deadline passed.
enum err session_heal_begin(struct token *token, deadline_t deadline, struct detail *detail);
void session_heal_end(struct token *token);

// Closes all sessions but one that is in a call of ours (or NULL), and begins a new generation.
// Calls under way are waited for; if one hangs, its session is left behind. speak: called with a
// session's handle before they are closed, until it returns true; may be NULL. For the healer.
typedef bool (*session_speak_fn)(struct token *token, CK_SESSION_HANDLE handle, void *arg);
void session_close_all(struct token *token, const struct token_session *self,
                       session_speak_fn speak, void *arg);

// breaker.c: all with the lock held, unless said otherwise.

enum gate {
    GATE_OPEN,  // go on
    GATE_PROBE, // go on, as the one who tries
    GATE_SOME,  // only sessions that are open may be used
    GATE_SHUT,
};
// For one who wants a session; is_any_open: one that needs no restoration is in the pool.
enum gate breaker_ask(struct token *token, bool is_any_open);
// For one who wants to restore a session. False: not now.
bool breaker_may_heal(struct token *token, bool is_probe);
// Without the lock: what a refused one gets.
enum err breaker_refuse(struct token *token, struct detail *detail);
bool breaker_is_open(const struct token *token); // restorations have failed
void breaker_note_error(struct token *token, const char *text);
void breaker_note_lost(struct token *token, bool is_new); // a call said so
// A restoration has ended. is_counted: its failure says something about the token as a whole.
void breaker_note_healed(struct token *token, enum err err, bool is_counted);
void breaker_note_call(struct token *token, enum err err); // an operation on a key has ended
void breaker_note_state(struct token *token);              // something about the token has changed
void breaker_reset(struct token *token);

// lock.c

enum err lock_refuse(const struct token *token, struct detail *detail); // ERR_TEMP: locked

// For the healer: the PIN is wiped.
void lock_forget_pin(struct token *token);

// For the healer: logs out of a token that is to be locked, and forgets the PIN.
enum err lock_carry_out(struct token *token, struct detail *detail);

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

// What an object itself tells, or a certificate; *pkey stays NULL if it tells nothing.
enum err public_of_object(struct token_session *session, CK_OBJECT_HANDLE object, CK_KEY_TYPE type,
                          EVP_PKEY **pkey, struct detail *detail);
enum err public_of_certificate(struct token_session *session, CK_OBJECT_HANDLE object,
                               EVP_PKEY **pkey, struct detail *detail);
enum err public_read(struct token_session *session, CK_OBJECT_HANDLE private, CK_KEY_TYPE type,
                     const struct token_key *key, EVP_PKEY **pkey, struct detail *detail);

// key.c

// An empty key, for an id of that many bytes; and what the token has of it. key_read may be called
// again.
enum err key_new(struct token *token, const char *label, size_t id_len, struct token_key **key,
                 struct detail *detail);
enum err key_read(struct token_session *session, struct token_key *key, struct bytes id,
                  struct detail *detail);

// The same for an object at hand, whose public half may be missing; nothing is tried with it.
// *is_known: it is of a type, size and curve that we can use.
enum err key_read_object(struct token_session *session, CK_OBJECT_HANDLE object,
                         struct token_key *key, bool *is_known, struct detail *detail);

// DER SubjectPublicKeyInfo, points uncompressed. *spki is the caller's to free.
enum err public_encode(EVP_PKEY *pkey, uint8_t **spki, size_t *spki_len, struct detail *detail);

int curve_nid(unsigned bits); // NID_undef: not one of ours

// Runs use with the session and the key's current handle. If it fails with ERR_TEMP, what is broken
// is restored and it runs once more; a result from a time when handles changed is thrown away.
typedef enum err (*key_use_fn)(struct token_session *session, struct token_key *key,
                               CK_OBJECT_HANDLE handle, void *arg, struct detail *detail);
enum err key_run(struct token_session *session, struct token_key *key, key_use_fn use, void *arg,
                 struct detail *detail);

// copy.c

// Before a call is entered: opens the session that holds the copies, if the key wants one.
void copy_prepare(struct token_session *session, struct token_key *key);
// *handle is the key's own, and becomes that of its copy if there is one or one can be made.
// ERR_TEMP: the key is not in the token any more.
enum err copy_use(struct token_session *session, struct token_key *key, CK_OBJECT_HANDLE *handle,
                  struct detail *detail);
// What was done with the key has failed.
void copy_doubt(struct token_key *key);
// All copies of keys in the token are destroyed; what is done with them meanwhile is thrown away.
// ERR_TEMP: one is being made, and does not end.
enum err copy_end_all(struct token *token, deadline_t deadline, struct detail *detail);

// pair.c: whether both halves of a key that was read belong together. ERR_PERM: they do not.
// *is_proved: the token could do what it takes to know.
enum err pair_check(struct token_session *session, struct token_key *key, bool *is_proved,
                    struct detail *detail);

// agree.c: a point as DER OCTET STRING. An uncompressed one is 04 and two coordinates of at most 66
// bytes. Returns the length.
#define POINT_DER_MAX (3 + 1 + 2 * 66)
size_t point_wrap(struct bytes point, uint8_t out[POINT_DER_MAX]);

// unwrap.c: sets key->seed_secret.
enum err unwrap_make_seed(struct token_session *session, struct token_key *key,
                          struct detail *detail);

// admin.c: changing the token. One officer's act at a time, with a session of its own, which is
// read-write and not of the pool.

typedef enum err (*admin_fn)(struct token_session *session, void *arg, struct detail *detail);

// Runs the act with the session restored and entered, and again if it fails with ERR_TEMP, so it
// must find its way in what it did before. deadline: of the waits.
enum err admin_run(struct token *token, deadline_t deadline, admin_fn act, void *arg,
                   struct detail *detail);

// Keeps the officers' session open, so that the login outlives the sessions of the pool.
void admin_hold_login(struct token *token);

// Whether a find that came back empty did so for want of the login. ERR_TEMP: yes.
enum err object_check_login(struct token_session *session, struct detail *detail);

// object.c: templates. Values are borrowed and must outlive the template.
#define TEMPLATE_MAX 24
struct template
{
    CK_ATTRIBUTE items[TEMPLATE_MAX];
    CK_ULONG count;
};
void template_put(struct template *template, CK_ATTRIBUTE_TYPE type, const void *value,
                  size_t size);
void template_put_flag(struct template *template, CK_ATTRIBUTE_TYPE type, bool value);

// edwards.c: Ed25519, and what is called how.

#define EDWARDS_SIZE 32 // bytes of the point, and of the private key
#define EDWARDS_NAMES 3
// DER of CKA_EC_PARAMS; which: 0 is the one to try first.
struct bytes edwards_name(unsigned which);
// The public key of CKA_EC_PARAMS and CKA_EC_POINT. NULL: none, or out of memory.
EVP_PKEY *edwards_build(struct bytes params, struct bytes point);

CK_KEY_TYPE key_type_number(enum token_key_type type); // CKA_KEY_TYPE
const char *key_type_openssl(CK_KEY_TYPE type);        // OpenSSL's name; NULL: none of ours

// wish.c: what keys that are made have in common.

// ERR_PERM: label, id or usage are not as they must be. Says nothing of type and bits.
enum err wish_check(const struct token_key_wish *wish, enum token_key_type type,
                    struct detail *detail);
// ERR_PERM: the token has a key with this CKA_ID.
enum err wish_check_free(struct token_session *session, const struct token_key_wish *wish,
                         struct detail *detail);
// Destroys public keys, with the label of the wish, of the key spki (of that type) that belong to
// no private one. What the token does not let go of stays. swept: counts them.
enum err wish_sweep(struct token_session *session, const struct token_key_wish *wish,
                    enum token_key_type type, struct bytes spki, unsigned *swept,
                    struct detail *detail);
// The attributes of the key's halves. is_strict: also those that say no to other usages, which not
// every token takes for every type.
void wish_put_private(struct template *template, const struct token_key_wish *wish,
                      enum token_key_type type, bool is_strict);
void wish_put_public(struct template *template, const struct token_key_wish *wish,
                     enum token_key_type type, bool with_usages);
// Reads the key that was made, and proves that it is what was wished for. ERR_PERM: it is not.
enum err wish_verify(struct token_session *session, const struct token_key_wish *wish,
                     bool is_generated, struct bytes spki, struct detail *detail);
// Takes away what there is of it. Only for keys that were not there before.
enum err wish_undo(struct token_session *session, void *wish, struct detail *detail);
