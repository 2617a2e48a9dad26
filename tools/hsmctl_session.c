// SPDX-License-Identifier: Apache-2.0
#include "tools/hsmctl_session.h"

#include <string.h>

#include "hsmd/base/text.h"
#include "tools/hsmctl.h"
#include "tools/hsmctl_ask.h"
#include "tools/hsmctl_channel.h"

static enum err read_key(struct call *call, struct session *session, struct detail *detail)
{
    struct secret passphrase = {0};
    char prompt[220];
    char quoted[TEXT_QUOTED_SIZE];
    int fd = -1;
    const char *path = session->conf.key_file;
    snprintf(prompt, sizeof prompt, "Passphrase of %s",
             text_quote(path, strlen(path), quoted, sizeof quoted));
    enum err err = call_fd(call, OPTION_PASSPHRASE_FD, &fd, detail);
    if (err == ERR_OK)
        err = secret_init(&passphrase, ASK_SECRET_MAX + 1, detail);
    if (err == ERR_OK)
        err = ask_secret(prompt, fd, &passphrase, detail);
    if (err == ERR_OK)
        err = officer_key_read(path, &passphrase, &session->key, detail);
    secret_clear(&passphrase);
    return err;
}

enum err session_open(struct call *call, struct detail *detail)
{
    struct session *session = &call->session;
    uint64_t timeout = 0;
    if (session->channel)
        return ERR_OK;
    // The second time around (status --watch) all but the connection is there.
    enum err err = session->conf.endpoint
                       ? ERR_OK
                       : hsmctl_conf_load(call->option[OPTION_CONFIG], &session->conf, detail);
    if (err == ERR_OK)
        err = call_number(call, OPTION_TIMEOUT, 3600000, &timeout, detail);
    if (err == ERR_OK && timeout)
        session->conf.timeout_ms = (unsigned)timeout;
    if (err == ERR_OK && !session->key.curve.data)
        err = read_key(call, session, detail);
    if (err != ERR_OK)
        return err;
    const struct channel_conf conf = {
        .endpoint = session->conf.endpoint,
        .server_key = session->conf.server_key,
        .public_key = session->key.public_curve,
        .secret_key = &session->key.curve,
        .timeout_ms = session->conf.timeout_ms,
    };
    return channel_open(&conf, &session->channel, detail);
}

void session_clear(struct session *session)
{
    channel_close(session->channel);
    officer_key_clear(&session->key);
    json_decref(session->status);
    json_decref(session->officers);
    hsmctl_conf_clear(&session->conf);
    *session = (struct session){0};
}

static int failure_of(enum channel_fault fault)
{
    switch (fault) {
    case CHANNEL_AWAY:
    case CHANNEL_SILENT:
    case CHANNEL_LOST:
        return HSMCTL_EXIT_AWAY;
    case CHANNEL_REFUSED:
        return HSMCTL_EXIT_BAD;
    default:
        return HSMCTL_EXIT_TROUBLE;
    }
}

static enum err take_reply(struct call *call, uint64_t id, const struct buf *frame,
                           struct buf *body, struct detail *detail)
{
    struct message_reply reply = {0};
    enum err err = message_decode_reply(buf_bytes(frame), &reply, detail);
    if (err != ERR_OK)
        return err_prefix(detail, ERR_PERM, "hsmd's answer cannot be read");
    if (reply.id != id && (reply.class == ERR_OK || reply.id != 0))
        return err_set(detail, ERR_PERM, "hsmd's answer is to another question");
    if (buf_put_bytes(body, reply.body) != ERR_OK)
        return err_set(detail, ERR_TEMP, "out of memory");
    if (reply.class != ERR_OK) {
        call->failure = reply.class == ERR_TEMP ? HSMCTL_EXIT_AWAY : HSMCTL_EXIT_BAD;
        return err_set(detail, reply.class, "hsmd says no: %.*s", (int)reply.detail.len,
                       reply.detail.len ? (const char *)reply.detail.data : "");
    }
    return ERR_OK;
}

