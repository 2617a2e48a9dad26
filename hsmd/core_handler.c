// SPDX-License-Identifier: Apache-2.0
#include "hsmd/core_handler.h"

#include "hsmd/base/alloc.h"

static bool is_allowed(void *context, const char *public_key)
{
    return core_is_client(context, public_key);
}

static void tell_stranger(void *context, const char *public_key)
{
    core_tell_stranger(context, public_key);
}

static unsigned lane(void *context, const char *peer, struct bytes frame,
                     const unsigned *outstanding)
{
    return core_lane(context, peer, frame, outstanding);
}

static enum err worker_new(void *context, unsigned number, void **worker, struct detail *detail)
{
    (void)context;
    struct core_worker *made = mem_calloc(1, sizeof *made);
    if (!made)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = core_worker_init(made, detail);
    if (err != ERR_OK) {
        mem_free(made);
        return err;
    }
    made->token = number ? number - 1 : KEYSTORE_ANY;
    *worker = made;
    return ERR_OK;
}

static void worker_free(void *worker)
{
    core_worker_clear(worker);
    mem_free(worker);
}

static bool handle(void *context, void *worker, const char *peer, struct bytes frame,
                   deadline_t deadline, struct buf *reply)
{
    return core_handle(context, worker, peer, frame, deadline, reply);
}

static void refuse(void *context, struct bytes frame, enum err class, struct buf *reply)
{
    (void)context;
    core_refuse(frame, class, reply);
}

static void log_refusal(void *context, const char *peer, struct bytes frame, enum err class,
                        const char *reason)
{
    core_log_refusal(context, peer, frame, class, reason);
}

struct server_handler core_handler(const struct core *core)
{
    return (struct server_handler){
        .context = (void *)core, // only read
        .is_allowed = is_allowed,
        .tell_stranger = tell_stranger,
        .lane = lane,
        .worker_new = worker_new,
        .worker_free = worker_free,
        .handle = handle,
        .refuse = refuse,
        .log_refusal = log_refusal,
        .metrics = core->metrics,
    };
}
