// SPDX-License-Identifier: Apache-2.0
// Each token has a thread that opens it, and then looks after it: at every tick, as soon as a
// request met a failure, and every RETRY_MS while the token is not well. So a token heals when
// nobody asks for it, and one whose module hangs holds up nobody else.
//
// pkcs11/ heals sessions, logins and object handles by itself, and finds a token again that its
// module reports gone; asking (token_check) is enough for that. What is left is a module that has
// lost its bearings while it says all is well, as SoftHSM does when its files were away for a
// while. So one that requests have failed with must show that it still works, with a key of its
// own; and one that does not, twice in a row, has its module finalised and initialised. That waits
// for the operations under way in the module, and is not done while one of them hangs.
//
// A token is well again within a second of the end of what ailed it: it is looked at every
// RETRY_MS, which is also when its circuit breaker lets one try (breaker.c), and its module is
// opened anew twice a second; less often, if others of the module are well and it is in vain
// (keystore_reopen.c).
//
// A key that is gone looks the same at first. If another key of the token works it is that key's
// own trouble.
#include "hsmd/keystore/keystore_internal.h"

#include <errno.h>
#include <time.h>

#include "hsmd/base/log.h"
#include "hsmd/base/thread.h"

#define RETRY_MS 200
#define CHECK_MS 1000      // for a session, to look with
#define HANG_MS 2000       // a call that takes so long hangs
#define FAILURES_MAX 2     // in a row, before the module is opened anew
#define OPEN_ALONE_MS 2000 // at the start, before the next token's turn
#define STOP_MS 5000

static bool has_lost_login(struct keystore_token *token)
{
    pthread_mutex_lock(&token->lock);
    bool has_lost = token->source != PIN_NONE;
    pthread_mutex_unlock(&token->lock);
    return has_lost;
}

// failures: looks that found it not well.
static enum mood mood_of(struct keystore_token *token, unsigned failures)
{
    struct token_status status;
    struct token *opened = atomic_load(&token->token);
    if (!opened || atomic_load(&token->is_opening))
        return MOOD_LOST;
    if (atomic_load(&token->is_unlocking))
        return MOOD_LOCKED;
    token_status(opened, &status);
    if (status.state == TOKEN_LOCKED || atomic_load(&token->is_refused))
        return has_lost_login(token) ? MOOD_LOST : MOOD_LOCKED;
    bool is_hanging = status.longest_call_ms > HANG_MS;
    return status.state == TOKEN_READY && !status.is_breaking && !is_hanging && !failures
               ? MOOD_WELL
               : MOOD_LOST;
}

void keystore_note(struct keystore_token *token)
{
    atomic_store(&token->mood, mood_of(token, atomic_load(&token->failures)));
}

// Nobody was told by an error why it is lost. With no lock held.
static void find_reason(struct keystore_token *token, struct detail *reason)
{
    struct token_status status;
    if (!gate_enter(&token->module->gate, 0)) {
        (void)err_set(reason, ERR_TEMP, "its module is being opened anew");
        return;
    }
    struct token *opened = atomic_load(&token->token);
    if (opened)
        token_status(opened, &status);
    gate_leave(&token->module->gate);
    if (!opened)
        (void)err_set(reason, ERR_TEMP, "not there");
    else if (atomic_load(&token->is_refused))
        (void)err_set(reason, ERR_TEMP, "its PIN was refused");
    else if (status.longest_call_ms > HANG_MS)
        (void)err_set(reason, ERR_TEMP, "a call into its module has taken %u ms",
                      status.longest_call_ms);
    else
        (void)err_set(reason, ERR_TEMP, "%s", status.error);
}

// With `telling` held: once somebody listens.
static void tell_login(struct keystore_token *token)
{
    struct keystore *keystore = token->keystore;
    if (keystore->tell && atomic_exchange(&token->is_login_due, false))
        keystore->tell(keystore->tell_context, KEYSTORE_TOKEN_UNLOCKED, token->conf->name,
                       token->conf->pin_file ? "by the configured PIN (pin-file), without officers"
                                             : "by the configured PIN (pin-credential), without "
                                               "officers");
}

