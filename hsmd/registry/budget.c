// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/budget.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/registry/budget_file.h"
#include "hsmd/registry/window.h"

#define MINUTE_SLOT_MS 1000
#define HOUR_SLOT_MS 60000
#define CALM_MS 60000 // without a refusal, until it is said to be over
#define HEADROOM_PART 100
#define HEADROOM_MAX 1000

struct budget {
    struct budget *next; // written once, before it is in the list
    struct budgets *all;
    char *identity;
    struct window minute, hour, failures;
    atomic_uint_least64_t limit; // of the total; 0: none
    atomic_uint_least64_t used;
    atomic_uint_least64_t ceiling; // the file has it
    uint64_t next_ceiling;         // while the file is written; behind all->lock
    atomic_uint_least64_t refused;
    atomic_bool is_failure_due;         // a failure is counted, and not in the file
    atomic_bool has_limits;             // limits are those of a registry; else not known yet
    bool has_total;                     // while the file is read
    uint64_t written_used;              // used, when it was written last; behind all->lock
    atomic_uint_least64_t last_refusal; // by the clock; 0: not over, or said to be over again
};

struct budgets {
    char *path;           // NULL: no file
    pthread_mutex_t lock; // the list's writers, and the file
    _Atomic(struct budget *) first;
    deadline_t ahead;             // windows go by this and the time we are given: the wall clock
    uint64_t writes, writes_read; // (lock), see budget.h
    deadline_t last_now;          // (lock) the last time that is known
    atomic_bool is_failing;       // the file could not be written the last time
};

static struct budget *find(struct budgets *budgets, const char *identity, size_t len)
{
    for (struct budget *budget = atomic_load(&budgets->first); budget; budget = budget->next) {
        if (strlen(budget->identity) == len && memcmp(budget->identity, identity, len) == 0)
            return budget;
    }
    return NULL;
}

// Lock held, or nobody else is there yet.
static struct budget *make(struct budgets *budgets, const char *identity, size_t len)
{
    struct budget *budget = mem_calloc(1, sizeof *budget);
    char *copy = mem_strndup(identity, len);
    if (!budget || !copy) {
        mem_free(budget);
        mem_free(copy);
        return NULL;
    }
    budget->all = budgets;
    budget->identity = copy;
    window_init(&budget->minute, MINUTE_SLOT_MS);
    window_init(&budget->hour, HOUR_SLOT_MS);
    window_init(&budget->failures, HOUR_SLOT_MS);
    budget->next = atomic_load(&budgets->first);
    atomic_store(&budgets->first, budget);
    return budget;
}

struct reading {
    struct budgets *budgets;
    deadline_t wall;
};

static enum err take_line(void *context, enum budget_line line, struct bytes identity,
                          uint64_t slot, uint64_t count)
{
    struct reading *reading = context;
    const char *text = (const char *)identity.data;
    struct budget *budget = find(reading->budgets, text, identity.len);
    if (!budget)
        budget = make(reading->budgets, text, identity.len);
    if (!budget)
        return ERR_TEMP;
    if (line == BUDGET_TOTAL) {
        if (budget->has_total)
            return ERR_PERM;
        budget->has_total = true;
        atomic_store(&budget->used, count);
        atomic_store(&budget->ceiling, count);
        budget->written_used = count;
        return ERR_OK;
    }
    struct window *window = line == BUDGET_MINUTE ? &budget->minute
                            : line == BUDGET_HOUR ? &budget->hour
                                                  : &budget->failures;
    window_put_slot(window, slot, (uint32_t)count, reading->wall);
    return ERR_OK;
}

enum err budgets_open(const char *path, deadline_t now, deadline_t wall, struct budgets **out,
                      struct detail *detail)
{
    struct budgets *budgets = mem_calloc(1, sizeof *budgets);
    struct reading reading = {.budgets = budgets, .wall = wall};
    if (!budgets)
        return err_set(detail, ERR_TEMP, "out of memory");
    budgets->ahead = wall - now; // may wrap around, and back again
    budgets->last_now = now;
    pthread_mutex_init(&budgets->lock, NULL);
    enum err err =
        path ? budget_file_read(path, take_line, &reading, &budgets->writes_read, detail) : ERR_OK;
    budgets->writes = budgets->writes_read;
    if (err == ERR_OK && path && !(budgets->path = mem_strdup(path)))
        err = err_set(detail, ERR_TEMP, "out of memory");
    if (err != ERR_OK) {
        budgets_close(budgets);
        return err;
    }
    *out = budgets;
    return ERR_OK;
}

