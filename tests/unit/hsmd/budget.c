// SPDX-License-Identifier: Apache-2.0
// Never more than the budget: at the edges of windows, among threads, over restarts and crashes.
// Time is the test's own.
#include "hsmd/registry/budget.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/base/log.h"
#include "hsmd/registry/window.h"

#define THREADS 16
#define MINUTE 60000u
#define HOUR 3600000u

static char dir[] = "/tmp/budget-XXXXXX";
static char path[64];
static struct detail detail;

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(path, sizeof path, "%s/budgets", dir);
    return 0;
}

static int group_setup(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return rmdir(dir);
}

static struct budget *get(struct budgets *budgets, const char *identity,
                          struct budget_limits limits)
{
    struct budget *budget = NULL;
    assert_int_equal(budgets_get(budgets, identity, &limits, &budget, &detail), ERR_OK);
    return budget;
}

static enum err take(struct budget *budget, deadline_t now)
{
    return budget_take(&budget, 1, false, now, &detail);
}

// How many of tries at that time are granted.
static unsigned take_many(struct budget *budget, deadline_t now, unsigned tries)
{
    unsigned granted = 0;
    for (unsigned i = 0; i < tries; i++)
        granted += take(budget, now) == ERR_OK;
    return granted;
}

static void test_windows(void **state)
{
    (void)state;
    // Three at start; then some later.
    static const struct {
        const char *name;
        struct budget_limits limits;
        deadline_t start, later;
        unsigned granted;
    } rows[] = {
        {"at once", {.per_minute = 3}, 5000, 5000, 0},
        {"just within the minute", {.per_minute = 3}, 5000, 5000 + MINUTE - 1, 0},
        {"in the slot of grace", {.per_minute = 3}, 5000, 5000 + MINUTE, 0},
        {"after it", {.per_minute = 3}, 5000, 5000 + MINUTE + 1000, 3},
        {"end of a slot", {.per_minute = 3}, 5999, 5999 + MINUTE, 0},
        {"end of a slot, and over", {.per_minute = 3}, 5999, 5999 + MINUTE + 1, 3},
        {"long after", {.per_minute = 3}, 5000, 5000 + 1000 * MINUTE, 3},
        {"from 0", {.per_minute = 3}, 0, MINUTE, 0},
        {"hour", {.per_hour = 3}, 7, 7 + HOUR - 1, 0},
        {"after the hour", {.per_hour = 3}, 7, 7 + HOUR + MINUTE, 3},
        {"minute within hour", {.per_minute = 3, .per_hour = 5}, 0, 2 * MINUTE, 2},
        {"total", {.total = 3}, 0, 1000 * HOUR, 0},
        {"total, some left", {.per_minute = 3, .total = 5}, 0, 2 * MINUTE, 2},
        {"no limit", {0}, 0, 0, 10},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct budgets *budgets = NULL;
        assert_int_equal(budgets_open(NULL, 0, 0, &budgets, &detail), ERR_OK);
        struct budget *budget = get(budgets, "key a", rows[i].limits);
        unsigned first = take_many(budget, rows[i].start, 3);
        unsigned granted = take_many(budget, rows[i].later, 10);
        if (first != 3 || granted != rows[i].granted)
            print_error("%s: %u, %u\n", rows[i].name, first, granted);
        assert_int_equal(first, 3);
        assert_int_equal(granted, rows[i].granted);
        budgets_close(budgets);
    }
}

