// SPDX-License-Identifier: Apache-2.0
// Incoming: layers of S/MIME come off from the outside, to the configured depth.
//
// Every layer that comes off leaves a message; the last one is looked at next. Two of them matter
// at the end:
//
//   base   what the last decryption left, or the message as it came. Where encryption cannot be
//          taken off, the reader gets this, with all signatures around the encryption.
//   kept   what the reader gets otherwise: base, less the signatures that passed and are to be
//          removed.
//
// A signature that passes is taken off if the configuration says so, and in any case if it lies
// round an encryption that then comes off (the outer one of a triple-wrapped message, F29). One
// that does not pass stays, so that the reader's own client may judge. What is under a bad
// signature is not looked into at all: it is not what somebody signed.
//
// What is said of the message: once an encryption came off, the signature inside counts, and the
// one outside only if there is none inside. Of several signatures round the same content one that
// passes is enough.
//
// Decryption happens at the root only, or under signatures that cover the whole root (EFAIL).
#include "gateway/pipeline.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "gateway/address.h"
#include "gateway/authres.h"
#include "gateway/certificate.h"
#include "gateway/cms.h"
#include "gateway/mime.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"

// One text for every cause, so that nobody learns from the reader's message what went wrong.
#define DECRYPTION_FAILED "decryption failed"

struct walk {
    struct gateway *gateway;
    const char *id; // of the request
    const struct conf *conf;
    const struct message *original;
    struct message *messages[CONF_DEPTH_MAX + 1]; // the first as it came, but for forged fields
    size_t count;
    size_t base, kept;
    bool is_at_end;

    char from[ADDRESS_MAX]; // "" if there is no single one
    struct authres result;
    bool has_result;
    bool is_result_outside; // of a signature round an encryption that came off
    bool was_decrypted;
    bool was_aead; // the last encryption that came off authenticates its content
};

// One layer's CMS object and what belongs to it.
struct object {
    struct spool *cms, *content;
    struct bytes cms_view, content_view; // content: signed text of a detached signature
    bool is_detached;
    bool is_readable; // the allow-list has nothing against it
    struct cms_summary summary;
};

static enum err out_of_memory(struct detail *detail)
{
    return err_set(detail, ERR_TEMP, "out of memory");
}

static const struct message *looked_at(const struct walk *w)
{
    return w->messages[w->count - 1];
}

static void say(struct walk *w, enum authres_result result, const char *reason)
{
    w->result = (struct authres){.result = result};
    snprintf(w->result.reason, sizeof w->result.reason, "%.199s", reason);
    w->has_result = true;
    w->is_result_outside = false;
}

static void say_and_end(struct walk *w, enum authres_result result, const char *reason)
{
    say(w, result, reason);
    w->is_at_end = true;
}

// Encryption stays on: the reader gets the message as it was round it.
static void leave_encrypted(struct walk *w, enum authres_result result, const char *reason)
{
    say_and_end(w, result, reason);
    w->kept = w->base;
    w->result.was_encrypted = true;
}

// What a certificate says of itself anybody can write, until a trust anchor vouches for it: names
// of others stand in the log only.
static void log_signer(const struct walk *w, const struct cms_verification *v)
{
    char subject[200] = "", issuer[200] = "", serial[80] = "";
    if (!v->signer || v->verdict == CMS_GOOD)
        return;
    certificate_subject(v->signer, subject, sizeof subject);
    certificate_issuer(v->signer, issuer, sizeof issuer);
    certificate_serial(v->signer, serial, sizeof serial);
    log_info("signer", "id", w->id, "subject", subject, "issuer", issuer, "serial", serial, "why",
             v->reason);
}

static void say_signature(struct walk *w, const struct cms_verification *v, bool covers)
{
    if (w->has_result && !w->is_result_outside && w->result.result == AUTHRES_PASS)
        return;
    const char *reason = v->reason;
    if (v->verdict == CMS_GOOD && !covers)
        reason = *w->from ? "the signer is not the From address"
                          : "the message has not exactly one From address";
    say(w, verdict_of_signature(v->verdict, covers), reason);
    if (!v->signer || v->verdict != CMS_GOOD)
        return;
    certificate_serial(v->signer, w->result.serial, sizeof w->result.serial);
    certificate_issuer(v->signer, w->result.issuer, sizeof w->result.issuer);
    if (covers)
        snprintf(w->result.identifier, sizeof w->result.identifier, "%s", w->from);
}