void keystore_tell_changes(struct keystore_token *token, enum err err, const struct detail *detail)
{
    struct detail reason = {0};
    struct keystore *keystore = token->keystore;
    const char *name = token->conf->name;
    if (atomic_load(&token->is_login_due)) {
        pthread_mutex_lock(&keystore->telling);
        tell_login(token);
        pthread_mutex_unlock(&keystore->telling);
    }
    bool is_lost = atomic_load(&token->mood) == MOOD_LOST;
    if (atomic_load(&token->is_lost) == is_lost)
        return;
    pthread_mutex_lock(&keystore->telling);
    is_lost = atomic_load(&token->mood) == MOOD_LOST;
    if (atomic_exchange(&token->is_lost, is_lost) == is_lost) {
        pthread_mutex_unlock(&keystore->telling);
        return; // another one has told it
    }
    if (is_lost && err != ERR_OK && detail)
        reason = *detail;
    if (is_lost && !reason.text[0])
        find_reason(token, &reason);
    if (is_lost) {
        token->lost_reason = reason;
        log_warning("token", "token", name, "state", "lost", "err", reason.text);
    } else {
        log_notice("token", "token", name, "state", "back");
        atomic_store(&token->is_absence_told, false);
        keystore_end_outage(token);
    }
    if (keystore->tell)
        keystore->tell(keystore->tell_context, is_lost ? KEYSTORE_TOKEN_LOST : KEYSTORE_TOKEN_BACK,
                       name, reason.text);
    pthread_mutex_unlock(&keystore->telling);
}

void keystore_on_event(struct keystore *keystore, keystore_tell tell, void *context)
{
    pthread_mutex_lock(&keystore->telling);
    keystore->tell = tell;
    keystore->tell_context = context;
    for (size_t i = 0; i < keystore->token_count && tell; i++) {
        struct keystore_token *token = &keystore->tokens[i];
        struct detail reason;
        tell_login(token);
        if (!atomic_load(&token->is_lost))
            continue;
        (void)err_set(&reason, ERR_TEMP, "at the start: %s", token->lost_reason.text);
        tell(context, KEYSTORE_TOKEN_LOST, token->conf->name, reason.text);
    }
    pthread_mutex_unlock(&keystore->telling);
}

// Does this key work?
static enum err try_key(struct place *place, struct detail *detail)
{
    struct token *token = atomic_load(&place->token->token);
    struct token_session *session = NULL;
    enum err err = token_session_get(token, deadline_in(CHECK_MS), &session, detail);
    if (err == ERR_OK) {
        err = token_check_pair(session, atomic_load(&place->key), detail);
        token_session_put(session);
    }
    if (err == ERR_OK)
        atomic_store(&place->failures, 0);
    else
        atomic_fetch_add(&place->failures, 1);
    return err;
}

static bool is_in_use(const struct place *place, const struct keystore_token *token)
{
    return place->token == token && atomic_load(&place->is_current) &&
           !atomic_load(&place->owner->is_dropped) && atomic_load(&place->key);
}

// Which of the keys work? ERR_TEMP: none of them.
static enum err prove(struct keystore_token *token, struct detail *detail)
{
    bool is_any = false;
    bool is_any_good = false;
    struct place *places = atomic_load(&token->keystore->places);
    for (struct place *place = places; place; place = place->next) {
        if (!is_in_use(place, token) || (is_any_good && !atomic_load(&place->failures)))
            continue;
        enum err err = try_key(place, detail);
        if (err == ERR_DENIED)
            return err;
        is_any = true;
        is_any_good = is_any_good || err == ERR_OK;
        if (err == ERR_OK)
            keystore_tell_place(place, err, detail);
    }
    for (struct place *place = places; is_any_good && place; place = place->next) {
        if (is_in_use(place, token) && atomic_load(&place->failures) > 1)
            keystore_tell_place(place, ERR_PERM, detail);
    }
    return is_any && !is_any_good ? ERR_TEMP : ERR_OK;
}

// A key that other keys of the token work without is tried again.
static bool is_any_missing(struct keystore_token *token)
{
    for (struct place *place = atomic_load(&token->keystore->places); place; place = place->next) {
        if (is_in_use(place, token) && atomic_load(&place->is_missing))
            return true;
    }
    return false;
}

// Asks a token that is open how it is. ERR_OK: well, or waiting for an officer.
static enum err check(struct keystore_token *token, struct token *opened, struct detail *detail)
{
    struct token_status status;
    unsigned doubts = atomic_exchange(&token->doubts, 0);
    bool is_in_doubt = doubts || atomic_load(&token->failures) || is_any_missing(token);
    if (atomic_load(&token->is_refused) || atomic_load(&token->is_unlocking))
        return ERR_OK;
    token_status(opened, &status);
    enum err err = ERR_OK;
    if (status.state == TOKEN_LOCKED) {
        err = keystore_log_in(token, opened, detail);
        token_status(opened, &status);
        if (err != ERR_OK || status.state == TOKEN_LOCKED)
            return err;
    }
    // One that is at work shows by that how it is.
    if (status.state != TOKEN_READY || status.is_breaking || !status.out || is_in_doubt)
        err = token_check(opened, deadline_in(CHECK_MS), detail);
    if (err == ERR_OK && is_in_doubt)
        err = prove(token, detail);
    return err;
}