// In no minute at all are there more than the limit, wherever it begins; and not much fewer.
static void test_any_minute(void **state)
{
    (void)state;
    enum { STEP = 70, STEPS = 6000, LIMIT = 25 };
    static bool granted[STEPS];
    struct budgets *budgets = NULL;
    unsigned all = 0;
    assert_int_equal(budgets_open(NULL, 0, 0, &budgets, &detail), ERR_OK);
    struct budget *budget = get(budgets, "key a", (struct budget_limits){.per_minute = LIMIT});
    for (unsigned i = 0; i < STEPS; i++) {
        bool is_pause = (i / 300) % 3 == 1;
        granted[i] = !is_pause && take(budget, 12345 + (deadline_t)i * STEP) == ERR_OK;
        all += granted[i];
    }
    for (unsigned from = 0; from < STEPS; from++) {
        unsigned within = 0;
        for (unsigned i = from; i < STEPS && (i - from) * STEP < MINUTE; i++)
            within += granted[i];
        assert_true(within <= LIMIT);
    }
    assert_in_range(all, 5 * LIMIT, 8 * LIMIT); // seven minutes
    budgets_close(budgets);
}

static void test_together(void **state)
{
    (void)state;
    struct budgets *budgets = NULL;
    assert_int_equal(budgets_open(NULL, 0, 0, &budgets, &detail), ERR_OK);
    struct budget *grant = get(budgets, "grant a", (struct budget_limits){.per_minute = 9});
    struct budget *key =
        get(budgets, "key a", (struct budget_limits){.per_hour = 4, .per_minute = 9, .total = 9});
    struct budget *both[] = {grant, key};
    struct budget *none[] = {NULL, NULL};
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(budget_take(both, 2, false, 0, &detail), i < 4 ? ERR_OK : ERR_DENIED);
    assert_string_equal(detail.text, "budget: key a: per-hour");
    // What the key refused is charged to nobody.
    struct budget_left left = budget_get_left(grant, 0);
    assert_int_equal(left.per_minute, 5);
    assert_true(left.per_hour == UINT64_MAX);
    left = budget_get_left(key, 0);
    assert_int_equal(left.per_minute, 5);
    assert_int_equal(left.per_hour, 0);
    assert_int_equal(left.total, 5);
    assert_int_equal(budget_refused(key), 4);
    assert_int_equal(budget_refused(grant), 0);
    assert_int_equal(budget_take(none, 2, true, 0, &detail), ERR_OK);
    budgets_close(budgets);
}

static void test_failures(void **state)
{
    (void)state;
    struct budgets *budgets = NULL;
    assert_int_equal(budgets_open(NULL, 0, 0, &budgets, &detail), ERR_OK);
    struct budget *budget = get(budgets, "key a", (struct budget_limits){.failures_per_hour = 2});
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(budget_take(&budget, 1, true, 0, &detail), ERR_OK); // and none fails
    budget_add_failure(budget, 0);
    assert_int_equal(budget_take(&budget, 1, true, 0, &detail), ERR_OK);
    budget_add_failure(budget, 0);
    assert_int_equal(budget_take(&budget, 1, true, 0, &detail), ERR_DENIED);
    assert_int_equal(budget_take(&budget, 1, false, 0, &detail), ERR_OK); // one that cannot fail
    assert_int_equal(budget_take(&budget, 1, true, HOUR - 1, &detail), ERR_DENIED);
    assert_int_equal(budget_take(&budget, 1, true, HOUR + MINUTE, &detail), ERR_OK);
    budget_add_failure(NULL, 0);
    budgets_close(budgets);
}

static struct {
    struct budget *budgets[2];
    atomic_uint granted;
    atomic_uint_least64_t now;
} race;

static void *work(void *argument)
{
    (void)argument;
    struct detail mine;
    for (unsigned i = 0; i < 3000; i++) {
        deadline_t now = atomic_fetch_add(&race.now, i % 50 == 0);
        if (budget_take(race.budgets, 2, false, now, &mine) == ERR_OK)
            atomic_fetch_add(&race.granted, 1);
    }
    return NULL;
}

