// SPDX-License-Identifier: Apache-2.0
// The circuit breaker, and what can be told of a token.
//
// A token that is gone is looked for by those who need it. Each of them would wait for its module
// to say no, one after the other; so after some failures all are refused at once, but for one every
// PROBE_EVERY_MS, who tries with what it came for. Two things open the breaker: restorations that
// fail (then sessions that are still good may be used), and a token that is restored each time only
// to be lost again in the next call. A failure of one key or one session does not count: it would
// take the others' keys away.
#include "pkcs11/internal.h"

#include <stdio.h>

#define HEAL_FAILURES_MAX 2
#define LOSSES_MAX 3
#define PROBE_EVERY_MS 200

bool breaker_is_open(const struct token *token)
{
    return token->breaker.heal_failures >= HEAL_FAILURES_MAX;
}

static bool may_probe(struct token *token)
{
    struct breaker *breaker = &token->breaker;
    if (token->is_healing || !deadline_is_past(breaker->next_probe))
        return false;
    breaker->next_probe = deadline_in(PROBE_EVERY_MS);
    return true;
}

enum gate breaker_ask(struct token *token, bool is_any_open)
{
    struct breaker *breaker = &token->breaker;
    bool is_open = breaker_is_open(token), is_losing = breaker->losses >= LOSSES_MAX;
    if (!is_open && !is_losing)
        return GATE_OPEN;
    if (may_probe(token))
        return GATE_PROBE;
    if (!is_losing && is_any_open && !token->is_lost)
        return GATE_SOME;
    breaker->refused++;
    return GATE_SHUT;
}

bool breaker_may_heal(struct token *token, bool is_probe)
{
    return is_probe || !breaker_is_open(token) || may_probe(token);
}

enum err breaker_refuse(struct token *token, struct detail *detail)
{
    char error[sizeof token->breaker.error];
    pthread_mutex_lock(&token->lock);
    snprintf(error, sizeof error, "%s", token->breaker.error);
    pthread_mutex_unlock(&token->lock);
    return err_set(detail, ERR_TEMP, "token %s: not usable, and tried again every %d ms: %s",
                   token->name, PROBE_EVERY_MS, error);
}

void breaker_note_error(struct token *token, const char *text)
{
    snprintf(token->breaker.error, sizeof token->breaker.error, "%s", text);
    token->breaker.error_at = clock_ms();
}

void breaker_note_lost(struct token *token, bool is_new)
{
    if (!is_new)
        return;
    token->breaker.losses++;
    if (token->breaker.losses >= LOSSES_MAX)
        token->breaker.next_probe = deadline_in(PROBE_EVERY_MS);
}

void breaker_note_healed(struct token *token, enum err err, bool is_counted)
{
    struct breaker *breaker = &token->breaker;
    if (!err) {
        breaker->heal_failures = 0;
        breaker->restored++;
    } else if (err == ERR_TEMP && is_counted) {
        breaker->heal_failures++;
        breaker->next_probe = deadline_in(PROBE_EVERY_MS);
    }
}

void breaker_note_call(struct token *token, enum err err)
{
    struct breaker *breaker = &token->breaker;
    breaker->calls++;
    if (err == ERR_TEMP) {
        breaker->calls_failed++;
        breaker->failures++;
        return;
    }
    breaker->failures = 0;
    if (breaker->losses > 0) {
        breaker->losses = 0;
        breaker_note_state(token);
    }
}

void breaker_reset(struct token *token)
{
    token->breaker.heal_failures = token->breaker.losses = 0;
    token->breaker.next_probe = 0;
}

void breaker_note_state(struct token *token)
{
    struct breaker *breaker = &token->breaker;
    enum token_state state = TOKEN_READY;
    if (token->is_pin_refused)
        state = TOKEN_PIN_REFUSED;
    else if (token->is_locked)
        state = TOKEN_LOCKED;
    else if (breaker->is_absent)
        state = TOKEN_ABSENT;
    else if (token->is_lost || breaker->heal_failures > 0 || breaker->losses >= LOSSES_MAX)
        state = TOKEN_RECOVERING;
    if (state != breaker->state || breaker->since == 0)
        breaker->since = clock_ms();
    breaker->state = state;
}

const char *token_state_name(enum token_state state)
{
    static const char *const names[] = {[TOKEN_READY] = "ready",
                                        [TOKEN_LOCKED] = "locked",
                                        [TOKEN_PIN_REFUSED] = "pin-refused",
                                        [TOKEN_RECOVERING] = "recovering",
                                        [TOKEN_ABSENT] = "absent"};
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "unknown";
}