static void note_result(struct keystore_token *token, enum err err)
{
    if (err == ERR_OK)
        atomic_store(&token->failures, 0);
    else if (err != ERR_DENIED)
        atomic_fetch_add(&token->failures, 1);
    keystore_note(token);
}

// True: it is to be looked at again soon.
static bool look_after(struct keystore_token *token)
{
    struct gate *gate = &token->module->gate;
    struct detail detail = {0};
    enum err err = ERR_OK;
    if (!gate_enter(gate, deadline_in(CHECK_MS)))
        return true;
    struct token *opened = atomic_load(&token->token);
    if (opened)
        err = check(token, opened, &detail);
    else if (!atomic_load(&token->is_refused))
        err = keystore_open_token(token, &detail);
    // It is well when its keys have been looked for, and not before: that would be told. One that
    // was looked for in vain a moment ago, while the token was not well, has its turn soon.
    bool is_early = keystore_seeks_later(token);
    if (err == ERR_OK && mood_of(token, 0) == MOOD_WELL)
        err = keystore_seek_all(token, false, &detail);
    if (err == ERR_DENIED)
        keystore_give_up(token, &detail);
    note_result(token, err);
    gate_leave(gate);
    keystore_tell_changes(token, err, &detail);
    // A PIN that cannot be read now is no fault of the token.
    struct token_status status = {.state = TOKEN_ABSENT};
    bool is_to_wait = true;
    if (gate_enter(gate, 0)) {
        if ((opened = atomic_load(&token->token)) != NULL)
            token_status(opened, &status);
        is_to_wait = keystore_is_occupied(token->module, token->keystore);
        gate_leave(gate);
    }
    bool is_locked = status.state == TOKEN_LOCKED || atomic_load(&token->is_refused);
    if (!is_locked && !is_to_wait && atomic_load(&token->failures) >= FAILURES_MAX &&
        keystore_is_time_to_reopen(token))
        keystore_reopen_module(token);
    return !atomic_load(&token->is_refused) && !is_locked &&
           (is_early || atomic_load(&token->mood) == MOOD_LOST);
}

static void open_first(struct keystore_token *token)
{
    struct gate *gate = &token->module->gate;
    struct detail detail = {0};
    if (gate_enter(gate, deadline_in(KEY_WAIT_MS))) {
        enum err err = keystore_open_first(token, &detail);
        gate_leave(gate);
        keystore_tell_changes(token, err, &detail);
    }
    pthread_mutex_lock(&token->lock);
    token->has_tried = true;
    token->is_due = atomic_load(&token->keystore->places); // it hung: its keys are known by now
    pthread_cond_broadcast(&token->changed);
    pthread_mutex_unlock(&token->lock);
}

static void *watch(void *argument)
{
    struct keystore_token *token = argument;
    bool is_soon = false;
    open_first(token);
    pthread_mutex_lock(&token->lock);
    while (!token->is_stopping) {
        struct timespec until = deadline_timespec(deadline_in(RETRY_MS));
        bool is_time = false;
        while (!token->is_due && !token->is_stopping && !is_time) {
            if (is_soon)
                is_time =
                    pthread_cond_timedwait(&token->changed, &token->lock, &until) == ETIMEDOUT;
            else
                pthread_cond_wait(&token->changed, &token->lock);
        }
        token->is_due = false;
        if (token->is_stopping)
            break;
        token->looks_begun++;
        token->look_began = clock_ms();
        pthread_mutex_unlock(&token->lock);
        is_soon = look_after(token);
        pthread_mutex_lock(&token->lock);
        token->looks_ended = token->looks_begun;
        pthread_cond_broadcast(&token->changed);
    }
    token->has_ended = true;
    pthread_cond_broadcast(&token->changed);
    pthread_mutex_unlock(&token->lock);
    return NULL;
}

void keystore_wake_watcher(struct keystore_token *token)
{
    pthread_mutex_lock(&token->lock);
    token->is_due = true;
    pthread_cond_broadcast(&token->changed);
    pthread_mutex_unlock(&token->lock);
}

static bool is_breaking(struct keystore_token *token)
{
    struct token_status status = {0};
    struct gate *gate = &token->module->gate;
    if (!gate_enter(gate, 0))
        return false; // it is being opened anew
    struct token *opened = atomic_load(&token->token);
    if (opened)
        token_status(opened, &status);
    gate_leave(gate);
    return status.is_breaking || status.state == TOKEN_LOCKED;
}

