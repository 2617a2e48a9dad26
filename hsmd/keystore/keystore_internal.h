// SPDX-License-Identifier: Apache-2.0
// The insides of the keystore, for the files of this folder.
//
// Who may touch what. A struct token is used with its module's gate entered, and opened anew or
// closed with it closed; a token that was not there may appear (atomically) with it entered. Keys
// and places are added to lists whose heads are atomic, and never taken off before the end, so they
// can be walked without a lock. keystore->lock guards adding them; token->lock the PIN and the
// watcher's orders. Neither is ever held across a call into a module.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "hsmd/keystore/gate.h"
#include "hsmd/keystore/keystore_token.h"

#define PLACES_MAX 16    // of a key
#define KEY_WAIT_MS 5000 // for a key to be opened, where nobody's deadline is known

// A module and all tokens reached through it: they are initialised and finalised together.
struct keystore_module {
    const char *path;
    struct gate gate;         // entered by each operation, closed while the module is opened anew
    atomic_bool is_reopening; // it is closed for that: the tokens of other modules go first
    _Atomic deadline_t last_try;     // to open it anew
    _Atomic deadline_t spared_until; // not opened anew before that while a token of it is well
    _Atomic deadline_t lost_since;   // the first try of this outage; 0: there is none
};

// Where the PIN of the moment comes from.
enum pin_source {
    PIN_NONE,       // nobody gave one, or it was forgotten
    PIN_CONFIGURED, // its file or credential is read each time
    PIN_GIVEN,      // by an officer; kept in token->pin if its section has healing = true
};

enum mood {
    MOOD_LOST,   // not there, or not well: it is tried again
    MOOD_LOCKED, // it waits for an officer
    MOOD_WELL,
};

struct keystore_token {
    struct keystore *keystore;
    const struct config_token *conf;
    struct keystore_module *module;
    struct token *_Atomic token;  // NULL: not there
    _Atomic enum mood mood;       // as far as is known: what pick goes by
    atomic_bool is_lost;          // and that was told
    struct detail lost_reason;    // (keystore->telling) why, the last time
    atomic_uint doubts;           // requests that failed, since it was last looked at or did well
    atomic_uint failures;         // looks in a row that found it not well
    atomic_bool is_refused;       // its PIN was; only an officer may try again
    atomic_bool is_final_try;     // when it was
    atomic_bool is_absence_told;  // that opening its module anew has not brought it back
    atomic_bool is_officers_lock; // the last of what officers did was to lock it (set with lock)
    atomic_bool has_logged_in;    // with the configured PIN, for the first time
    atomic_bool is_login_due;     // and that is to be told
    atomic_bool is_opening;       // somebody is at it
    atomic_bool is_unlocking;     // an officer is: nobody else tries meanwhile
    unsigned sessions;            // that it was opened with

    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum pin_source source; // (lock)
    struct secret pin;      // (lock)
    uint64_t locks;         // (lock) times it was locked: a login that began before is undone

    pthread_t watcher; // see keystore_watch.c
    bool has_watcher;
    bool is_due, is_stopping, has_ended; // (lock)
    bool has_tried;                      // (lock) to open it, for the first time
    uint64_t looks_begun, looks_ended;   // (lock)
    deadline_t look_began;               // (lock) the last one
    enum err reopened;                   // (lock) what came of it when its module was opened anew
    struct detail trouble;               // (lock) and why
};

// A key in a token.
struct place {
    struct place *next;
    struct keystore_key *owner;
    struct keystore_token *token;
    char label[TOKEN_LABEL_MAX + 1];
    uint8_t id[TOKEN_ID_MAX];
    size_t id_len;
    atomic_bool is_current; // among those that the key is in now
    // NULL as long as token->token is, or while the token has no such key (any more).
    struct token_key *_Atomic key;
    atomic_bool is_being_sought;
    atomic_bool is_missing;       // and that was told
    atomic_uint failures;         // of this key in a row
    _Atomic deadline_t next_look; // while it is not there; not before that
};

// Never changed once it can be seen; the former ones are kept until the end.
struct place_set {
    struct place_set *former;
    size_t count;
    struct place *places[];
};

struct keystore_key {
    struct keystore_key *next;
    struct keystore *keystore;
    char *name;
    _Atomic enum wire_purpose purpose;
    atomic_bool is_dropped;
    struct place_set *_Atomic places;
    pthread_mutex_t lock;                      // of what follows, but for readers of info
    struct bytes public_key;                   // owned; empty until it is known
    struct token_key_info told, seen;          // by the registry, in a token
    const struct token_key_info *_Atomic info; // one of both
};