uint64_t budgets_writes_read(const struct budgets *budgets)
{
    return budgets->writes_read;
}

uint64_t budgets_writes(struct budgets *budgets)
{
    pthread_mutex_lock(&budgets->lock);
    uint64_t writes = budgets->writes;
    pthread_mutex_unlock(&budgets->lock);
    return writes;
}

// How far uses may go once the file is written.
static uint64_t raised_ceiling(struct budget *budget)
{
    uint64_t limit = atomic_load(&budget->limit);
    uint64_t used = atomic_load(&budget->used);
    uint64_t headroom = limit / HEADROOM_PART;
    if (!limit)
        return used;
    headroom = headroom < 1 ? 1 : headroom > HEADROOM_MAX ? HEADROOM_MAX : headroom;
    uint64_t ceiling = used + headroom;
    if (ceiling > limit)
        ceiling = limit > used ? limit : used;
    uint64_t now = atomic_load(&budget->ceiling);
    return ceiling > now ? ceiling : now;
}

static void put(struct budget_file *file, struct budget *b, bool is_end, deadline_t wall)
{
    const struct {
        enum budget_line line;
        struct window *window;
    } windows[] = {
        {BUDGET_MINUTE, &b->minute}, {BUDGET_HOUR, &b->hour}, {BUDGET_FAILURES, &b->failures}};
    b->next_ceiling = is_end ? atomic_load(&b->used) : raised_ceiling(b);
    b->written_used = atomic_load(&b->used);
    if (b->next_ceiling)
        budget_file_put(file, b->identity, b->next_ceiling);
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        if (atomic_load(&windows[i].window->limit) || !atomic_load(&b->has_limits))
            budget_file_put_window(file, windows[i].line, b->identity, windows[i].window, wall);
    }
}

// Writes all totals: their next ceilings, or at the end what was used; and windows. Lock held.
static enum err write_all(struct budgets *budgets, bool is_end, deadline_t now,
                          struct detail *detail)
{
    struct budget_file file;
    budgets->last_now = now > budgets->last_now ? now : budgets->last_now;
    budget_file_begin(&file, budgets->writes + 1);
    for (struct budget *b = atomic_load(&budgets->first); b; b = b->next)
        put(&file, b, is_end, budgets->last_now + budgets->ahead);
    enum err err = budget_file_write(&file, budgets->path, detail);
    for (struct budget *b = atomic_load(&budgets->first); b && err == ERR_OK; b = b->next)
        atomic_store(&b->ceiling, b->next_ceiling);
    if (err == ERR_OK)
        budgets->writes++;
    if ((err != ERR_OK) == atomic_exchange(&budgets->is_failing, err != ERR_OK))
        return err;
    if (err != ERR_OK)
        log_error("budget", "state", "totals cannot be written", "err", detail->text);
    else
        log_notice("budget", "state", "totals written again");
    return err;
}

enum err budgets_write(struct budgets *budgets, deadline_t now, struct detail *detail)
{
    if (!budgets->path)
        return ERR_OK;
    pthread_mutex_lock(&budgets->lock);
    enum err err = write_all(budgets, false, now, detail);
    pthread_mutex_unlock(&budgets->lock);
    return err;
}

void budgets_close(struct budgets *budgets)
{
    struct detail detail = {0};
    if (!budgets)
        return;
    if (budgets->path && atomic_load(&budgets->first))
        (void)write_all(budgets, true, budgets->last_now,
                        &detail); // it has logged; the file has the ceilings
    for (struct budget *next, *b = atomic_load(&budgets->first); b; b = next) {
        next = b->next;
        mem_free(b->identity);
        mem_free(b);
    }
    pthread_mutex_destroy(&budgets->lock);
    mem_free(budgets->path);
    mem_free(budgets);
}

