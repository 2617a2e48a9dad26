// SPDX-License-Identifier: Apache-2.0
#include "gateway/session.h"

#include <string.h>

#include "hsmd/base/alloc.h"

struct session *session_new(struct gateway *gateway)
{
    struct session *session = mem_calloc(1, sizeof *session);
    if (session)
        session->gateway = gateway;
    return session;
}

void session_free(struct session *session)
{
    if (!session)
        return;
    session_reset(session);
    mem_free(session->recipients);
    mem_free(session);
}

void session_connect(struct session *session, const struct sockaddr *address, const char *daemon)
{
    const struct conf *conf = session->gateway->conf;
    session->is_from_inside = false;
    for (size_t i = 0; i < conf->network_count; i++)
        session->is_from_inside |= network_has(&conf->networks[i], address);
    for (size_t i = 0; daemon && i < conf->originating_daemons.count; i++)
        session->is_from_inside |= strcmp(conf->originating_daemons.items[i], daemon) == 0;
}

void session_reset(struct session *session)
{
    mem_free(session->sender);
    session->sender = NULL;
    for (size_t i = 0; i < session->recipient_count; i++)
        mem_free(session->recipients[i]);
    session->recipient_count = 0;
    message_free(session->message);
    session->message = NULL;
    session->is_authenticated = false;
    session->failure = ERR_OK;
    session->detail = (struct detail){0};
}

static enum err fail(struct session *session, enum err err)
{
    if (err && !session->failure)
        session->failure = err;
    return err;
}

static enum err out_of_memory(struct session *session)
{
    return fail(session, err_set(&session->detail, ERR_TEMP, "out of memory"));
}

enum err session_begin(struct session *session, const char *sender, const char *login)
{
    session_reset(session);
    session->is_authenticated = login && *login;
    session->sender = mem_strdup(sender);
    session->message = message_new(&session->gateway->spool);
    if (!session->sender || !session->message)
        return out_of_memory(session);
    session->message->has_crlf = true;
    return ERR_OK;
}

enum err session_add_recipient(struct session *session, const char *recipient)
{
    if (session->recipient_count == session->recipient_room) {
        size_t room = session->recipient_room ? session->recipient_room * 2 : 8U;
        char **longer = room <= SESSION_RECIPIENTS_MAX
                            ? mem_realloc(session->recipients, room * sizeof *longer)
                            : NULL;
        if (!longer)
            return out_of_memory(session);
        session->recipients = longer;
        session->recipient_room = room;
    }
    char *copy = mem_strdup(recipient);
    if (!copy)
        return out_of_memory(session);
    session->recipients[session->recipient_count++] = copy;
    return ERR_OK;
}

// Folds are "\n" in a message; an MTA may say "\r\n".
static enum err put_value(struct buf *buf, const char *value)
{
    enum err err = ERR_OK;
    while (!err && *value) {
        size_t len = strcspn(value, "\r");
        err = buf_put(buf, value, len);
        value += len;
        if (!err && *value == '\r' && value[1] != '\n')
            err = buf_put(buf, value, 1);
        value += *value ? 1 : 0;
    }
    return err;
}

enum err session_add_header(struct session *session, const char *name, const char *value)
{
    struct buf buf;
    buf_init(&buf, MESSAGE_HEADER_BYTES_MAX);
    enum err err = put_value(&buf, value);
    if (err)
        (void)err_set(&session->detail, err, "a header field is too long");
    else
        err = message_add_header(session->message, name, buf_text(&buf), &session->detail);
    buf_clear(&buf);
    return fail(session, err);
}

enum err session_add_body(struct session *session, struct bytes bytes)
{
    struct spool *body = session->message->body;
    size_t max = session->gateway->conf->message_max;
    if (bytes.len > max || spool_len(body) > max - bytes.len)
        return fail(session, err_set(&session->detail, ERR_PERM,
                                     "the message is over the limit of %zu bytes", max));
    return fail(session, spool_put(body, bytes, &session->detail));
}

void session_request(const struct session *session, const char *id, struct request *request)
{
    bool is_outbound = session->is_from_inside || session->is_authenticated;
    *request = (struct request){
        .direction = is_outbound ? DIRECTION_OUTBOUND : DIRECTION_INBOUND,
        .envelope = {.sender = session->sender,
                     .recipients = (const char *const *)session->recipients,
                     .recipient_count = session->recipient_count},
        .message = session->message,
        .id = id,
    };
}
