// SPDX-License-Identifier: Apache-2.0
#include "tests/fault/shim_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static const char *const shim_names[FUNCTION_COUNT] = {
#define X(name, parameters, arguments, kind) [AT_##name] = #name,
    FUNCTIONS(X)
#undef X
#define X(name) [AT_##name] = #name,
        SPECIAL(X)
#undef X
};

pthread_mutex_t shim_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t shim_in_calls = PTHREAD_RWLOCK_INITIALIZER;
CK_FUNCTION_LIST *shim_real;

struct shim_state shim_state;
struct shim_session shim_open_sessions[SHIM_SESSIONS_MAX];
unsigned shim_session_count;

static struct fault {
    CK_RV rv;
    unsigned nth, times; // calls to go; how often then
    bool is_on, for_ever;
    unsigned delay_ms, calls;
    unsigned at_once, delayed; // how many are delayed at a time, the others wait; 0: all
    bool hangs;
    CK_FLAGS flags_after;
} faults[FUNCTION_COUNT];

static bool is_counted[FUNCTION_COUNT]; // outside too, and for ever

static char only[sizeof((CK_TOKEN_INFO *)NULL)->label + 1]; // padded with blanks; "": all tokens

static pthread_cond_t undelayed = PTHREAD_COND_INITIALIZER;
static struct timespec control_time;
static ino_t control_inode;

static void shim_die(const char *what)
{
    fprintf(stderr, "shim: %s\n", what);
    abort();
}

static enum function find(const char *name)
{
    for (unsigned i = 0; i < FUNCTION_COUNT; i++) {
        if (strcmp(shim_names[i], name) == 0)
            return (enum function)i;
    }
    shim_die("no such function");
    return FUNCTION_COUNT;
}

// All of the following with the lock held.

static bool is_concerned(CK_SLOT_ID slot)
{
    CK_TOKEN_INFO info;
    return !*only || (shim_real->C_GetTokenInfo(slot, &info) == CKR_OK &&
                      memcmp(info.label, only, sizeof info.label) == 0);
}

// A session that is not known is everybody's.
static bool is_session_concerned(CK_SESSION_HANDLE handle)
{
    for (unsigned i = 0; *only && i < shim_session_count; i++) {
        if (shim_open_sessions[i].handle == handle)
            return is_concerned(shim_open_sessions[i].slot);
    }
    return true;
}

bool shim_is_out(CK_SLOT_ID slot)
{
    return shim_state.is_out && is_concerned(slot);
}

static void forget_sessions(void)
{
    pthread_rwlock_wrlock(&shim_in_calls);
    for (unsigned i = shim_session_count; i-- > 0;) {
        if (!is_concerned(shim_open_sessions[i].slot))
            continue;
        shim_real->C_CloseSession(shim_open_sessions[i].handle);
        shim_open_sessions[i] = shim_open_sessions[--shim_session_count];
    }
    pthread_rwlock_unlock(&shim_in_calls);
}

static void clear(void)
{
    unsigned hanging = shim_state.hanging;
    for (unsigned i = 0; i < FUNCTION_COUNT; i++)
        faults[i] = (struct fault){.delayed = faults[i].delayed}; // they will leave
    pthread_cond_broadcast(&undelayed);
    memset(&shim_state, 0, sizeof shim_state);
    shim_state.hanging = hanging;
}

static void set_fail(enum function at, CK_RV rv, unsigned nth, unsigned times)
{
    struct fault *fault = &faults[at];
    fault->rv = rv;
    fault->nth = nth ? nth : 1;
    fault->times = times;
    fault->for_ever = times == 0;
    fault->is_on = true;
}

static void set_delay(const char *function, unsigned ms)
{
    for (unsigned i = 0; i < FUNCTION_COUNT; i++) {
        if (!function || strcmp(shim_names[i], function) == 0)
            faults[i].delay_ms = ms;
    }
}

static void set_pull(CK_RV rv)
{
    forget_sessions();
    shim_state.is_out = true;
    shim_state.out_rv = rv;
}

static void log_out(void)
{
    pthread_rwlock_wrlock(&shim_in_calls);
    for (unsigned i = 0; i < shim_session_count; i++) {
        if (is_concerned(shim_open_sessions[i].slot))
            shim_real->C_Logout(shim_open_sessions[i].handle); // the first one's does it
    }
    pthread_rwlock_unlock(&shim_in_calls);
}

