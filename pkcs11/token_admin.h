// SPDX-License-Identifier: Apache-2.0
// What key officers do to a token: make, import, list and destroy keys, lock it, see how it is.
// The rules of token.h hold: thread-safe, no CK_ type, what is lost is restored, ERR_TEMP if that
// fails. One act at a time and token, with a session of its own that is open for the act only; if
// the token has none to give, one of the pool stands back. deadline: the limit of all waits for
// others; what the module itself takes (to generate an RSA key, say) cannot be limited.
#pragma once

#include "pkcs11/token.h"

enum token_state {
    TOKEN_READY,
    TOKEN_LOCKED,      // no PIN was given yet, or it was forgotten
    TOKEN_PIN_REFUSED, // by the token or, for its final-try flag, by us; not tried again
    TOKEN_RECOVERING,  // something is lost, and restored by those who need it
    TOKEN_ABSENT,      // not found in its module when it was last looked for
};
const char *token_state_name(enum token_state state); // "ready", "locked", "pin-refused", ...

struct token_status {
    enum token_state state;
    deadline_t since;  // clock_ms at which the state began
    bool is_final_try; // the token had the final-try flag when its PIN was refused
    bool is_breaking;  // callers are refused at once, but for one every 200 ms who tries
    unsigned sessions, out, in_call, broken; // of the pool; broken: closed, or lost with the token
    unsigned longest_call_ms;                // of the pool's calls under way: hangs its module?
    unsigned failures;                       // operations in a row that failed with ERR_TEMP
    uint64_t calls, calls_failed; // operations on keys since token_open; failed with ERR_TEMP
    uint64_t refused;             // times a session was refused at once
    uint64_t restored;            // sessions opened and logins made, the first ones included
    char error[200];              // the last failure, "": none since token_open
    deadline_t error_at;          // when
};

// Asks the token nothing: returns at once, whatever hangs.
void token_status(struct token *token, struct token_status *status);

// Asks the token, with one session, and restores what is lost: for those who watch it while nobody
// uses it. If a restoration has failed before, another session is restored too, as far as that
// succeeds; see the state. Errors as token_session_get.
enum err token_check(struct token *token, deadline_t deadline, struct detail *detail);

enum token_usage { TOKEN_USE_SIGN = 1, TOKEN_USE_DECRYPT = 2, TOKEN_USE_DERIVE = 4 };

#define TOKEN_LABEL_MAX 128 // bytes
#define TOKEN_ID_MAX 64     // bytes
#define TOKEN_RSA_BITS_MIN 2048
#define TOKEN_RSA_BITS_MAX 8192

// A key to be made.
struct token_key_wish {
    const char *label;        // 1 to TOKEN_LABEL_MAX bytes
    struct bytes id;          // CKA_ID, 1 to TOKEN_ID_MAX bytes: random ones, say 16, by the caller
    enum token_key_type type; // to generate
    unsigned bits;            // to generate: RSA 2048 to 8192 in steps of 8; EC 256, 384, 521;
                              // Ed25519 256
    unsigned usage;           // of enum token_usage: sign, decrypt (RSA only), derive (EC only)
};

// Generates a key pair in the token, private half: CKA_SENSITIVE, not CKA_EXTRACTABLE, only the
// usages wished for. Both objects get label and id. What came of it is read back; if the token did
// not keep to it, or anything else fails, no object is left behind (else the detail says so).
// ERR_PERM: wish malformed, a key with this id is there already, the token cannot.
enum err token_key_generate(struct token *token, const struct token_key_wish *wish,
                            deadline_t deadline, struct detail *detail);

// Imports a private key (DER PrivateKeyInfo, RFC 5208) in the same shape; it was outside, so
// CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are false. The wish's type and bits are not looked
// at. It goes in wrapped under a fresh AES key of the token if the token can do that, else in clear
// through C_CreateObject; how (may be NULL) tells which. What an import of the same key under the
// same label has left that was killed, public halves alone, is destroyed before, as long as no
// private key has that label, nor their CKA_ID. The key is checked before
// (consistent), and used afterwards (it is the same). All copies are wiped; pkcs8 is the caller's.
// ERR_PERM: also for a key that is malformed, of an unsupported type or size, or not consistent.
struct token_import {
    bool is_wrapped;
    unsigned swept; // objects destroyed that were left
};
enum err token_key_import(struct token *token, const struct token_key_wish *wish,
                          const struct secret *pkcs8, deadline_t deadline, struct token_import *how,
                          struct detail *detail);

// Destroys the key: the private object, the public key objects and certificates that go with it (by
// CKA_ID, or by label if it has no ID). ERR_PERM, and nothing is destroyed: another private key has
// the same id, one of these objects is of another key, the token does not let it go. ERR_TEMP: some
// may be left, do it again. key stays open and is of no use any more.
enum err token_key_destroy(struct token *token, struct token_key *key, deadline_t deadline,
                           struct detail *detail);

// Destroys what such an act left when it failed half way: the public key objects and certificates
// of a key (SubjectPublicKeyInfo) whose private object is gone. ERR_PERM, and nothing is destroyed:
// the private object is there, nothing of the key is, or one of these objects is of another key.
enum err token_key_destroy_rest(struct token *token, const char *label, struct bytes id,
                                struct bytes public_key, deadline_t deadline,
                                struct detail *detail);

struct token_key_item {
    const char *label;  // as the token has it, 0 bytes cut it
    struct bytes id;    // may be empty
    bool is_known_type; // RSA, Ed25519, EC on a curve of ours; else type, bits, curve say nothing
    struct token_key_info info; // public_key: empty if the token does not tell
};

// Calls see for every private key object of the token, when all of them were read. What it is given
// lives until it returns. ERR_PERM: more than TOKEN_KEYS_MAX.
#define TOKEN_KEYS_MAX 1024
typedef void (*token_key_see_fn)(const struct token_key_item *item, void *arg);
enum err token_key_list(struct token *token, deadline_t deadline, token_key_see_fn see, void *arg,
                        struct detail *detail);

// Proves with the token that both halves of the key belong together: signs and verifies, or
// encrypts and decrypts, or agrees with a key of ours. token_key_open has done it once. ERR_PERM:
// they do not, or the key can be used for nothing that would show it.
enum err token_check_pair(struct token_session *session, struct token_key *key,
                          struct detail *detail);

// Locks the token: wipes the PIN, logs out of the token and closes its sessions, once calls under
// way have ended (a hanging one is waited for a second). From the start of this call on everything
// that needs the token is ERR_TEMP "locked", until token_login. The login is one for all who use
// the module: another struct token of the same token logs in again if it has the PIN. ERR_TEMP: the
// token is locked for us all the same, but may not have logged out (yet).
enum err token_logout(struct token *token, struct detail *detail);