static bool is_broken(const struct token_session *session)
{
    return !session->is_open || session->generation != session->token->generation.sessions;
}

static void count_sessions(const struct token *token, struct token_status *status)
{
    deadline_t now = clock_ms();
    status->sessions = token->session_count;
    // Not the officers' own: to make a key takes as long as it takes.
    for (unsigned i = 0; i < token->session_count; i++) {
        const struct token_session *session = &token->sessions[i];
        unsigned took = session->calls > 0 ? (unsigned)(now - session->call_began) : 0;
        if (took > status->longest_call_ms)
            status->longest_call_ms = took;
        status->out += session->is_out;
        status->in_call += session->calls > 0;
        status->broken += is_broken(session);
    }
    // Restoring is done outside of calls of a session.
    if (token->is_healing && now - token->breaker.heal_began > status->longest_call_ms)
        status->longest_call_ms = (unsigned)(now - token->breaker.heal_began);
}

void token_status(struct token *token, struct token_status *status)
{
    const struct breaker *breaker = &token->breaker;
    *status = (struct token_status){0};
    pthread_mutex_lock(&token->lock);
    breaker_note_state(token);
    status->state = breaker->state;
    status->since = breaker->since;
    status->is_final_try = breaker->state == TOKEN_PIN_REFUSED && breaker->is_final_try;
    status->is_breaking = breaker_is_open(token) || breaker->losses >= LOSSES_MAX;
    status->failures = breaker->failures;
    status->calls = breaker->calls;
    status->calls_failed = breaker->calls_failed;
    status->refused = breaker->refused;
    status->restored = breaker->restored;
    status->error_at = breaker->error_at;
    snprintf(status->error, sizeof status->error, "%s", breaker->error);
    count_sessions(token, status);
    pthread_mutex_unlock(&token->lock);
}

static enum err ask(struct token_session *session, struct detail *detail)
{
    CK_SESSION_INFO info;
    struct token *token = session->token;
    enum err err = session_restore(session, detail);
    if (!err)
        err = session_enter(session, detail);
    if (err)
        return err;
    CK_RV rv = token->fn->C_GetSessionInfo(session->handle, &info);
    if (rv == CKR_OK && token->needs_login && info.state != CKS_RO_USER_FUNCTIONS &&
        info.state != CKS_RW_USER_FUNCTIONS)
        rv = CKR_USER_NOT_LOGGED_IN;
    if (rv != CKR_OK)
        err = session_fail(session, rv, "C_GetSessionInfo", detail);
    session_leave(session);
    return err;
}

// A broken session that nobody has, once a restoration has failed.
static struct token_session *take_broken(struct token *token, deadline_t deadline)
{
    struct token_session *found = NULL;
    bool is_any = false;
    pthread_mutex_lock(&token->lock);
    for (unsigned i = 0; i < token->session_count && token->breaker.heal_failures; i++) {
        struct token_session *session = &token->sessions[i];
        is_any = is_any || is_broken(session);
        if (is_broken(session) && !session->is_out)
            found = session;
    }
    if (!is_any)
        token->breaker.heal_failures = 0; // made up for, one by one
    if (found) {
        found->is_out = found->is_probe = true;
        found->deadline = deadline;
    }
    pthread_mutex_unlock(&token->lock);
    return found;
}

// While some sessions are good nobody restores another, and a token of which a restoration has
// failed would never be well again: whether it succeeds now is tried here. ERR_DENIED, or ERR_OK.
static enum err restore_another(struct token *token, deadline_t deadline, struct detail *detail)
{
    struct detail why = {0};
    struct token_session *session = take_broken(token, deadline);
    if (!session)
        return ERR_OK;
    enum err err = session_restore(session, &why);
    pthread_mutex_lock(&token->lock);
    if (session->is_count_hit)
        token->breaker.heal_failures = 0; // it has no more for us, which is no failure
    pthread_mutex_unlock(&token->lock);
    token_session_put(session);
    if (err == ERR_DENIED && detail)
        *detail = why;
    return err == ERR_DENIED ? err : ERR_OK;
}

enum err token_check(struct token *token, deadline_t deadline, struct detail *detail)
{
    struct token_session *session = NULL;
    enum err err = token_session_get(token, deadline, &session, detail);
    if (err)
        return err;
    err = ask(session, detail);
    if (err == ERR_TEMP)
        err = ask(session, detail);
    token_session_put(session);
    if (!err)
        err = restore_another(token, deadline, detail);
    if (!err) {
        pthread_mutex_lock(&token->lock);
        token->breaker.losses = 0;
        breaker_note_state(token);
        pthread_mutex_unlock(&token->lock);
    }
    return err;
}