enum err budgets_get(struct budgets *budgets, const char *identity,
                     const struct budget_limits *limits, struct budget **out, struct detail *detail)
{
    pthread_mutex_lock(&budgets->lock);
    struct budget *budget = find(budgets, identity, strlen(identity));
    if (!budget)
        budget = make(budgets, identity, strlen(identity));
    pthread_mutex_unlock(&budgets->lock);
    if (!budget)
        return err_set(detail, ERR_TEMP, "out of memory");
    atomic_store(&budget->has_limits, true);
    atomic_store(&budget->minute.limit, limits->per_minute);
    atomic_store(&budget->hour.limit, limits->per_hour);
    atomic_store(&budget->failures.limit, limits->failures_per_hour);
    atomic_store(&budget->limit, limits->total);
    *out = budget;
    return ERR_OK;
}

// The file first, then the use.
static enum err raise_ceiling(struct budget *budget, deadline_t now, struct detail *detail)
{
    struct budgets *all = budget->all;
    enum err err = ERR_OK;
    pthread_mutex_lock(&all->lock);
    bool is_due = atomic_load(&budget->used) >= atomic_load(&budget->ceiling);
    if (is_due && all->path)
        err = write_all(all, false, now, detail);
    else if (is_due)
        atomic_store(&budget->ceiling, raised_ceiling(budget));
    pthread_mutex_unlock(&all->lock);
    return err;
}

static enum err reserve_total(struct budget *budget, deadline_t now, struct detail *detail)
{
    for (;;) {
        uint64_t limit = atomic_load(&budget->limit);
        uint64_t used = atomic_load(&budget->used);
        if (!limit) {
            atomic_fetch_add(&budget->used, 1);
            return ERR_OK;
        }
        if (used >= limit)
            return err_set(detail, ERR_DENIED, "budget: %s: total", budget->identity);
        if (used < atomic_load(&budget->ceiling)) {
            if (atomic_compare_exchange_strong(&budget->used, &used, used + 1))
                return ERR_OK;
            continue;
        }
        enum err err = raise_ceiling(budget, now, detail);
        if (err != ERR_OK)
            return err_prefix(detail, ERR_TEMP, "budget");
    }
}

static void cancel(struct budget *budget, unsigned steps)
{
    if (steps > 0)
        window_cancel(&budget->minute);
    if (steps > 1)
        window_cancel(&budget->hour);
    if (steps > 2)
        atomic_fetch_sub(&budget->used, 1);
}

// So that a crash gives no failure back.
static enum err write_failure(struct budget *budget, deadline_t now, struct detail *detail)
{
    struct budgets *all = budget->all;
    if (!all->path || !atomic_load(&budget->failures.limit))
        return ERR_OK;
    pthread_mutex_lock(&all->lock);
    bool is_due = atomic_exchange(&budget->is_failure_due, false);
    enum err err = is_due ? write_all(all, false, now, detail) : ERR_OK;
    if (err != ERR_OK)
        atomic_store(&budget->is_failure_due, true);
    pthread_mutex_unlock(&all->lock);
    return err;
}

static enum err reserve(struct budget *budget, bool may_fail, deadline_t time,
                        struct detail *detail)
{
    const char *text = budget->identity;
    deadline_t now = time + budget->all->ahead;
    if (may_fail && atomic_load(&budget->is_failure_due) &&
        write_failure(budget, time, detail) != ERR_OK)
        return err_prefix(detail, ERR_TEMP, "budget");
    if (may_fail && !window_left(&budget->failures, now))
        return err_set(detail, ERR_DENIED, "budget: %s: failures-per-hour", text);
    if (!window_reserve(&budget->minute, now))
        return err_set(detail, ERR_DENIED, "budget: %s: per-minute", text);
    if (!window_reserve(&budget->hour, now)) {
        cancel(budget, 1);
        return err_set(detail, ERR_DENIED, "budget: %s: per-hour", text);
    }
    enum err err = reserve_total(budget, time, detail);
    if (err != ERR_OK)
        cancel(budget, 2);
    return err;
}

static void tell_refusal(struct budget *budget, deadline_t now, const struct detail *detail)
{
    atomic_fetch_add(&budget->refused, 1);
    if (atomic_exchange(&budget->last_refusal, now ? now : 1) == 0)
        log_warning("budget", "state", "used up", "name", budget->identity, "err", detail->text);
}