static void apply(char *line)
{
    char *save = NULL, *word = strtok_r(line, " \t\n", &save), *argument[4] = {0};
    if (!word || *word == '#')
        return;
    for (int i = 0; i < 4; i++)
        argument[i] = strtok_r(NULL, " \t\n", &save);
    unsigned long number[4];
    for (int i = 0; i < 4; i++)
        number[i] = argument[i] ? strtoul(argument[i], NULL, 0) : 0;
    if (strcmp(word, "fail") == 0 && argument[1])
        set_fail(find(argument[0]), number[1], (unsigned)number[2], (unsigned)number[3]);
    else if (strcmp(word, "delay") == 0 && argument[1])
        set_delay(strcmp(argument[0], "*") == 0 ? NULL : argument[0], (unsigned)number[1]);
    else if (strcmp(word, "at-once") == 0 && argument[1])
        faults[find(argument[0])].at_once = (unsigned)number[1];
    else if (strcmp(word, "count") == 0 && argument[0])
        is_counted[find(argument[0])] = true;
    else if (strcmp(word, "hang") == 0 && argument[0])
        faults[find(argument[0])].hangs = true;
    else if (strcmp(word, "sessions") == 0)
        shim_state.session_limit = (unsigned)number[0];
    else if (strcmp(word, "pull") == 0)
        set_pull(argument[0] ? number[0] : CKR_DEVICE_REMOVED);
    else if (strcmp(word, "kill") == 0)
        forget_sessions();
    else if (strcmp(word, "logout") == 0)
        log_out();
    else if (strcmp(word, "hide") == 0 && shim_state.hidden_count < SHIM_HIDDEN_MAX)
        shim_state.hidden[shim_state.hidden_count++] = number[0];
    else if (strcmp(word, "garble") == 0 && argument[0])
        shim_state.garbled = (unsigned)number[0];
    else if (strcmp(word, "token-flags") == 0)
        shim_state.token_flags = number[0];
    else if (strcmp(word, "der-points") == 0)
        shim_state.der_points = true;
    else
        shim_die("unknown word in the control file");
}

static void read_control(void)
{
    const char *path = getenv("SHIM_CONTROL");
    struct stat info;
    if (!path)
        return;
    if (stat(path, &info) != 0)
        info = (struct stat){0};
    if (info.st_mtim.tv_sec == control_time.tv_sec &&
        info.st_mtim.tv_nsec == control_time.tv_nsec && info.st_ino == control_inode)
        return;
    control_time = info.st_mtim;
    control_inode = info.st_ino;
    clear();
    FILE *file = fopen(path, "r");
    char line[200];
    while (file && fgets(line, sizeof line, file))
        apply(line);
    if (file)
        fclose(file);
}

static void count_outside(enum function at)
{
    char path[300];
    if (!is_counted[at])
        return;
    snprintf(path, sizeof path, "%s.%s", getenv("SHIM_CONTROL"), shim_names[at]);
    FILE *file = fopen(path, "a");
    if (!file || fputc('+', file) == EOF || fclose(file) != 0)
        shim_die("cannot count");
}

// As many at a time as the token can do. Lock held, and given up meanwhile.
static void delay(struct fault *fault)
{
    while (fault->at_once && fault->delayed >= fault->at_once)
        pthread_cond_wait(&undelayed, &shim_lock);
    unsigned ms = fault->delay_ms;
    fault->delayed++;
    pthread_mutex_unlock(&shim_lock);
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    prctl(PR_SET_TIMERSLACK, 1UL); // not 50 us longer
    nanosleep(&time, NULL);
    pthread_mutex_lock(&shim_lock);
    fault->delayed--;
    pthread_cond_signal(&undelayed);
}