static unsigned run_race(struct budget *first, struct budget *second, deadline_t now)
{
    pthread_t threads[THREADS];
    race.budgets[0] = first;
    race.budgets[1] = second;
    atomic_store(&race.now, now);
    atomic_store(&race.granted, 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return atomic_load(&race.granted);
}

// All of it is granted and not one more; the second budget, which is the smaller, rules.
static void test_threads(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct budget_limits first, second;
        unsigned granted;
    } rows[] = {{"minute", {0}, {.per_minute = 1000}, 1000},
                {"hour", {.per_minute = 5000}, {.per_hour = 777}, 777},
                {"total", {.per_hour = 30000}, {.total = 1234}, 1234},
                {"first", {.total = 5}, {.total = 1234}, 5}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct budgets *budgets = NULL;
        assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_OK);
        struct budget *first = get(budgets, "grant", rows[i].first);
        struct budget *second = get(budgets, "key", rows[i].second);
        unsigned granted = run_race(first, second, 10000);
        // A use that is taken back meanwhile may have kept another out; so may be fewer at once.
        assert_true(granted <= rows[i].granted);
        granted += take_many(first, 20000, 0);
        for (unsigned k = 0; k < 2000; k++)
            granted += budget_take(race.budgets, 2, false, 20000, &detail) == ERR_OK;
        if (granted != rows[i].granted)
            print_error("%s: %u\n", rows[i].name, granted);
        assert_int_equal(granted, rows[i].granted);
        budgets_close(budgets);
        unlink(path);
    }
}

// While slots expire under the hands of all threads, the count stays true: once all is quiet and
// a minute is over, nothing is left in it.
static void *slide(void *argument)
{
    struct window *window = argument;
    for (unsigned i = 0; i < 20000; i++) {
        deadline_t now = atomic_fetch_add(&race.now, 7);
        if (window_reserve(window, now)) {
            if (i % 5)
                window_add(window, now);
            else
                window_cancel(window);
        }
    }
    return NULL;
}

static void test_sliding(void **state)
{
    (void)state;
    static struct window window;
    pthread_t threads[THREADS];
    window_init(&window, 1000);
    atomic_store(&window.limit, 500);
    atomic_store(&race.now, 100000);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, slide, &window), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    deadline_t end = atomic_load(&race.now) + 2 * MINUTE;
    assert_int_equal(window_left(&window, end), 500);
    assert_int_equal(atomic_load(&window.used), 0);
}

static void test_restart(void **state)
{
    (void)state;
    struct budgets *budgets = NULL;
    const struct budget_limits limits = {.total = 1000};
    assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_OK);
    assert_int_equal(take_many(get(budgets, "key a", limits), 0, 123), 123);
    budgets_close(budgets);
    assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_OK);
    assert_int_equal(budget_get_left(get(budgets, "key a", limits), 0).total, 877);
    // One that is in no configuration for a while is not forgotten.
    budgets_close(budgets);
    assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_OK);
    budgets_close(budgets);
    assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_OK);
    assert_int_equal(budget_get_left(get(budgets, "key a", limits), 0).total, 877);
    budgets_close(budgets);
}

// A crash at any moment: what was used is never more than the file says it may have been.
static void test_crash(void **state)
{
    (void)state;
    struct budgets *budgets = NULL;
    unsigned all = 0;
    const struct budget_limits limits = {.total = 1000};
    for (unsigned round = 0; round < 20; round++) {
        struct budgets *later = NULL;
        assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_OK);
        unsigned granted = take_many(get(budgets, "key a", limits), 0, 37);
        all += granted;
        assert_int_equal(granted, 37);
        if (round % 3 == 0)
            budgets_tick(budgets, 0);
        assert_int_equal(budgets_open(path, 0, 0, &later, &detail), ERR_OK); // as after a crash
        uint64_t left = budget_get_left(get(later, "key a", limits), 0).total;
        assert_true(left <= 1000 - all);
        assert_true(left + 20 * (round + 1) >= 1000 - all); // and not much is lost
        struct buf saved;
        buf_init(&saved, 4096);
        assert_int_equal(file_read(path, &saved, &detail), ERR_OK);
        budgets_close(later);
        budgets_close(budgets);
        assert_int_equal(file_write(path, buf_bytes(&saved), 0600, &detail), ERR_OK);
        buf_clear(&saved);
    }
    assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_OK);
    all += take_many(get(budgets, "key a", limits), 0, 2000);
    assert_true(all <= 1000);
    budgets_close(budgets);
}