enum err session_ask(struct call *call, struct message_request *request, struct buf *body,
                     struct detail *detail)
{
    struct session *session = &call->session;
    struct buf frame, reply;
    enum channel_fault fault = CHANNEL_NONE;
    enum err err = session_open(call, detail);
    if (err != ERR_OK)
        return err;
    buf_init(&frame, MESSAGE_REQUEST_MAX);
    buf_init(&reply, MESSAGE_REPLY_MAX);
    request->id = ++session->id;
    err = message_encode_request(request, &frame, detail);
    if (err == ERR_OK) {
        err = channel_ask(session->channel, buf_bytes(&frame), &reply, &fault, detail);
        if (err != ERR_OK)
            call->failure = failure_of(fault);
    }
    buf_wipe(&frame); // it may have held an attachment
    buf_clear(&frame);
    if (err == ERR_OK)
        err = take_reply(call, request->id, &reply, body, detail);
    buf_clear(&reply);
    return err;
}

enum err session_read(struct call *call, enum message_read what, const char *argument,
                      json_t **body, struct detail *detail)
{
    struct buf text;
    json_error_t error;
    struct message_request request = {
        .operation = MESSAGE_READ,
        .read = {.what = what, .argument = bytes_of_text(argument ? argument : "")},
    };
    buf_init(&text, MESSAGE_REPLY_MAX);
    enum err err = session_ask(call, &request, &text, detail);
    if (err == ERR_OK) {
        *body = json_loadb(buf_text(&text), text.len, JSON_REJECT_DUPLICATES, &error);
        if (!*body)
            err = err_set(detail, ERR_PERM, "hsmd's answer is no JSON: %s", error.text);
    }
    buf_clear(&text);
    return err;
}

static enum err find_self(struct session *session, struct detail *detail)
{
    const json_t *item = NULL;
    size_t i = 0;
    uint8_t key[OFFICER_SIGNING_KEY_SIZE];
    json_array_foreach(json_object_get(session->officers, "officers"), i, item)
    {
        const char *role = json_string_value(json_object_get(item, "role"));
        if (!json_is_true(json_object_get(item, "self")))
            continue;
        session->name = json_string_value(json_object_get(item, "name"));
        session->is_auditor = role && strcmp(role, "auditor") == 0;
    }
    if (!session->name)
        return err_set(detail, ERR_DENIED, "hsmd does not say which officer this is");
    if (session_signing_key(session, session->name, key) != ERR_OK ||
        memcmp(key, session->key.public_signing, sizeof key) != 0)
        return err_set(detail, ERR_DENIED,
                       "hsmd has another signing key for %s than the key file: what you sign would "
                       "not count",
                       session->name);
    return ERR_OK;
}

enum err session_know(struct call *call, struct detail *detail)
{
    struct session *session = &call->session;
    enum err err = ERR_OK;
    if (!session->status)
        err = session_read(call, READ_STATUS, NULL, &session->status, detail);
    if (err == ERR_OK && !session->officers) {
        err = session_read(call, READ_OFFICERS, NULL, &session->officers, detail);
        if (err == ERR_OK)
            err = find_self(session, detail);
    }
    return err;
}

enum err session_signing_key(const struct session *session, const char *name,
                             uint8_t key[OFFICER_SIGNING_KEY_SIZE])
{
    const json_t *item = NULL;
    size_t i = 0;
    json_array_foreach(json_object_get(session->officers, "officers"), i, item)
    {
        const char *other = json_string_value(json_object_get(item, "name"));
        const char *hex = json_string_value(json_object_get(item, "signing_key"));
        if (other && hex && strcmp(other, name) == 0)
            return text_get_hex_exact(hex, key, OFFICER_SIGNING_KEY_SIZE) ? ERR_OK : ERR_PERM;
    }
    return ERR_PERM;
}

enum err session_instance(const struct session *session, struct buf *instance,
                          struct detail *detail)
{
    const char *hex = json_string_value(json_object_get(session->status, "instance"));
    buf_reset(instance);
    if (!hex || text_get_hex(hex, instance) != ERR_OK || instance->len != STATEMENT_INSTANCE_SIZE)
        return err_set(detail, ERR_PERM, "hsmd does not say its own number");
    return ERR_OK;
}

enum err session_token(struct call *call, struct bytes *name, struct detail *detail)
{
    enum err err = session_know(call, detail);
    if (err != ERR_OK)
        return err;
    const json_t *tokens = json_object_get(call->session.status, "tokens");
    const char *only = json_string_value(json_object_get(json_array_get(tokens, 0), "name"));
    if (json_array_size(tokens) != 1 || !only)
        return err_set(detail, ERR_PERM, "hsmd has %zu tokens: say which one (hsmctl token list)",
                       json_array_size(tokens));
    *name = bytes_of_text(only);
    return ERR_OK;
}
