// SPDX-License-Identifier: Apache-2.0
#include "hsmd/registry/window.h"

#define NUMBER(slot) ((slot) >> 32)
#define COUNT(slot) ((slot)&UINT32_MAX)
#define SLOT(number, count) ((uint64_t)(number) << 32 | (count))

// Slots are numbered from 1, so that an empty one is older than any.
static uint64_t number_of(const struct window *window, deadline_t now)
{
    return (now / window->slot_ms + 1) & UINT32_MAX;
}

void window_init(struct window *window, unsigned slot_ms)
{
    window->slot_ms = slot_ms;
    atomic_init(&window->limit, 0);
    atomic_init(&window->used, 0);
    atomic_init(&window->newest, 0);
    for (unsigned i = 0; i < WINDOW_SLOTS; i++)
        atomic_init(&window->slots[i], 0);
}

// Empties the slots that number has made too old. Any thread may, and several at once.
static void sweep(struct window *window, uint64_t number)
{
    if (atomic_load(&window->newest) >= number)
        return;
    for (unsigned i = 0; i < WINDOW_SLOTS; i++) {
        uint64_t slot = atomic_load(&window->slots[i]);
        bool is_old = COUNT(slot) && NUMBER(slot) + WINDOW_SLOTS <= number;
        if (is_old && atomic_compare_exchange_strong(&window->slots[i], &slot, 0))
            atomic_fetch_sub(&window->used, COUNT(slot));
    }
    uint64_t newest = atomic_load(&window->newest);
    while (newest < number && !atomic_compare_exchange_weak(&window->newest, &newest, number))
        ;
}

bool window_reserve(struct window *window, deadline_t now)
{
    unsigned limit = atomic_load(&window->limit);
    sweep(window, number_of(window, now));
    uint64_t used = atomic_load(&window->used);
    do {
        if (limit && used >= limit)
            return false;
    } while (!atomic_compare_exchange_weak(&window->used, &used, used + 1));
    return true;
}

void window_cancel(struct window *window)
{
    atomic_fetch_sub(&window->used, 1);
}

void window_add(struct window *window, deadline_t now)
{
    uint64_t number = number_of(window, now);
    atomic_uint_least64_t *place = &window->slots[number % WINDOW_SLOTS];
    uint64_t slot = atomic_load(place);
    uint64_t next = 0;
    do { // a newer one than ours is as good: it only keeps the use longer
        next = NUMBER(slot) >= number ? slot + 1 : SLOT(number, 1);
    } while (!atomic_compare_exchange_weak(place, &slot, next));
    if (NUMBER(slot) < number)
        atomic_fetch_sub(&window->used, COUNT(slot)); // expired, and not swept yet
}

void window_count(struct window *window, deadline_t now)
{
    sweep(window, number_of(window, now));
    atomic_fetch_add(&window->used, 1);
    window_add(window, now);
}

uint64_t window_left(struct window *window, deadline_t now)
{
    uint64_t limit = atomic_load(&window->limit);
    sweep(window, number_of(window, now));
    uint64_t used = atomic_load(&window->used);
    if (!limit)
        return UINT64_MAX;
    return used < limit ? limit - used : 0;
}

uint32_t window_get_slot(const struct window *window, unsigned i, deadline_t now, uint64_t *number)
{
    uint64_t slot = atomic_load(&window->slots[i]);
    *number = NUMBER(slot);
    return NUMBER(slot) + WINDOW_SLOTS > number_of(window, now) ? (uint32_t)COUNT(slot) : 0;
}

void window_put_slot(struct window *window, uint64_t number, uint32_t count, deadline_t now)
{
    uint64_t current = number_of(window, now);
    if (number + WINDOW_SLOTS <= current)
        return;
    number = number < current ? number : current;
    atomic_uint_least64_t *place = &window->slots[number % WINDOW_SLOTS];
    uint64_t room = UINT32_MAX - COUNT(atomic_load(place));
    uint64_t added = count < room ? count : room;
    atomic_store(place, SLOT(number, COUNT(atomic_load(place)) + added));
    atomic_fetch_add(&window->used, added);
}
