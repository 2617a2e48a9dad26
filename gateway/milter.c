// SPDX-License-Identifier: Apache-2.0
// The end of a message is where everything happens, and in this order, so that a failure at any
// point loses nothing and lets nothing out that was not meant to go:
//
//   1. the pipeline makes all copies; none has left yet
//   2. the edits that turn the MTA's message into the first copy are computed, and the other copies
//      are written out in full
//   3. the other copies go back to the MTA over SMTP, one transaction each, encrypted ones first,
//      the one in clear last
//   4. the MTA's message is edited: recipients of other copies off, header fields, body
//
// If a step fails the answer is 451, the MTA discards whatever edits it has collected, and the
// sender tries again. Copies that step 3 had handed over by then are sent once more on that retry:
// the price of never losing one. With one other copy, the usual case of a split, there is no such
// window in step 3; it remains between 3 and 4, and after 4 in the MTA.
//
// The edits of step 4 are all or nothing only if the MTA treats a milter that died half-way as a
// temporary failure (milter_default_action = tempfail).
#include "gateway/milter.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <libmilter/mfapi.h>

#include "gateway/edit.h"
#include "gateway/session.h"
#include "gateway/smtp.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"

#define ACTIONS (SMFIF_ADDHDRS | SMFIF_CHGHDRS | SMFIF_CHGBODY | SMFIF_DELRCPT)
#define REPLY_SIZE 980 // libmilter's MAXREPLYLEN

#define STOP_LIMIT 60000 // ms for messages in work to come to their end

// libmilter hands no context to its first callback, and its threads go on when smfi_main is back: a
// callback that comes after the end must not find a gateway.
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t left;
    struct gateway *gateway;
    unsigned inside; // callbacks at work
    bool is_stopping;
} served = {.mutex = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER};

static bool enter(void)
{
    pthread_mutex_lock(&served.mutex);
    bool may_enter = !served.is_stopping;
    served.inside += may_enter ? 1 : 0;
    pthread_mutex_unlock(&served.mutex);
    return may_enter;
}

static sfsistat leave(sfsistat status)
{
    pthread_mutex_lock(&served.mutex);
    served.inside--;
    pthread_cond_signal(&served.left);
    pthread_mutex_unlock(&served.mutex);
    return status;
}

static enum err wait_for_all_to_leave(struct detail *detail)
{
    struct timespec until;
    int failed = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_LIMIT / 1000;
    pthread_mutex_lock(&served.mutex);
    served.is_stopping = true;
    while (served.inside > 0 && !failed)
        failed = pthread_cond_timedwait(&served.left, &served.mutex, &until);
    unsigned inside = served.inside;
    pthread_mutex_unlock(&served.mutex);
    if (inside > 0)
        return err_set(detail, ERR_TEMP, "%u messages did not come to an end", inside);
    return ERR_OK;
}

static sfsistat reply(SMFICTX *ctx, const struct verdict *verdict)
{
    char text[REPLY_SIZE];
    size_t n = 0;
    for (const char *c = verdict->text; *c && n + 2 < sizeof text; c++) {
        text[n++] = *c;
        if (*c == '%') // the MTA takes a doubled one for one
            text[n++] = '%';
    }
    text[n] = 0;
    char code[4];
    char enhanced[8];
    memcpy(code, verdict->code, sizeof code);
    memcpy(enhanced, verdict->enhanced, sizeof enhanced);
    if (smfi_setreply(ctx, code, enhanced, text) != MI_SUCCESS)
        log_warning("reply", "err", "libmilter refuses the reply text");
    return verdict->kind == VERDICT_BOUNCE ? SMFIS_REJECT : SMFIS_TEMPFAIL;
}

// A message that could not be collected.
static sfsistat reply_failure(SMFICTX *ctx, const struct session *session, enum err err)
{
    char id_macro[] = "i";
    struct request request;
    struct outcome outcome = {0};
    session_request(session, smfi_getsymval(ctx, id_macro), &request);
    outcome_fail(&outcome, err, &session->detail);
    if (err == ERR_PERM)
        verdict_reply(&outcome.verdict, "552 5.3.4", "%s", session->detail.text);
    pipeline_log(&request, &outcome);
    return reply(ctx, &outcome.verdict);
}

