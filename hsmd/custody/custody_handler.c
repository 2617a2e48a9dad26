// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/custody_handler.h"

#include "hsmd/base/log.h"

static bool is_allowed(void *context, const char *public_key)
{
    return custody_is_allowed(context, public_key);
}

static unsigned lane(void *context, const char *peer, struct bytes frame,
                     const unsigned *outstanding)
{
    (void)outstanding; // one lane for all acts
    return custody_lane(context, peer, frame);
}

static bool handle(void *context, void *worker, const char *peer, struct bytes frame,
                   deadline_t deadline, struct buf *reply)
{
    (void)worker;
    return custody_handle(context, peer, frame, deadline, reply);
}

static void refuse(void *context, struct bytes frame, enum err class, struct buf *reply)
{
    (void)context;
    custody_refuse(frame, class,
                   "not done in time, or too much is waiting: see hsmctl status, and try again",
                   reply);
}

static void log_refusal(void *context, const char *peer, struct bytes frame, enum err class,
                        const char *reason)
{
    (void)context;
    (void)frame;
    (void)class;
    log_warning("officers", "peer", peer, "err", reason);
}

struct server_handler custody_handler(struct custody *custody)
{
    return (struct server_handler){
        .context = custody,
        .is_allowed = is_allowed,
        .lane = lane,
        .handle = handle,
        .refuse = refuse,
        .log_refusal = log_refusal,
        .is_secret_request = true,
    };
}