// What the call returns instead of being passed on, or CKR_OK.
CK_RV shim_enter(enum function at, char kind, CK_ULONG id)
{
    pthread_mutex_lock(&shim_lock);
    read_control();
    struct fault *fault = &faults[at];
    CK_RV rv = CKR_OK;
    fault->calls++;
    count_outside(at);
    if ((kind == 't' && !is_concerned(id)) || (kind == 's' && !is_session_concerned(id))) {
        pthread_mutex_unlock(&shim_lock);
        return CKR_OK;
    }
    shim_state.token_flags |= fault->flags_after;
    if (fault->hangs) {
        shim_state.hanging++;
        while (fault->hangs) {
            pthread_mutex_unlock(&shim_lock);
            usleep(5000);
            pthread_mutex_lock(&shim_lock);
            read_control();
        }
        shim_state.hanging--;
    }
    if (fault->is_on && --fault->nth == 0) {
        rv = fault->rv;
        fault->nth = 1;
        if (!fault->for_ever && --fault->times == 0)
            fault->is_on = false;
    } else if (shim_state.is_out && kind != 'm') {
        rv = kind == 's' ? shim_state.out_rv : CKR_TOKEN_NOT_PRESENT;
    }
    if (fault->delay_ms)
        delay(fault);
    pthread_mutex_unlock(&shim_lock);
    return rv;
}

bool shim_is_hidden(CK_MECHANISM_TYPE mechanism)
{
    bool hidden = false;
    pthread_mutex_lock(&shim_lock);
    for (unsigned i = 0; i < shim_state.hidden_count; i++)
        hidden = hidden || shim_state.hidden[i] == mechanism;
    pthread_mutex_unlock(&shim_lock);
    return hidden;
}

#define LOCKED(statement)                 \
    do {                                  \
        pthread_mutex_lock(&shim_lock);   \
        statement;                        \
        pthread_mutex_unlock(&shim_lock); \
    } while (0)

EXPORT void shim_reset(void)
{
    LOCKED(clear());
}

EXPORT void shim_only_token(const char *label)
{
    pthread_mutex_lock(&shim_lock);
    *only = 0;
    if (label)
        snprintf(only, sizeof only, "%-*s", (int)sizeof only - 1, label);
    pthread_mutex_unlock(&shim_lock);
}

EXPORT void shim_fail(const char *function, unsigned long rv, unsigned nth, unsigned times)
{
    LOCKED(set_fail(find(function), rv, nth, times));
}

EXPORT void shim_delay(const char *function, unsigned ms)
{
    LOCKED(set_delay(function, ms));
}

EXPORT void shim_hang(const char *function)
{
    LOCKED(faults[find(function)].hangs = true);
}

EXPORT unsigned shim_hanging(void)
{
    unsigned count;
    LOCKED(count = shim_state.hanging);
    return count;
}

EXPORT void shim_limit_sessions(unsigned limit)
{
    LOCKED(shim_state.session_limit = limit);
}

EXPORT void shim_pull(unsigned long rv)
{
    LOCKED(set_pull(rv));
}

EXPORT void shim_plug(void)
{
    LOCKED(shim_state.is_out = false);
}

EXPORT void shim_kill_sessions(void)
{
    LOCKED(forget_sessions());
}

EXPORT void shim_log_out(void)
{
    LOCKED(log_out());
}

EXPORT void shim_hide(unsigned long mechanism)
{
    pthread_mutex_lock(&shim_lock);
    if (shim_state.hidden_count == SHIM_HIDDEN_MAX)
        shim_die("too many hidden mechanisms");
    shim_state.hidden[shim_state.hidden_count++] = mechanism;
    pthread_mutex_unlock(&shim_lock);
}

EXPORT void shim_token_flags(unsigned long flags)
{
    LOCKED(shim_state.token_flags = flags);
}

EXPORT void shim_token_flags_after(const char *function, unsigned long flags)
{
    LOCKED(faults[find(function)].flags_after = flags);
}

EXPORT void shim_want_der_points(void)
{
    LOCKED(shim_state.der_points = true);
}

EXPORT void shim_insist(unsigned long attribute)
{
    LOCKED(shim_state.stubborn = attribute);
}

EXPORT unsigned long shim_copy(void)
{
    unsigned long copy;
    LOCKED(copy = shim_state.copy);
    return copy;
}

EXPORT unsigned long shim_copier(void)
{
    unsigned long copier;
    LOCKED(copier = shim_state.copier);
    return copier;
}

EXPORT unsigned long shim_used(void)
{
    unsigned long used;
    LOCKED(used = shim_state.used);
    return used;
}

EXPORT unsigned shim_calls(const char *function)
{
    unsigned calls;
    LOCKED(calls = faults[find(function)].calls);
    return calls;
}

EXPORT unsigned shim_sessions(void)
{
    unsigned count;
    LOCKED(count = shim_session_count);
    return count;
}
