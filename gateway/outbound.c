// SPDX-License-Identifier: Apache-2.0
// Outgoing: facts, plan, and the plan carried out. The layers up to the encryption are the same in
// every copy and made once, so that a message costs one inner signature however many copies it has.
#include "gateway/pipeline.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "gateway/authres.h"
#include "gateway/cms.h"
#include "gateway/facts.h"
#include "gateway/mime.h"
#include "gateway/policy.h"
#include "hsmd/base/alloc.h"

struct outbound {
    struct gateway *gateway;
    const struct request *request;
    const struct message *message; // as the copies in clear leave
    struct message *own;           // that message, where it is not the request's
    const struct profile *profile;
    bool is_asked; // the profile, by the request or the message
    struct facts facts;
    struct plan plan;
};

// Spools of one layer.
struct layer {
    struct spool *entity, *cms;
    struct bytes entity_view, cms_view;
};

static enum err out_of_memory(struct detail *detail)
{
    return err_set(detail, ERR_TEMP, "out of memory");
}

static void layer_clear(struct layer *layer)
{
    spool_free(layer->entity);
    spool_free(layer->cms);
}

static enum err layer_begin(const struct gateway *gateway, const struct message *message,
                            struct layer *layer, struct detail *detail)
{
    *layer =
        (struct layer){.entity = spool_new(&gateway->spool), .cms = spool_new(&gateway->spool)};
    if (!layer->entity || !layer->cms)
        return out_of_memory(detail);
    enum err err = mime_make_entity(message, layer->entity, detail);
    return err ? err : spool_view(layer->entity, &layer->entity_view, detail);
}

static enum err sign(struct outbound *out, const struct message *message, struct message **signed_,
                     struct detail *detail)
{
    struct layer layer = {0};
    struct identity_material material;
    const struct profile *profile = out->profile;
    bool is_away = false;
    enum err err =
        gateway_get_identity(out->gateway, out->plan.signer, &is_away, &material, detail);
    if (!err)
        err = layer_begin(out->gateway, message, &layer, detail);
    if (!err) {
        struct cms_signer signer = {.key = material.key,
                                    .cert = material.cert,
                                    .chain = material.chain,
                                    .hash = profile->hash,
                                    .pss = profile->pss};
        err = cms_sign(&signer, layer.entity_view, !profile->is_opaque, layer.cms, detail);
    }
    if (!err)
        err = spool_view(layer.cms, &layer.cms_view, detail);
    if (!err && profile->is_opaque)
        err = mime_wrap_pkcs7(message, layer.cms_view, "signed-data", signed_, detail);
    else if (!err)
        err = mime_wrap_signed(message, layer.entity_view, layer.cms_view,
                               cms_micalg(profile->hash), signed_, detail);
    layer_clear(&layer);
    return err;
}

// Every certificate of every recipient of the copy, each once.
static enum err collect_recipients(const struct outbound *out, size_t copy,
                                   STACK_OF(X509) * certificates, struct detail *detail)
{
    const struct facts *facts = &out->facts;
    for (int c = 0; c < sk_X509_num(facts->certificates); c++) {
        bool is_wanted = false;
        for (size_t r = 0; r < facts->recipient_count && !is_wanted; r++) {
            const struct facts_recipient *recipient = &facts->recipients[r];
            for (size_t i = 0; i < recipient->certificate_count; i++)
                is_wanted = is_wanted || (out->plan.copy_of[r] == copy &&
                                          recipient->certificates[i] == (size_t)c);
        }
        if (is_wanted && sk_X509_push(certificates, sk_X509_value(facts->certificates, c)) == 0)
            return out_of_memory(detail);
    }
    if (sk_X509_num(certificates) == 0)
        return err_set(detail, ERR_BUG, "copy %zu has nobody to encrypt for", copy);
    return ERR_OK;
}

static enum err encrypt(struct outbound *out, size_t copy, const struct message *message,
                        struct message **encrypted, struct detail *detail)
{
    struct layer layer = {0};
    const struct profile *profile = out->profile;
    struct cms_encryption encryption = {
        .cipher = profile->cipher, .oaep = profile->oaep, .recipients = sk_X509_new_null()};
    enum err err = encryption.recipients ? ERR_OK : out_of_memory(detail);
    if (!err)
        err = collect_recipients(out, copy, encryption.recipients, detail);
    if (!err)
        err = layer_begin(out->gateway, message, &layer, detail);
    if (!err)
        err = cms_encrypt(&encryption, layer.entity_view, layer.cms, detail);
    if (!err)
        err = spool_view(layer.cms, &layer.cms_view, detail);
    const char *smime_type =
        cms_cipher_is_aead(profile->cipher) ? "authEnveloped-data" : "enveloped-data";
    if (!err)
        err = mime_wrap_pkcs7(message, layer.cms_view, smime_type, encrypted, detail);
    sk_X509_free(encryption.recipients);
    layer_clear(&layer);
    return err;
}

// Puts the layers from first to before end onto message. *result is the caller's; NULL if there was
// none to put.
static enum err put_layers(struct outbound *out, const struct message *message, size_t first,
                           size_t end, size_t copy, struct message **result, struct detail *detail)
{
    struct message *current = NULL;
    for (size_t i = first; i < end; i++) {
        const struct message *under = current ? current : message;
        struct message *over = NULL;
        enum err err = out->plan.layers[i] == PLAN_SIGN ? sign(out, under, &over, detail)
                                                        : encrypt(out, copy, under, &over, detail);
        message_free(current);
        if (err)
            return err;
        current = over;
    }
    *result = current;
    return ERR_OK;
}

