// SPDX-License-Identifier: Apache-2.0
#include "tools/hsmctl_channel.h"

#include <stdatomic.h>
#include <string.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/clock.h"
#include "hsmd/client/link.h"
#include "hsmd/officers/message.h"

struct channel {
    struct link *link;
    char *endpoint;
    unsigned timeout_ms;
};

enum err channel_open(const struct channel_conf *conf, struct channel **channel,
                      struct detail *detail)
{
    struct channel *opened = mem_calloc(1, sizeof *opened);
    if (opened) {
        opened->endpoint = mem_strdup(conf->endpoint);
        opened->timeout_ms = conf->timeout_ms;
    }
    if (!opened || !opened->endpoint) {
        channel_close(opened);
        return err_set(detail, ERR_TEMP, "out of memory");
    }
    const struct link_conf link_conf = {
        .endpoint = conf->endpoint,
        .keys = {conf->server_key, conf->public_key, (const char *)conf->secret_key->data},
        .frame_max = MESSAGE_REPLY_MAX,
    };
    enum err err = link_open(&link_conf, &opened->link, detail);
    if (err == ERR_OK)
        *channel = opened;
    else
        channel_close(opened);
    return err;
}

void channel_close(struct channel *channel)
{
    if (!channel)
        return;
    link_close(channel->link);
    mem_free(channel->endpoint);
    mem_free(channel);
}

static enum err explain(const struct channel *channel, enum channel_fault *fault,
                        struct detail *detail)
{
    const char *at = channel->endpoint;
    switch (channel->link->state) {
    case LINK_UNREACHABLE:
        *fault = CHANNEL_AWAY;
        return err_set(detail, ERR_TEMP,
                       "cannot reach hsmd: nobody listens at %s (does hsmd run, and is this its "
                       "officers-listen?)",
                       at);
    case LINK_REFUSED:
        *fault = CHANNEL_REFUSED;
        return err_set(detail, ERR_DENIED,
                       "hsmd at %s refused this officer's key: it has no officer or auditor with "
                       "it",
                       at);
    case LINK_UNTRUSTED:
        *fault = CHANNEL_OTHER;
        return err_set(
            detail, ERR_PERM,
            "what listens at %s is not the officers' channel of the hsmd whose key is in "
            "server-key-file",
            at);
    case LINK_LOST:
        *fault = CHANNEL_LOST;
        return err_set(detail, ERR_TEMP,
                       "the connection to hsmd at %s ended before the answer; look at hsmctl "
                       "proposals before you try again",
                       at);
    case LINK_MALFORMED:
        *fault = CHANNEL_BROKEN;
        return err_set(detail, ERR_PERM, "what hsmd at %s sent is no answer", at);
    case LINK_CONNECTING:
        *fault = CHANNEL_AWAY;
        return err_set(detail, ERR_TEMP, "cannot reach hsmd at %s within %u ms", at,
                       channel->timeout_ms);
    default:
        *fault = CHANNEL_SILENT;
        return err_set(detail, ERR_TEMP,
                       "hsmd at %s does not answer within %u ms; what was asked for may still be "
                       "done: look at hsmctl proposals before you try again",
                       at, channel->timeout_ms);
    }
}

enum err channel_ask(struct channel *channel, struct bytes request, struct buf *reply,
                     enum channel_fault *fault, struct detail *detail)
{
    deadline_t deadline = deadline_in(channel->timeout_ms);
    *fault = CHANNEL_NONE;
    enum err err = link_send(channel->link, request);
    if (err == ERR_OK)
        err = link_receive(channel->link, deadline, reply);
    if (err == ERR_OK)
        return ERR_OK;
    (void)link_is_alive(channel->link); // the newest of the connection
    return explain(channel, fault, detail);
}
