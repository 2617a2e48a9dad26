// SPDX-License-Identifier: Apache-2.0
#include "hsmd/refusals.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"

// As many as there were clients with a refusal: they are known by name, so that is a bound.
struct refused {
    struct refused *next;
    char client[TEXT_NAME_MAX + 1];
    deadline_t until;
    unsigned admitted;
    uint64_t untold;
};

struct refusals {
    pthread_mutex_t lock;
    struct refused *first;
};

enum err refusals_new(struct refusals **out)
{
    struct refusals *refusals = mem_calloc(1, sizeof *refusals);
    if (!refusals)
        return ERR_TEMP;
    pthread_mutex_init(&refusals->lock, NULL);
    *out = refusals;
    return ERR_OK;
}

void refusals_free(struct refusals *refusals)
{
    if (!refusals)
        return;
    for (struct refused *next, *at = refusals->first; at; at = next) {
        next = at->next;
        mem_free(at);
    }
    pthread_mutex_destroy(&refusals->lock);
    mem_free(refusals);
}

static struct refused *find(const struct refusals *refusals, const char *client)
{
    struct refused *at = refusals->first;
    while (at && strcmp(at->client, client) != 0)
        at = at->next;
    return at;
}

static struct refused *find_or_add(struct refusals *refusals, const char *client)
{
    struct refused *refused = find(refusals, client);
    if (refused)
        return refused;
    refused = mem_calloc(1, sizeof *refused);
    if (!refused)
        return NULL;
    snprintf(refused->client, sizeof refused->client, "%s", client);
    refused->next = refusals->first;
    refusals->first = refused;
    return refused;
}

bool refusals_admit(struct refusals *refusals, const char *client, deadline_t now)
{
    if (!refusals)
        return true;
    pthread_mutex_lock(&refusals->lock);
    struct refused *refused = find_or_add(refusals, client);
    if (refused && now >= refused->until) {
        refused->until = now + REFUSALS_TIME_MS;
        refused->admitted = 0;
    }
    bool is_admitted = !refused || refused->admitted < REFUSALS_MAX;
    if (refused && is_admitted)
        refused->admitted++;
    else if (refused)
        refused->untold++;
    pthread_mutex_unlock(&refusals->lock);
    return is_admitted;
}

bool refusals_take(struct refusals *refusals, deadline_t now, char client[TEXT_NAME_MAX + 1],
                   uint64_t *count)
{
    if (!refusals)
        return false;
    pthread_mutex_lock(&refusals->lock);
    struct refused *at = refusals->first;
    while (at && (!at->untold || now < at->until))
        at = at->next;
    if (at) {
        memcpy(client, at->client, sizeof at->client);
        *count = at->untold;
        at->untold = 0;
    }
    pthread_mutex_unlock(&refusals->lock);
    return at != NULL;
}

void refusals_put_back(struct refusals *refusals, const char *client, uint64_t count)
{
    pthread_mutex_lock(&refusals->lock);
    struct refused *refused = find(refusals, client);
    if (refused)
        refused->untold += count;
    pthread_mutex_unlock(&refusals->lock);
}