// A restart at `then`, in another process as it were: another monotonic clock.
static void restart(struct budgets **budgets, bool is_crash, deadline_t then)
{
    struct buf saved;
    buf_init(&saved, 1 << 16);
    if (is_crash)
        assert_int_equal(file_read(path, &saved, &detail), ERR_OK);
    budgets_close(*budgets);
    if (is_crash)
        assert_int_equal(file_write(path, buf_bytes(&saved), 0600, &detail), ERR_OK);
    buf_clear(&saved);
    assert_int_equal(budgets_open(path, then % 1000, then, budgets, &detail), ERR_OK);
}

// Rates go on over a restart, and over a crash but for what the tick has not seen.
static void test_windows_restart(void **state)
{
    (void)state;
    const struct budget_limits limits = {.per_minute = 5, .per_hour = 8};
    const deadline_t wall = 1795000000000;
    for (unsigned is_crash = 0; is_crash < 2; is_crash++) {
        struct budgets *budgets = NULL;
        assert_int_equal(budgets_open(path, 70, wall, &budgets, &detail), ERR_OK);
        assert_int_equal(take_many(get(budgets, "key a", limits), 70, 9), 5);
        budgets_tick(budgets, 70);
        restart(&budgets, is_crash, wall + 2000);
        assert_int_equal(take_many(get(budgets, "key a", limits), (wall + 2000) % 1000, 9), 0);
        restart(&budgets, is_crash, wall + 2 * MINUTE); // not asked for meanwhile, nor forgotten
        restart(&budgets, is_crash, wall + 2 * MINUTE);
        assert_int_equal(take_many(get(budgets, "key a", limits), 0, 9), 3);
        budgets_tick(budgets, 0);
        restart(&budgets, is_crash, wall + 5 * MINUTE);
        assert_int_equal(take_many(get(budgets, "key a", limits), 0, 9), 0);
        restart(&budgets, is_crash, wall - 50 * MINUTE); // the clock was put back
        assert_int_equal(take_many(get(budgets, "key a", limits), 0, 9), 0);
        restart(&budgets, is_crash, wall + HOUR + 2 * MINUTE);
        assert_int_equal(take_many(get(budgets, "key a", limits), 0, 9), 5);
        budgets_close(budgets);
        unlink(path);
    }
}

// No failure is given back, and none is risked that cannot be written down.
static void test_failures_restart(void **state)
{
    (void)state;
    const deadline_t wall = 1795000000000;
    const struct budget_limits limits = {.failures_per_hour = 2};
    struct budgets *budgets = NULL;
    assert_int_equal(budgets_open(path, 0, wall, &budgets, &detail), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        struct budget *budget = get(budgets, "key a", limits);
        assert_int_equal(budget_take(&budget, 1, true, 0, &detail), ERR_OK);
        budget_add_failure(budget, 0);
        restart(&budgets, true, wall + 1000 * (i + 1));
    }
    struct budget *budget = get(budgets, "key a", limits);
    assert_int_equal(budget_take(&budget, 1, true, 0, &detail), ERR_DENIED);
    assert_int_equal(budget_take(&budget, 1, true, HOUR + 2 * MINUTE, &detail), ERR_OK);
    assert_int_equal(rename(dir, "/tmp/budget-moved"), 0);
    budget_add_failure(budget, HOUR + 2 * MINUTE);
    assert_int_equal(budget_take(&budget, 1, true, HOUR + 2 * MINUTE, &detail), ERR_TEMP);
    assert_int_equal(budget_take(&budget, 1, false, HOUR + 2 * MINUTE, &detail), ERR_OK);
    assert_int_equal(rename("/tmp/budget-moved", dir), 0);
    assert_int_equal(budget_take(&budget, 1, true, HOUR + 2 * MINUTE, &detail), ERR_OK);
    restart(&budgets, true, wall + HOUR + 3 * MINUTE);
    budget = get(budgets, "key a", limits);
    assert_int_equal(budget_get_left(budget, 0).failures_per_hour, 1);
    assert_true(budgets_writes_read(budgets) > 0);
    assert_int_equal(budgets_writes(budgets), budgets_writes_read(budgets));
    assert_int_equal(budgets_write(budgets, 0, &detail), ERR_OK);
    assert_int_equal(budgets_writes(budgets), budgets_writes_read(budgets) + 1);
    budgets_close(budgets);
}