enum err budget_take(struct budget *const *budgets, unsigned count, bool may_fail, deadline_t now,
                     struct detail *detail)
{
    for (unsigned i = 0; i < count; i++) {
        enum err err = budgets[i] ? reserve(budgets[i], may_fail, now, detail) : ERR_OK;
        if (err == ERR_OK)
            continue;
        for (unsigned k = 0; k < i; k++) {
            if (budgets[k])
                cancel(budgets[k], 3);
        }
        if (err == ERR_DENIED)
            tell_refusal(budgets[i], now, detail);
        return err;
    }
    for (unsigned i = 0; i < count; i++) {
        if (!budgets[i])
            continue;
        window_add(&budgets[i]->minute, now + budgets[i]->all->ahead);
        window_add(&budgets[i]->hour, now + budgets[i]->all->ahead);
    }
    return ERR_OK;
}

void budget_add_failure(struct budget *budget, deadline_t now)
{
    struct detail detail = {0};
    if (!budget)
        return;
    window_count(&budget->failures, now + budget->all->ahead);
    atomic_store(&budget->is_failure_due, true);
    (void)write_failure(budget, now, &detail); // it has logged; reserve tries again
}

static void tell_calm(struct budget *budget, deadline_t now)
{
    uint64_t last = atomic_load(&budget->last_refusal);
    struct budget_left left = budget_get_left(budget, now);
    if (!last || now < last + CALM_MS || !left.per_minute || !left.per_hour || !left.total ||
        !left.failures_per_hour)
        return;
    if (atomic_compare_exchange_strong(&budget->last_refusal, &last, 0))
        log_notice("budget", "state", "within bounds again", "name", budget->identity);
}

// Of what crosses a restart. Lock held.
static bool has_changed(struct budget *b)
{
    bool is_limited = atomic_load(&b->limit) != 0;
    bool has_windows = atomic_load(&b->minute.limit) || atomic_load(&b->hour.limit);
    return (is_limited && raised_ceiling(b) != atomic_load(&b->ceiling)) ||
           (has_windows && atomic_load(&b->used) != b->written_used);
}

void budgets_tick(struct budgets *budgets, deadline_t now)
{
    struct detail detail = {0};
    bool is_due = false;
    for (struct budget *b = atomic_load(&budgets->first); b; b = b->next)
        tell_calm(b, now);
    if (!budgets->path)
        return;
    pthread_mutex_lock(&budgets->lock);
    for (struct budget *b = atomic_load(&budgets->first); b && !is_due; b = b->next)
        is_due = has_changed(b);
    if (is_due || atomic_load(&budgets->is_failing))
        (void)write_all(budgets, false, now, &detail); // logs itself, and is tried again
    pthread_mutex_unlock(&budgets->lock);
}

struct budget *budgets_at(struct budgets *budgets, unsigned index)
{
    struct budget *budget = atomic_load(&budgets->first);
    for (; budget && index; index--)
        budget = budget->next;
    return budget;
}

const char *budget_identity(const struct budget *budget)
{
    return budget->identity;
}

uint64_t budget_refused(const struct budget *budget)
{
    return atomic_load(&budget->refused);
}

struct budget_left budget_get_left(struct budget *budget, deadline_t time)
{
    deadline_t now = time + budget->all->ahead;
    uint64_t limit = atomic_load(&budget->limit);
    uint64_t used = atomic_load(&budget->used);
    uint64_t rest = used < limit ? limit - used : 0;
    return (struct budget_left){.per_minute = window_left(&budget->minute, now),
                                .per_hour = window_left(&budget->hour, now),
                                .total = limit ? rest : UINT64_MAX,
                                .failures_per_hour = window_left(&budget->failures, now)};
}

uint64_t budget_used(const struct budget *budget)
{
    return atomic_load(&budget->used);
}

struct budget_limits budget_get_limits(const struct budget *budget)
{
    return (struct budget_limits){.per_minute = atomic_load(&budget->minute.limit),
                                  .per_hour = atomic_load(&budget->hour.limit),
                                  .total = (unsigned)atomic_load(&budget->limit),
                                  .failures_per_hour = atomic_load(&budget->failures.limit)};
}