static size_t common_layers(const struct plan *plan)
{
    size_t common = 0;
    while (common < plan->layer_count && plan->layers[common] != PLAN_ENCRYPT)
        common++;
    return common;
}

static enum err make_clear(const struct outbound *out, struct outcome_copy *made,
                           struct detail *detail)
{
    // Without the field that chose the profile, or a forged one, it is not quite as it came.
    return out->own ? message_copy(out->own, &made->message, detail) : ERR_OK;
}

static enum err make_copies(struct outbound *out, struct outcome *outcome, struct detail *detail)
{
    const struct plan *plan = &out->plan;
    size_t common = common_layers(plan);
    struct message *base = NULL;
    enum err err = put_layers(out, out->message, 0, common, PLAN_NONE, &base, detail);
    for (size_t copy = 0; !err && copy < plan->copy_count; copy++) {
        struct outcome_copy *made = outcome_add(outcome, out->facts.recipient_count);
        if (!made) {
            err = out_of_memory(detail);
            break;
        }
        for (size_t r = 0; r < out->facts.recipient_count; r++) {
            if (plan->copy_of[r] == copy)
                made->recipients[made->recipient_count++] = r;
        }
        if (copy == plan->clear_copy) {
            err = make_clear(out, made, detail);
            continue;
        }
        made->is_protected = true;
        if (common < plan->layer_count) {
            err = put_layers(out, base ? base : out->message, common, plan->layer_count, copy,
                             &made->message, detail);
        } else { // signed only: there is one copy
            made->message = base;
            base = NULL;
        }
    }
    message_free(base);
    return err;
}

// The message without what only an incoming one may carry, and that from us alone: a recipient in
// our own domains would believe it.
static enum err remove_forged(struct outbound *out, struct detail *detail)
{
    const char *id = out->gateway->conf->authserv_id;
    if (!authres_has_forged(out->message, id))
        return ERR_OK;
    enum err err = out->own ? ERR_OK : message_copy(out->message, &out->own, detail);
    if (err)
        return err;
    authres_remove_forged(out->own, id);
    out->message = out->own;
    return ERR_OK;
}

// A sender may choose the profile with a field, where the configuration names one (P15).
static enum err choose_profile(struct outbound *out, struct verdict *verdict, struct detail *detail)
{
    const struct conf *conf = out->gateway->conf;
    const char *asked = out->request->profile;
    char name[100] = "";
    out->profile = conf->outbound_profile;
    if (conf->profile_header && message_header(out->message, conf->profile_header)) {
        const char *value = message_header(out->message, conf->profile_header);
        while (isspace((unsigned char)*value))
            value++;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(value, " \t\r\n"), value);
        enum err err = message_copy(out->message, &out->own, detail);
        if (err)
            return err;
        message_remove_headers(out->own, conf->profile_header);
        out->message = out->own;
        if (!asked)
            asked = name;
    }
    if (!asked)
        return ERR_OK;
    out->is_asked = true;
    out->profile = conf_profile(conf, asked);
    if (!out->profile && strcmp(asked, "none") != 0)
        verdict_reply(verdict, "550 5.7.1", "there is no S/MIME profile \"%s\"", asked);
    return ERR_OK;
}

static void describe(const struct outbound *out, struct outcome *outcome)
{
    const struct plan *plan = &out->plan;
    const char *signer =
        plan->signer == PLAN_NONE ? "" : identity_name(out->gateway->identities[plan->signer]);
    if (plan->layer_count == 0)
        snprintf(outcome->note, sizeof outcome->note, "profile=%s: left as it came",
                 out->profile ? out->profile->name : "none");
    else
        snprintf(outcome->note, sizeof outcome->note, "profile=%s signer=%s copies=%zu",
                 out->profile->name, *signer ? signer : "none", plan->copy_count);
    if (out->facts.signer_problem.text[0] && outcome->verdict.kind != VERDICT_DELIVER)
        snprintf(outcome->note, sizeof outcome->note, "%.399s", out->facts.signer_problem.text);
}

enum err outbound_run(struct gateway *gateway, const struct request *request,
                      struct outcome *outcome, struct detail *detail)
{
    struct outbound out = {.gateway = gateway, .request = request, .message = request->message};
    verdict_deliver(&outcome->verdict);
    enum err err = choose_profile(&out, &outcome->verdict, detail);
    if (!err)
        err = remove_forged(&out, detail);
    if (!err && outcome->verdict.kind == VERDICT_DELIVER) {
        err = facts_gather(gateway, &request->envelope, out.message, out.profile, time(NULL),
                           &out.facts, detail);
        // local-recipients is for the configuration's profile: one that was asked for is meant.
        if (out.is_asked)
            out.facts.protects_local = true;
        if (!err)
            err = policy_plan(&out.facts, &out.plan, detail);
        if (!err) {
            outcome->verdict = out.plan.verdict;
            describe(&out, outcome);
        }
        if (!err && out.plan.verdict.kind == VERDICT_DELIVER)
            err = make_copies(&out, outcome, detail);
    }
    plan_clear(&out.plan);
    facts_clear(&out.facts);
    message_free(out.own);
    return err;
}