static struct session *session_of(SMFICTX *ctx)
{
    return smfi_getpriv(ctx);
}

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long offered_actions,
                             unsigned long offered_steps, unsigned long unused_a,
                             unsigned long unused_b, unsigned long *actions, unsigned long *steps,
                             unsigned long *reserved_a, unsigned long *reserved_b)
{
    (void)ctx;
    (void)unused_a;
    (void)unused_b;
    const unsigned long unwanted = SMFIP_NOHELO | SMFIP_NODATA | SMFIP_NOUNKNOWN | SMFIP_NOEOH;
    if ((offered_actions & ACTIONS) != ACTIONS || !(offered_steps & SMFIP_HDR_LEADSPC)) {
        log_error("negotiate", "err", "the MTA's milter protocol is too old (6 is needed)");
        return SMFIS_REJECT;
    }
    *actions = ACTIONS;
    *steps = offered_steps & (unwanted | SMFIP_HDR_LEADSPC);
    *reserved_a = *reserved_b = 0;
    return SMFIS_CONTINUE;
}

static sfsistat take_connect(SMFICTX *ctx, const struct sockaddr *address)
{
    session_free(session_of(ctx));
    struct session *session = session_new(served.gateway);
    if (smfi_setpriv(ctx, session) != MI_SUCCESS || !session) {
        session_free(session);
        return SMFIS_TEMPFAIL;
    }
    char daemon_macro[] = "{daemon_name}";
    session_connect(session, address, smfi_getsymval(ctx, daemon_macro));
    return SMFIS_CONTINUE;
}

static sfsistat take_envfrom(SMFICTX *ctx, char **args)
{
    struct session *session = session_of(ctx);
    char login_macro[] = "{auth_authen}";
    if (!session)
        return SMFIS_TEMPFAIL;
    enum err err = session_begin(session, args[0], smfi_getsymval(ctx, login_macro));
    return err ? reply_failure(ctx, session, err) : SMFIS_CONTINUE;
}

static sfsistat take_envrcpt(SMFICTX *ctx, char **args)
{
    struct session *session = session_of(ctx);
    if (!session || !session->message)
        return SMFIS_TEMPFAIL;
    enum err err = session_add_recipient(session, args[0]);
    return err ? reply_failure(ctx, session, err) : SMFIS_CONTINUE;
}

static sfsistat take_header(SMFICTX *ctx, char *name, char *value)
{
    struct session *session = session_of(ctx);
    if (!session || !session->message)
        return SMFIS_TEMPFAIL;
    enum err err = session_add_header(session, name, value);
    return err ? reply_failure(ctx, session, err) : SMFIS_CONTINUE;
}

static sfsistat take_body(SMFICTX *ctx, unsigned char *data, size_t len)
{
    struct session *session = session_of(ctx);
    if (!session || !session->message)
        return SMFIS_TEMPFAIL;
    enum err err = session_add_body(session, bytes_of(data, len));
    return err ? reply_failure(ctx, session, err) : SMFIS_CONTINUE;
}

// A message being answered.
struct answer {
    SMFICTX *ctx;
    const struct session *session;
    const struct request *request;
    const struct outcome *outcome;
    struct edits edits;
    struct spool **others; // the other copies, written out
};

static enum err write_others(struct answer *a, struct detail *detail)
{
    const struct outcome *outcome = a->outcome;
    // NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what it holds
    a->others = mem_calloc(outcome->copy_count, sizeof *a->others);
    if (!a->others)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 1; i < outcome->copy_count; i++) {
        const struct message *message = outcome->copies[i].message;
        a->others[i] = spool_new(&a->session->gateway->spool);
        if (!a->others[i])
            return err_set(detail, ERR_TEMP, "out of memory");
        enum err err = message_write(message ? message : a->session->message, a->others[i], detail);
        if (err)
            return err;
    }
    return ERR_OK;
}

static enum err send_other(const struct answer *a, size_t number, struct detail *detail)
{
    const struct conf *conf = a->session->gateway->conf;
    const struct outcome_copy *copy = &a->outcome->copies[number];
    struct smtp_conf smtp = {
        .url = conf->reinject, .name = conf->authserv_id, .timeout_ms = conf->reinject_timeout};
    struct bytes bytes;
    if (!conf->reinject)
        return err_set(detail, ERR_TEMP, "several copies are needed and reinject is not set");
    const char **recipients = mem_calloc(copy->recipient_count, sizeof *recipients);
    if (!recipients)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < copy->recipient_count; i++)
        recipients[i] = a->request->envelope.recipients[copy->recipients[i]];
    struct envelope envelope = {.sender = a->request->envelope.sender,
                                .recipients = recipients,
                                .recipient_count = copy->recipient_count};
    enum err err = spool_view(a->others[number], &bytes, detail);
    if (!err)
        err = smtp_send(&smtp, &envelope, bytes, detail);
    if (!err)
        log_info("reinject", "id", a->request->id, "rcpt", recipients[0], "protected",
                 copy->is_protected ? "yes" : "no");
    mem_free(recipients);
    // An answer for good to a copy must not become one for the whole message.
    return err == ERR_PERM ? ERR_TEMP : err;
}