// Puts the message under the layer next in the row. ERR_PERM: the entity is none.
static enum err take_off(struct walk *w, struct bytes entity, struct detail *detail)
{
    if (w->count > w->conf->depth)
        return err_set(detail, ERR_PERM, "nested deeper than %u layers", w->conf->depth);
    enum err err = mime_unwrap(looked_at(w), entity, &w->messages[w->count], detail);
    if (!err)
        w->count++;
    return err;
}

static enum err find_extra(struct walk *w, STACK_OF(X509) * *extra, struct detail *detail)
{
    *extra = NULL;
    if (!*w->from)
        return ERR_OK;
    return certstore_find(w->gateway->store, w->from, time(NULL), extra, detail);
}

static bool is_sound(enum cms_verdict verdict)
{
    return verdict == CMS_GOOD || verdict == CMS_UNTRUSTED || verdict == CMS_EXPIRED;
}

static enum err judge_signature(struct walk *w, const struct cms_verification *v,
                                struct bytes entity, struct detail *detail)
{
    struct detail reason = {0};
    bool covers =
        v->signer && *w->from && certificate_covers(v->signer, w->from) != CERTIFICATE_NO_MATCH;
    bool passes = verdict_of_signature(v->verdict, covers) == AUTHRES_PASS;
    bool is_innermost_kept = w->kept == w->count - 1;
    log_signer(w, v);
    say_signature(w, v, covers);
    w->is_at_end = true;
    if (!is_sound(v->verdict))
        return ERR_OK;
    enum err err = take_off(w, entity, &reason);
    if (err)
        return err == ERR_PERM ? ERR_OK : err_set(detail, err, "%s", reason.text);
    w->is_at_end = false;
    if (passes && is_innermost_kept && !w->conf->keep_signature)
        w->kept = w->count - 1;
    return ERR_OK;
}

static enum err verify(struct walk *w, const struct object *object, struct detail *detail)
{
    struct cms_verification v = {0};
    STACK_OF(X509) *extra = NULL;
    struct bytes entity = object->content_view;
    if (!w->conf->verify || object->summary.is_certs_only) {
        w->is_at_end = true;
        return ERR_OK;
    }
    if (object->is_readable && object->summary.is_detached != object->is_detached) {
        say_and_end(w, AUTHRES_NEUTRAL, "the signature is not of the kind that the message says");
        return ERR_OK;
    }
    enum err err = find_extra(w, &extra, detail);
    if (!err)
        err = cms_verify(object->cms_view, object->content_view, w->gateway->trust, extra,
                         *w->from ? w->from : NULL, time(NULL),
                         object->is_detached ? NULL : object->content, &v, detail);
    sk_X509_pop_free(extra, X509_free);
    if (err == ERR_PERM) {
        say_and_end(w, AUTHRES_NEUTRAL, detail->text);
        return ERR_OK;
    }
    if (!err && !object->is_detached)
        err = spool_view(object->content, &entity, detail);
    if (!err)
        err = judge_signature(w, &v, entity, detail);
    cms_verification_clear(&v);
    return err;
}

// Those of our keys that can be had now. When one cannot and the others do not open the message, it
// is tried again later.
static size_t gather_identities(struct walk *w, struct cms_identity *identities, enum err *missing,
                                struct detail *detail)
{
    size_t count = 0;
    bool is_away = false;
    *missing = ERR_OK;
    for (size_t i = 0; i < w->conf->identity_count; i++) {
        struct identity_material material;
        if (!w->conf->identities[i].can_decrypt)
            continue;
        enum err err = gateway_get_identity(w->gateway, i, &is_away, &material, detail);
        if (err) {
            *missing = err == ERR_PERM ? ERR_TEMP : err;
            continue;
        }
        identities[count++] = (struct cms_identity){.name = w->conf->identities[i].identity.name,
                                                    .key = material.key,
                                                    .cert = material.cert};
    }
    return count;
}

// used: as of cms_decrypt.
static enum err run_decryption(struct walk *w, const struct object *object, size_t *used,
                               struct detail *detail)
{
    enum err missing = ERR_OK;
    struct detail reason = {0};
    struct cms_identity *identities = mem_calloc(w->conf->identity_count + 1, sizeof *identities);
    if (!identities)
        return out_of_memory(detail);
    size_t count = gather_identities(w, identities, &missing, &reason);
    enum err err = ERR_PERM;
    *used = CMS_NOBODY;
    if (count > 0)
        err = cms_decrypt(object->cms_view, identities, count, object->content, used, detail);
    mem_free(identities);
    if (err == ERR_PERM && missing)
        return err_set(detail, missing, "%s", reason.text);
    return err;
}