struct keystore {
    struct keystore_module *modules;
    size_t module_count;
    struct keystore_token *tokens;
    size_t token_count;
    pthread_mutex_t lock;
    struct keystore_key *_Atomic keys;
    struct place *_Atomic places;
    pthread_mutex_t telling; // held while somebody is told
    keystore_tell tell;      // (telling)
    void *tell_context;      // (telling)
};

// keystore_open.c

struct keystore_token *keystore_find_token(struct keystore *keystore, const char *name,
                                           struct detail *detail); // NULL: ERR_PERM

// Opens a token that is not open, and logs in if there is a PIN. Gate entered or closed; one at a
// time, another finds nothing to do. ERR_DENIED: its PIN was refused; it stays open all the same.
enum err keystore_open_token(struct keystore_token *token, struct detail *detail);
// Logs in with the PIN that the source of the moment gives, if any.
enum err keystore_log_in(struct keystore_token *token, struct token *opened, struct detail *detail);
// The first time, by its watcher, with the gate entered; logs what came of it.
enum err keystore_open_first(struct keystore_token *token, struct detail *detail);
// Closes it and its keys. With the gate closed.
void keystore_close_token(struct keystore_token *token);
// The PIN was refused: said once; it is left alone from now on, since the next try may lock it.
void keystore_give_up(struct keystore_token *token, const struct detail *detail);
void keystore_forget_pin(struct keystore_token *token);

// keystore_key.c

// Looks for a key that is not open, for one caller at a time, once in a while (is_urgent: now).
// With the gate entered. ERR_PERM: it is not there, which says nothing about the token; ERR_TEMP,
// ERR_DENIED: that does.
enum err keystore_seek(struct place *place, bool is_urgent, deadline_t deadline,
                       struct detail *detail);
// Notes, and says once, whether a key is where it should be. ERR_PERM: it is not.
void keystore_tell_place(struct place *place, enum err err, const struct detail *detail);
// All keys of a token that are not open. ERR_TEMP, ERR_DENIED: the token is not well after all.
enum err keystore_seek_all(struct keystore_token *token, bool is_urgent, struct detail *detail);
// Does one of them have to wait, because it was looked for a moment ago?
bool keystore_seeks_later(struct keystore_token *token);
// Opens a key that should be for this purpose, and looks at it closely.
enum err keystore_take_key(struct token *token, const char *label, struct bytes id,
                           enum wire_purpose purpose, deadline_t deadline, struct token_key **key,
                           struct detail *detail);
void keystore_free_keys(struct keystore *keystore);

// keystore_reopen.c

// Does a call of the module hang, or take so long that it would not be waited for? With its gate
// entered.
bool keystore_is_occupied(const struct keystore_module *module, struct keystore *keystore);
// Is it worth it now? Then the caller does it.
bool keystore_is_time_to_reopen(struct keystore_token *token);
// Closes all tokens of the module, which finalises it, and opens what can be opened. Gives up if an
// operation is under way that does not end. With no gate entered.
void keystore_reopen_module(struct keystore_token *token);
// A token is back: was it the last one of its module that was lost? With `telling` held.
void keystore_end_outage(const struct keystore_token *token);
// After a try in vain that took so long, in an outage that is so old, as long as the module's other
// tokens are well.
unsigned keystore_reopen_pause(uint64_t outage_ms, uint64_t reopen_ms);

// keystore_watch.c

enum err keystore_start_watchers(struct keystore *keystore, struct detail *detail);
// Until each has tried to open its token. False: not in time; the others go on by themselves.
bool keystore_wait_opened(struct keystore *keystore, deadline_t deadline);
bool keystore_stop_watchers(struct keystore *keystore); // false: one hangs in its module
// Now, and not at the next tick.
void keystore_wake_watcher(struct keystore_token *token);
// Until the watcher has looked at the token after this call began and found it well: then true.
// False: it is not well in time, or has to wait for an officer, or its breaker is open. With no
// gate entered.
bool keystore_wait_healed(struct keystore_token *token, deadline_t deadline);
// Until the watcher has sought the key of this place, which was not open when this call began, or
// for KEY_WAIT_MS. With no gate entered.
void keystore_wait_sought(struct place *place);
// Looks at how the token is, without asking it. With the gate entered or closed.
void keystore_note(struct keystore_token *token);
// Tells of what has changed since: if it is lost, for the reason in detail, unless err is ERR_OK or
// there is none; then what its status says. With no lock held.
void keystore_tell_changes(struct keystore_token *token, enum err err, const struct detail *detail);