// Another look has ended. False: the deadline is past, or none begins any more.
static bool wait_look(struct keystore_token *token, uint64_t after, deadline_t deadline)
{
    struct timespec until = deadline_timespec(deadline);
    bool in_time = true;
    pthread_mutex_lock(&token->lock);
    while (token->looks_ended <= after && in_time && !token->is_stopping)
        in_time = pthread_cond_timedwait(&token->changed, &token->lock, &until) != ETIMEDOUT;
    bool has_looked = token->looks_ended > after;
    pthread_mutex_unlock(&token->lock);
    return has_looked;
}

bool keystore_wait_healed(struct keystore_token *token, deadline_t deadline)
{
    pthread_mutex_lock(&token->lock);
    uint64_t after = token->looks_begun;
    token->is_due = true;
    pthread_cond_broadcast(&token->changed);
    pthread_mutex_unlock(&token->lock);
    while (!atomic_load(&token->is_refused) && !atomic_load(&token->is_unlocking) &&
           !is_breaking(token) && wait_look(token, after++, deadline)) {
        if (atomic_load(&token->mood) == MOOD_WELL)
            return true;
    }
    return false;
}

// The first one waits for a module that hangs, and the others not, since the look that it waits for
// does not end.
void keystore_wait_sought(struct place *place)
{
    struct keystore_token *token = place->token;
    bool in_time = true;
    pthread_mutex_lock(&token->lock);
    uint64_t after = token->looks_begun;
    bool is_idle = token->looks_ended == after;
    deadline_t began = is_idle ? clock_ms() : token->look_began;
    struct timespec until = deadline_timespec(began + KEY_WAIT_MS);
    token->is_due = true;
    pthread_cond_broadcast(&token->changed);
    while (!atomic_load(&place->key) && token->looks_ended <= after && in_time &&
           !token->is_stopping)
        in_time = pthread_cond_timedwait(&token->changed, &token->lock, &until) != ETIMEDOUT;
    pthread_mutex_unlock(&token->lock);
}

void keystore_tick(struct keystore *keystore)
{
    for (size_t i = 0; i < keystore->token_count; i++)
        keystore_wake_watcher(&keystore->tokens[i]);
}

static bool wait_opened(struct keystore_token *token, deadline_t deadline)
{
    struct timespec until = deadline_timespec(deadline);
    bool in_time = true;
    pthread_mutex_lock(&token->lock);
    while (!token->has_tried && in_time)
        in_time = pthread_cond_timedwait(&token->changed, &token->lock, &until) != ETIMEDOUT;
    bool has_tried = token->has_tried;
    pthread_mutex_unlock(&token->lock);
    return has_tried;
}

// One after the other, as long as none hangs: modules that share libraries (two copies of SoftHSM
// share libcrypto) have been seen to fail when they are initialised at once.
enum err keystore_start_watchers(struct keystore *keystore, struct detail *detail)
{
    bool is_good = true;
    for (size_t i = 0; i < keystore->token_count && is_good; i++) {
        struct keystore_token *token = &keystore->tokens[i];
        is_good = thread_start(&token->watcher, watch, token);
        token->has_watcher = is_good;
        if (is_good)
            (void)wait_opened(token, deadline_in(OPEN_ALONE_MS));
    }
    return is_good ? ERR_OK : err_set(detail, ERR_TEMP, "cannot start a thread");
}

static bool stop_watcher(struct keystore_token *token, deadline_t deadline)
{
    struct timespec until = deadline_timespec(deadline);
    bool in_time = true;
    pthread_mutex_lock(&token->lock);
    token->is_stopping = true;
    pthread_cond_broadcast(&token->changed);
    while (!token->has_ended && in_time)
        in_time = pthread_cond_timedwait(&token->changed, &token->lock, &until) != ETIMEDOUT;
    bool has_ended = token->has_ended;
    pthread_mutex_unlock(&token->lock);
    if (has_ended)
        pthread_join(token->watcher, NULL);
    else
        pthread_detach(token->watcher);
    return has_ended;
}

bool keystore_wait_opened(struct keystore *keystore, deadline_t deadline)
{
    bool have_tried = true;
    for (size_t i = 0; i < keystore->token_count; i++)
        have_tried = wait_opened(&keystore->tokens[i], deadline) && have_tried;
    return have_tried;
}

bool keystore_stop_watchers(struct keystore *keystore)
{
    deadline_t deadline = deadline_in(STOP_MS);
    bool have_ended = true;
    for (size_t i = 0; i < keystore->token_count; i++) {
        if (keystore->tokens[i].has_watcher)
            have_ended = stop_watcher(&keystore->tokens[i], deadline) && have_ended;
    }
    return have_ended;
}
