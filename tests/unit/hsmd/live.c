// SPDX-License-Identifier: Apache-2.0
// The registry of the moment, taken and given back by many threads while it is swapped. With
// sanitizers it would be seen if one were freed too soon, late, or not at all.
#include "hsmd/registry/live.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"

#define READERS 8
#define SWAPS 2000
#define HELD 3 // that a reader has at once

// Registry n has the keys "a-n" and "b-n", and no other.
static struct registry *make(unsigned n)
{
    struct registry *registry = NULL;
    assert_int_equal(registry_new(&registry), ERR_OK);
    for (char letter = 'a'; letter <= 'b'; letter++) {
        struct registry_key key = {.purpose = WIRE_GENERAL, .state = WIRE_ENABLED};
        snprintf(key.name, sizeof key.name, "%c-%06u", letter, n);
        key.certificates = bytes_of_text(key.name);
        assert_int_equal(registry_add_key(registry, &key, NULL), ERR_OK);
    }
    return registry;
}

static unsigned number_of(const struct registry *registry)
{
    return (unsigned)strtoul(registry_key_at(registry, 0)->name + 2, NULL, 10);
}

static void test_swap(void **state)
{
    (void)state;
    struct live *live = NULL;
    assert_int_equal(live_new(make(1), &live), ERR_OK);
    const struct registry *before = live_take(live);
    const struct registry *again = live_take(live);
    assert_ptr_equal(before, again);
    live_swap(live, make(2));
    const struct registry *after = live_take(live);
    assert_int_equal(number_of(after), 2);
    assert_int_equal(number_of(before), 1); // as long as it is not given back
    live_give(live, again);
    assert_int_equal(number_of(before), 1);
    live_give(live, before);
    live_swap(live, make(3));
    assert_int_equal(number_of(after), 2);
    live_give(live, after);
    live_free(live);
    live_free(NULL);
}

static void test_memory_short(void **state)
{
    (void)state;
    struct live *live = NULL;
    struct registry *registry = make(1);
    mem_fail_at(1);
    assert_int_equal(live_new(registry, &live), ERR_TEMP);
    mem_fail_at(0);
    assert_null(live);
    registry_free(registry); // still ours
}

struct reader {
    struct live *live;
    const atomic_bool *is_over;
    pthread_t thread;
    unsigned newest;
    bool is_wrong;
};

static void *read_on(void *argument)
{
    struct reader *reader = argument;
    const struct registry *held[HELD] = {NULL};
    unsigned turn = 0;
    bool is_over;
    do {
        is_over = atomic_load(reader->is_over);
        const struct registry **place = &held[turn++ % HELD];
        if (*place)
            live_give(reader->live, *place);
        *place = live_take(reader->live);
        unsigned number = number_of(*place);
        // Never an older one than before, and the two keys fit together.
        reader->is_wrong =
            reader->is_wrong || number < reader->newest ||
            strcmp(registry_key_at(*place, 0)->name + 2, registry_key_at(*place, 1)->name + 2) != 0;
        reader->newest = number;
    } while (!is_over);
    for (unsigned i = 0; i < HELD; i++) {
        if (held[i])
            live_give(reader->live, held[i]);
    }
    return NULL;
}

static void test_many_readers(void **state)
{
    (void)state;
    struct live *live = NULL;
    struct reader readers[READERS];
    atomic_bool is_over = false;
    assert_int_equal(live_new(make(0), &live), ERR_OK);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.live = live, .is_over = &is_over};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
    }
    for (unsigned i = 1; i <= SWAPS; i++)
        live_swap(live, make(i));
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_false(readers[i].is_wrong);
        assert_int_equal(readers[i].newest, SWAPS); // whoever asks later has the last one
    }
    live_free(live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_swap),
        cmocka_unit_test(test_memory_short),
        cmocka_unit_test(test_many_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