static enum err send_others(const struct answer *a, struct detail *detail)
{
    for (size_t i = 1; i < a->outcome->copy_count; i++) {
        smfi_progress(a->ctx);
        enum err err = send_other(a, i, detail);
        if (err)
            return err_prefix(detail, err, "copy %zu of %zu", i + 1, a->outcome->copy_count);
    }
    return ERR_OK;
}

static bool is_recipient_of(const struct outcome_copy *copy, size_t recipient)
{
    for (size_t i = 0; i < copy->recipient_count; i++) {
        if (copy->recipients[i] == recipient)
            return true;
    }
    return false;
}

static bool apply_edit(SMFICTX *ctx, const struct edit *edit)
{
    int result = MI_FAILURE;
    switch (edit->kind) {
    case EDIT_CHANGE_HEADER:
        result = smfi_chgheader(ctx, edit->name, (int)edit->index, edit->value);
        break;
    case EDIT_INSERT_HEADER:
        result = smfi_insheader(ctx, (int)edit->index, edit->name, edit->value);
        break;
    case EDIT_ADD_HEADER:
        result = smfi_addheader(ctx, edit->name, edit->value);
        break;
    }
    return result == MI_SUCCESS;
}

static enum err replace_body(SMFICTX *ctx, const struct spool *body, struct detail *detail)
{
    struct bytes view;
    unsigned char empty_line[] = "\r\n";
    enum err err = spool_view((struct spool *)body, &view, detail);
    if (err)
        return err;
    if (view.len == 0) // nothing said would leave the old body in place
        view = bytes_of(empty_line, 2);
    while (view.len > 0) {
        size_t n = view.len < MILTER_CHUNK_SIZE ? view.len : MILTER_CHUNK_SIZE;
        if (smfi_replacebody(ctx, (unsigned char *)view.data, (int)n) != MI_SUCCESS)
            return err_set(detail, ERR_TEMP, "the MTA did not take the new body");
        view.data += n;
        view.len -= n;
    }
    return ERR_OK;
}

static enum err edit_message(const struct answer *a, struct detail *detail)
{
    const struct outcome_copy *first = &a->outcome->copies[0];
    for (size_t i = 0; i < a->session->recipient_count; i++) {
        if (!is_recipient_of(first, i) &&
            smfi_delrcpt(a->ctx, a->session->recipients[i]) != MI_SUCCESS)
            return err_set(detail, ERR_TEMP, "the MTA did not take a recipient off");
    }
    for (size_t i = 0; i < a->edits.count; i++) {
        if (!apply_edit(a->ctx, &a->edits.items[i]))
            return err_set(detail, ERR_TEMP, "the MTA did not take a header edit");
    }
    return a->edits.has_new_body ? replace_body(a->ctx, first->message->body, detail) : ERR_OK;
}

static enum err deliver(struct answer *a, struct detail *detail)
{
    const struct outcome_copy *first = &a->outcome->copies[0];
    enum err err = ERR_OK;
    smfi_progress(a->ctx);
    if (first->message)
        err = edits_compute(a->session->message, first->message, &a->edits, detail);
    if (!err)
        err = write_others(a, detail);
    if (!err)
        err = send_others(a, detail);
    if (!err)
        err = edit_message(a, detail);
    for (size_t i = 0; a->others && i < a->outcome->copy_count; i++)
        spool_free(a->others[i]);
    mem_free(a->others);
    edits_clear(&a->edits);
    return err == ERR_PERM ? ERR_TEMP : err;
}