// No file, no use: what cannot be remembered is not granted.
static void test_full_disk(void **state)
{
    (void)state;
    struct budgets *budgets = NULL;
    assert_int_equal(budgets_open("/nonexistent/budgets", 0, 0, &budgets, &detail), ERR_OK);
    struct budget *total = get(budgets, "key a", (struct budget_limits){.total = 10});
    struct budget *rate = get(budgets, "key b", (struct budget_limits){.per_minute = 10});
    assert_int_equal(take(total, 0), ERR_TEMP);
    assert_int_equal(take(rate, 0), ERR_OK);
    assert_int_equal(budget_get_left(total, 0).total, 10);
    budgets_close(budgets);
}

static void test_bad_files(void **state)
{
    (void)state;
#define FIRST "sealgate hsmd budgets 1\n"
#define SECOND "sealgate hsmd budgets 2 "
    static const char *const texts[] = {
        "",
        "3 key a\n",
        FIRST "3\n",
        FIRST "3 \n",
        FIRST " key a\n",
        FIRST "-3 key a\n",
        FIRST "3 key a",
        FIRST "3 key a\n\n",
        FIRST "3 key \x01\n",
        FIRST "99999999999999999999 key a\n",
        FIRST "3 key a\n4 key a\n",
        FIRST "total 3 key a\n",
        SECOND "\n",
        SECOND "x\ntotal 3 key a\n",
        SECOND "7\n3 key a\n",
        SECOND "7\ntotal 3 key a\ntotal 3 key a\n",
        SECOND "7\nhour 3 key a\n",
        SECOND "7\nhour 3:4, key a\n",
        SECOND "7\nhour 3:4;5:6 key a\n",
        SECOND "7\nhour 3: key a\n",
        SECOND "7\nhour 3:4\n",
        SECOND "7\nhour 3:4 \n",
        SECOND "7\nhour 3:4294967296 key a\n",
        SECOND "7\nday 3:4 key a\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct budgets *budgets = NULL;
        assert_int_equal(file_write(path, bytes_of_text(texts[i]), 0600, NULL), ERR_OK);
        assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_PERM);
    }
    struct budgets *budgets = NULL;
    assert_int_equal(file_write(path, bytes_of_text(FIRST "3 key a\n"), 0600, NULL), ERR_OK);
    assert_int_equal(budgets_open(path, 0, 0, &budgets, &detail), ERR_OK);
    struct budget *budget = get(budgets, "key a", (struct budget_limits){.total = 10});
    assert_int_equal(budget_get_left(budget, 0).total, 7);
    assert_string_equal(budget_identity(budgets_at(budgets, 0)), "key a");
    assert_null(budgets_at(budgets, 1));
    budgets_close(budgets);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_windows),          TEST(test_any_minute),
        TEST(test_together),         TEST(test_failures),
        TEST(test_threads),          TEST(test_sliding),
        TEST(test_restart),          TEST(test_crash),
        TEST(test_full_disk),        TEST(test_windows_restart),
        TEST(test_failures_restart), TEST(test_bad_files),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