static enum err decrypt(struct walk *w, const struct object *object, struct detail *detail)
{
    struct bytes entity = {0};
    struct detail reason = {0};
    if (!w->conf->decrypt) {
        w->is_at_end = true;
        w->kept = w->base;
        return ERR_OK;
    }
    if (w->count > w->conf->depth) {
        leave_encrypted(w, AUTHRES_NEUTRAL, "S/MIME layers are nested too deep");
        return ERR_OK;
    }
    size_t used = 0;
    enum err err = run_decryption(w, object, &used, &reason);
    if (err == ERR_PERM && used == CMS_NOBODY) {
        leave_encrypted(w, AUTHRES_NEUTRAL, "not encrypted for a key of ours");
        return ERR_OK;
    }
    if (!err)
        err = spool_view(object->content, &entity, &reason);
    if (!err)
        err = take_off(w, entity, &reason);
    if (err == ERR_PERM) {
        leave_encrypted(w, AUTHRES_PERMERROR, DECRYPTION_FAILED);
        return ERR_OK;
    }
    if (err)
        return err_set(detail, err, "%s", reason.text);
    w->base = w->kept = w->count - 1;
    w->was_decrypted = true;
    w->was_aead = object->summary.type == CMS_TYPE_AUTH_ENVELOPED;
    w->is_result_outside = w->has_result;
    return ERR_OK;
}

static bool is_encrypted(const struct cms_summary *summary)
{
    return summary->type == CMS_TYPE_ENVELOPED || summary->type == CMS_TYPE_AUTH_ENVELOPED;
}

// The object is not on the allow-list, or cannot be read.
static void refuse_object(struct walk *w, const struct object *object, const char *reason)
{
    bool is_unsupported = object->summary.refusal == CMS_REFUSAL_UNSUPPORTED ||
                          object->summary.refusal == CMS_REFUSAL_UNKNOWN;
    if (is_encrypted(&object->summary))
        leave_encrypted(w, is_unsupported ? AUTHRES_NEUTRAL : AUTHRES_PERMERROR, reason);
    else
        say_and_end(w, AUTHRES_NEUTRAL, reason);
}

static enum err open_object(struct walk *w, struct object *object, struct detail *detail)
{
    struct detail reason = {0};
    enum err err = cms_inspect(object->cms_view, w->conf->allow_legacy, &object->summary, &reason);
    // What is wrong with a signature cms_verify judges itself.
    if (err == ERR_PERM && object->summary.type != CMS_TYPE_SIGNED) {
        refuse_object(w, object, reason.text);
        return ERR_OK;
    }
    if (err && err != ERR_PERM)
        return err_set(detail, err, "%s", reason.text);
    object->is_readable = err == ERR_OK;
    if (is_encrypted(&object->summary) && !object->is_detached)
        return decrypt(w, object, detail);
    if (object->summary.type == CMS_TYPE_SIGNED)
        return verify(w, object, detail);
    if (object->summary.type == CMS_TYPE_COMPRESSED)
        say_and_end(w, AUTHRES_NEUTRAL, "compressed content is not opened");
    else
        say_and_end(w, AUTHRES_NEUTRAL, "no S/MIME object of a known kind");
    return ERR_OK;
}

static enum err read_object(struct walk *w, enum mime_kind kind, struct object *object,
                            struct detail *detail)
{
    object->cms = spool_new(&w->gateway->spool);
    object->content = spool_new(&w->gateway->spool);
    object->is_detached = kind == MIME_SIGNED;
    if (!object->cms || !object->content)
        return out_of_memory(detail);
    enum err err = kind == MIME_SIGNED
                       ? mime_split_signed(looked_at(w), object->content, object->cms, detail)
                       : mime_decode_pkcs7(looked_at(w), object->cms, detail);
    if (!err)
        err = spool_view(object->cms, &object->cms_view, detail);
    if (!err && object->is_detached)
        err = spool_view(object->content, &object->content_view, detail);
    return err;
}

