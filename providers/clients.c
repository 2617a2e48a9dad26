// SPDX-License-Identifier: Apache-2.0
#include "providers/clients.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"

struct entry {
    char *name; // the configuration as one text
    struct client *client;
    unsigned users;
    struct entry *next;
};

// The lock is held for a few instructions only, never while a client is opened or closed. A fork
// takes it, so that the child finds the list whole and the lock free.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static struct entry *entries;

static void hold(void)
{
    pthread_mutex_lock(&lock);
}

static void release(void)
{
    pthread_mutex_unlock(&lock);
}

static void watch_fork(void)
{
    pthread_atfork(hold, release, release);
}

static void entry_free(struct entry *entry)
{
    if (!entry)
        return;
    client_close(entry->client);
    mem_free(entry->name);
    mem_free(entry);
}

static char *conf_name(const struct client_conf *conf)
{
    struct buf name;
    buf_init(&name, 65536);
    char *copy = NULL;
    if (buf_printf(&name, "%s\n%s\n%s\n%s\n%u\n%u", conf->endpoints, conf->server_key_file,
                   conf->public_key_file, conf->secret_key_file, conf->timeout_ms,
                   conf->sockets_max) == ERR_OK)
        copy = mem_strdup(buf_text(&name));
    buf_clear(&name);
    return copy;
}

// Under the lock.
static struct client *find_and_use(const char *name)
{
    for (struct entry *entry = entries; entry; entry = entry->next) {
        if (strcmp(entry->name, name) == 0) {
            entry->users++;
            return entry->client;
        }
    }
    return NULL;
}

enum err clients_get(const struct client_conf *conf, struct client **client, struct detail *detail)
{
    struct entry *fresh = NULL;
    pthread_once(&fork_once, watch_fork);
    char *name = conf_name(conf);
    if (!name)
        return err_set(detail, ERR_TEMP, "out of memory");
    hold();
    struct client *found = find_and_use(name);
    release();
    if (found)
        goto out;

    fresh = mem_calloc(1, sizeof *fresh);
    if (!fresh) {
        mem_free(name);
        return err_set(detail, ERR_TEMP, "out of memory");
    }
    enum err err = client_open(conf, &fresh->client, detail);
    if (err != ERR_OK) {
        mem_free(fresh);
        mem_free(name);
        return err;
    }
    hold();
    found = find_and_use(name); // another thread may have been faster
    if (!found) {
        found = fresh->client;
        fresh->name = name;
        fresh->users = 1;
        fresh->next = entries;
        entries = fresh;
        fresh = NULL;
        name = NULL;
    }
    release();
out:
    entry_free(fresh);
    mem_free(name);
    *client = found;
    return ERR_OK;
}

void clients_put(struct client *client)
{
    struct entry *gone = NULL;
    hold();
    for (struct entry **place = &entries; *place; place = &(*place)->next) {
        if ((*place)->client == client) {
            if (--(*place)->users == 0) {
                gone = *place;
                *place = gone->next;
            }
            break;
        }
    }
    release();
    entry_free(gone);
}
