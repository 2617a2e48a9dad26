// SPDX-License-Identifier: Apache-2.0
// A PKCS#11 token and the keys in it. The only door to Cryptoki: no CK_ type leaves this folder.
//
// Thread-safe: every caller brings a session of its own out of the pool (token_session_get) and
// uses it alone. A lost session, login, object handle or token is found by the first call that
// meets it; the call restores what it can (session -> login -> object handle), tries once more, and
// else returns ERR_TEMP. Every wait has a limit. What the token can do is asked of it, never
// guessed from its name.
//
// A token that is gone does not hold up its callers: when it could not be restored twice in a row,
// or was lost three times without any success in between, token_session_get says ERR_TEMP at once,
// but for one caller every 200 ms who tries; with the first success all is well again.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/secret.h"

#define TOKEN_SESSIONS_MAX 64
#define TOKEN_SIGNATURE_MAX 2048 // bytes of a signature: RSA-16384

struct token_conf {
    const char *name;   // ours, for messages
    const char *module; // path of the PKCS#11 module
    const char *label;  // of the token, or NULL
    const char
        *serial; // of the token, or NULL; one of both must be given and exactly one token match
    const char *init_args; // pReserved of C_Initialize for modules that want it, or NULL
    unsigned sessions;     // in the pool, 1 to TOKEN_SESSIONS_MAX
    unsigned wait_ms;      // longest wait for a session of the pool
    bool forget_pin;       // wipe the PIN once the token has taken it: no login heals by itself
    bool copy_keys;        // see token_key_keep
};

struct token;
struct token_session;
struct token_key;

enum token_key_type { TOKEN_KEY_RSA, TOKEN_KEY_EC, TOKEN_KEY_ED25519 };

struct token_key_info {
    enum token_key_type type;
    unsigned bits;           // of the modulus or the curve's field; Ed25519: 256
    const char *curve;       // "P-256", "P-384", "P-521"; else NULL
    struct bytes public_key; // DER SubjectPublicKeyInfo; lives as long as the key
    bool extractable, sensitive, always_sensitive, never_extractable; // CKA_* of the private key
    bool can_sign, can_decrypt, can_derive; // its CKA_SIGN, CKA_DECRYPT, CKA_DERIVE
    bool is_pair_proved; // the private key was used, and the result fits the public one
};

struct token_info {
    char label[33], serial[17], manufacturer[33], model[17];
    bool rsa_raw, rsa_pkcs1, rsa_pss, rsa_oaep, ecdsa, ecdh,
        eddsa;                  // mechanisms it offers to the private half
    unsigned long sessions_max; // 0: it does not say
};

// Loads and initialises the module (once a process and path, however many tokens use it), finds the
// token. Does not log in. The detail names the step that failed: module, slot, token.
enum err token_open(const struct token_conf *conf, struct token **token, struct detail *detail);
void token_close(struct token *token); // no session may be out
const struct token_info *token_describe(const struct token *token);

// Logs in and fills the pool as far as the token has sessions. A token is locked before, and again
// after token_logout (token_admin.h). The PIN is copied into locked memory so that the token heals
// by itself, and forgotten by token_close; with forget_pin as soon as the token has taken it, and a
// lost login then means that the token is locked. ERR_DENIED: wrong PIN, or the token warns of its
// final try: it is not tried again, ever, until token_login is called anew. ERR_TEMP: token gone;
// the PIN is kept, and token_session_get tries again.
enum err token_login(struct token *token, const struct secret *pin, struct detail *detail);

// Finds the private key by label and, if id.len, CKA_ID (by that alone if the label is ""); exactly
// one must match. Reads its public half and attributes; an attribute the token does not show counts
// as the worse value. Proves by using the key once that both halves belong together. ERR_PERM:
// none, several, of an unsupported type, it wants the PIN for every use, or the public half is that
// of another key.
enum err token_key_open(struct token *token, const char *label, struct bytes id,
                        struct token_key **key, struct detail *detail);
// The same, with a limit for the wait for a session.
enum err token_key_open_in_time(struct token *token, const char *label, struct bytes id,
                                deadline_t deadline, struct token_key **key, struct detail *detail);
void token_key_close(struct token_key *key);

// The key is here to stay: with copy_keys it is used by a copy of it among the token's session
// objects, as sensitive as the key itself, which some tokens work with faster. The key's own object
// is looked at every second: one that others have destroyed is used no longer than that. A token
// that does not copy it works with the key itself.
void token_key_keep(struct token_key *key);
const struct token_key_info *token_key_describe(const struct token_key *key);

// A session of the pool, for one thread. What is broken is restored first. The deadline, or wait_ms
// from now if that is sooner, is also the limit of all waits for others in the calls below; what
// the module itself takes cannot be limited. ERR_TEMP: none free before, or the token is gone or
// locked. ERR_DENIED: the PIN was refused.
enum err token_session_get(struct token *token, deadline_t deadline, struct token_session **session,
                           struct detail *detail);
void token_session_put(struct token_session *session);

enum token_scheme { TOKEN_RSA_PKCS1, TOKEN_RSA_PSS, TOKEN_ECDSA, TOKEN_EDDSA };

// Signs a digest made with hash. salt: bytes, of PSS (MGF1 with the same hash). out:
// TOKEN_SIGNATURE_MAX bytes; ECDSA as DER ECDSA-Sig-Value. ERR_PERM: the key or token cannot do it,
// or the digest is not as long as the hash (HASH_NONE is refused). TOKEN_EDDSA is pure Ed25519 (RFC
// 8032, 5.1), which signs the message itself: hash is HASH_NONE, and digest the message, however
// long; the signature has 64 bytes.
enum err token_sign(struct token_session *session, struct token_key *key, enum token_scheme scheme,
                    enum hash hash, unsigned salt, struct bytes digest, uint8_t *out,
                    size_t *out_len, struct detail *detail);

struct token_padding {
    bool oaep;                // else PKCS#1 v1.5
    enum hash hash, mgf_hash; // of OAEP
    struct bytes label;       // of OAEP
    size_t length;            // of v1.5: bytes expected, 0: unknown
};

// Decrypts an RSA key transport into out (at least the modulus' size in room).
// v1.5 never fails for its padding (promise 5): bad padding, or another length than expected, gives
// in the same time a synthetic secret, the same one every time for the same ciphertext and key, of
// the expected length or, if that is unknown, of a pseudo-random one (as
// draft-irtf-cfrg-rsa-guidance does it). ERR_PERM: wrong length of the ciphertext, ciphertext not
// below the modulus, OAEP decoding failed (one error for every cause). Raw RSA and our own
// constant-time unpadding where the token offers raw RSA, else the token's own mechanism.
enum err token_unwrap(struct token_session *session, struct token_key *key,
                      const struct token_padding *padding, struct bytes ciphertext,
                      struct secret *out, struct detail *detail);

// ECDH: the shared secret z (x coordinate) of the key and the peer's uncompressed point, which is
// checked to lie on the curve. ERR_PERM: it does not, or the token cannot.
enum err token_agree(struct token_session *session, struct token_key *key, struct bytes peer,
                     bool cofactor, struct secret *z, struct detail *detail);
