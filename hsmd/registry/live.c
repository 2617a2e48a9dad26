// SPDX-License-Identifier: Apache-2.0
// The lock is held for a look at the pointer and one more owner of what it points to, so that
// nobody can take a registry that its last owner is about to free.
#include "hsmd/registry/live.h"

#include <pthread.h>

#include "hsmd/base/alloc.h"

struct live {
    pthread_mutex_t lock;
    struct registry *registry; // we own it, beside those who have taken it
};

enum err live_new(struct registry *registry, struct live **out)
{
    struct live *live = mem_calloc(1, sizeof *live);
    if (!live)
        return ERR_TEMP;
    pthread_mutex_init(&live->lock, NULL);
    live->registry = registry;
    *out = live;
    return ERR_OK;
}

void live_free(struct live *live)
{
    if (!live)
        return;
    registry_free(live->registry);
    pthread_mutex_destroy(&live->lock);
    mem_free(live);
}

const struct registry *live_take(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    struct registry *registry = live->registry;
    registry_keep(registry);
    pthread_mutex_unlock(&live->lock);
    return registry;
}

void live_give(struct live *live, const struct registry *registry)
{
    (void)live;
    registry_free((struct registry *)registry);
}

void live_swap(struct live *live, struct registry *registry)
{
    pthread_mutex_lock(&live->lock);
    struct registry *former = live->registry;
    live->registry = registry;
    pthread_mutex_unlock(&live->lock);
    registry_free(former);
}