static enum err take_layer(struct walk *w, const struct mime_facts *mime, struct detail *detail)
{
    struct object object = {0};
    struct detail reason = {0};
    enum err err = read_object(w, mime->kind, &object, &reason);
    if (!err)
        err = open_object(w, &object, detail);
    else if (err == ERR_PERM)
        say_and_end(w, AUTHRES_NEUTRAL, reason.text);
    else
        (void)err_set(detail, err, "%s", reason.text);
    spool_free(object.cms);
    spool_free(object.content);
    return err == ERR_PERM ? ERR_OK : err;
}

static enum err walk_layers(struct walk *w, const struct mime_facts *root, struct detail *detail)
{
    struct mime_facts mime = *root;
    enum err err = ERR_OK;
    while (!err && !w->is_at_end) {
        if (mime.is_broken)
            say_and_end(w, AUTHRES_NEUTRAL, mime.reason);
        else if (mime.kind == MIME_PLAIN)
            w->is_at_end = true;
        else
            err = take_layer(w, &mime, detail);
        if (!err && !w->is_at_end)
            err = mime_inspect(looked_at(w), &mime, detail);
    }
    bool is_looked_for = w->conf->verify || w->conf->decrypt;
    if (!err && root->kind == MIME_PLAIN && root->has_nested_smime && !w->has_result &&
        is_looked_for)
        say(w, AUTHRES_NEUTRAL, "S/MIME below the root of the message is left alone");
    return err;
}

static void conclude(struct walk *w)
{
    if (w->was_decrypted && !w->has_result) {
        say(w, AUTHRES_NONE, "not signed");
        w->is_result_outside = true; // nothing was found inside
    }
    if (w->was_decrypted) {
        w->result.was_encrypted = true;
        w->result.was_decrypted = true;
    }
    if (w->was_decrypted && !w->was_aead && w->result.result != AUTHRES_PASS) {
        size_t len = strlen(w->result.reason);
        snprintf(w->result.reason + len, sizeof w->result.reason - len,
                 "%sdecrypted content is not authenticated", len > 0 ? "; " : "");
    }
}

static enum err give_result(struct walk *w, const struct request *request, bool is_changed,
                            struct outcome *outcome, struct detail *detail)
{
    struct outcome_copy *copy = outcome_add(outcome, request->envelope.recipient_count);
    if (!copy)
        return out_of_memory(detail);
    for (size_t i = 0; i < request->envelope.recipient_count; i++)
        copy->recipients[copy->recipient_count++] = i;
    if (w->has_result) {
        enum err err = authres_add(w->messages[w->kept], w->conf->authserv_id, &w->result, detail);
        if (err == ERR_PERM) // no room in the header: the message goes on without
            log_warning("authres", "id", request->id, "err", detail->text);
        else if (err)
            return err;
        snprintf(outcome->note, sizeof outcome->note, "smime=%s%s%s%s",
                 authres_result_name(w->result.result), *w->result.reason ? ": " : "",
                 w->result.reason,
                 w->result.was_decrypted   ? "; decrypted"
                 : w->result.was_encrypted ? "; encrypted"
                                           : "");
    }
    if (is_changed || w->has_result) {
        copy->message = w->messages[w->kept];
        w->messages[w->kept] = NULL;
    }
    return ERR_OK;
}

enum err inbound_run(struct gateway *gateway, const struct request *request,
                     struct outcome *outcome, struct detail *detail)
{
    struct walk w = {
        .gateway = gateway, .id = request->id, .conf = gateway->conf, .original = request->message};
    struct mime_facts root = {0};
    struct detail reason = {0};
    verdict_deliver(&outcome->verdict);
    enum err err = address_from(request->message, w.from, &reason);
    if (err == ERR_PERM) // there is none that a signer could be
        *w.from = 0;
    else if (err)
        return err_set(detail, err, "%s", reason.text);
    err = mime_inspect(request->message, &root, detail);
    if (err)
        return err;
    // Plain mail that claims nothing needs no copy of its own.
    if (root.kind == MIME_PLAIN && !root.has_nested_smime && !root.is_broken &&
        !message_header(request->message, "Authentication-Results"))
        return give_result(&w, request, false, outcome, detail);
    err = message_copy(request->message, &w.messages[0], detail);
    if (err)
        return err;
    w.count = 1;
    size_t forged = authres_remove_forged(w.messages[0], w.conf->authserv_id);
    err = walk_layers(&w, &root, detail);
    if (!err) {
        conclude(&w);
        err = give_result(&w, request, forged > 0 || w.kept > 0, outcome, detail);
    }
    for (size_t i = 0; i < w.count; i++)
        message_free(w.messages[i]);
    return err;
}