static sfsistat answer_outcome(SMFICTX *ctx, const struct session *session,
                               const struct request *request, struct outcome *outcome)
{
    struct answer answer = {.ctx = ctx, .session = session, .request = request, .outcome = outcome};
    struct detail detail = {0};
    enum err err = ERR_OK;
    if (outcome->verdict.kind == VERDICT_DELIVER)
        err = deliver(&answer, &detail);
    if (err)
        outcome_fail(outcome, err, &detail);
    pipeline_log(request, outcome);
    if (outcome->verdict.kind == VERDICT_DROP)
        return SMFIS_DISCARD;
    return outcome->verdict.kind == VERDICT_DELIVER ? SMFIS_CONTINUE
                                                    : reply(ctx, &outcome->verdict);
}

static sfsistat take_eom(SMFICTX *ctx)
{
    struct session *session = session_of(ctx);
    struct request request;
    struct outcome outcome;
    char id_macro[] = "i";
    if (!session || !session->message || session->recipient_count == 0)
        return SMFIS_TEMPFAIL;
    const char *id = smfi_getsymval(ctx, id_macro);
    if (session->failure) // the MTA went on in spite of our answer
        return reply_failure(ctx, session, session->failure);
    session_request(session, id, &request);
    pipeline_run(session->gateway, &request, &outcome);
    sfsistat status = answer_outcome(ctx, session, &request, &outcome);
    outcome_clear(&outcome);
    session_reset(session);
    return status;
}

static sfsistat take_abort(SMFICTX *ctx)
{
    if (session_of(ctx))
        session_reset(session_of(ctx));
    return SMFIS_CONTINUE;
}

static sfsistat take_close(SMFICTX *ctx)
{
    session_free(session_of(ctx));
    smfi_setpriv(ctx, NULL);
    return SMFIS_CONTINUE;
}

// ---- what libmilter calls ----

static sfsistat on_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *address)
{
    (void)host;
    return enter() ? leave(take_connect(ctx, address)) : SMFIS_TEMPFAIL;
}

static sfsistat on_envfrom(SMFICTX *ctx, char **args)
{
    return enter() ? leave(take_envfrom(ctx, args)) : SMFIS_TEMPFAIL;
}

static sfsistat on_envrcpt(SMFICTX *ctx, char **args)
{
    return enter() ? leave(take_envrcpt(ctx, args)) : SMFIS_TEMPFAIL;
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
    return enter() ? leave(take_header(ctx, name, value)) : SMFIS_TEMPFAIL;
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *data, size_t len)
{
    return enter() ? leave(take_body(ctx, data, len)) : SMFIS_TEMPFAIL;
}

static sfsistat on_eom(SMFICTX *ctx)
{
    return enter() ? leave(take_eom(ctx)) : SMFIS_TEMPFAIL;
}

static sfsistat on_abort(SMFICTX *ctx)
{
    return enter() ? leave(take_abort(ctx)) : SMFIS_TEMPFAIL;
}

static sfsistat on_close(SMFICTX *ctx)
{
    return enter() ? leave(take_close(ctx)) : SMFIS_TEMPFAIL;
}

enum err milter_run(struct gateway *gateway, void (*ready)(void *ctx), void *ctx,
                    struct detail *detail)
{
    char name[] = "sealgate";
    struct smfiDesc description = {
        .xxfi_name = name,
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = ACTIONS,
        .xxfi_connect = on_connect,
        .xxfi_envfrom = on_envfrom,
        .xxfi_envrcpt = on_envrcpt,
        .xxfi_header = on_header,
        .xxfi_body = on_body,
        .xxfi_eom = on_eom,
        .xxfi_abort = on_abort,
        .xxfi_close = on_close,
        .xxfi_negotiate = on_negotiate,
    };
    const char *socket_name = gateway->conf->listen;
    char *listen_on = mem_strdup(socket_name ? socket_name : "");
    if (!listen_on)
        return err_set(detail, ERR_BUG, "out of memory");
    served.gateway = gateway;
    enum err err = ERR_OK;
    if (smfi_setconn(listen_on) != MI_SUCCESS || smfi_register(description) != MI_SUCCESS ||
        smfi_opensocket(true) != MI_SUCCESS)
        err = err_set(detail, ERR_PERM, "cannot listen on \"%s\"", listen_on);
    if (!err) {
        ready(ctx);
        if (smfi_main() != MI_SUCCESS)
            err = err_set(detail, ERR_BUG, "libmilter ended with an error");
        if (wait_for_all_to_leave(detail))
            err = ERR_TEMP;
    }
    mem_free(listen_on);
    return err;
}
