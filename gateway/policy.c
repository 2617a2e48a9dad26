// SPDX-License-Identifier: Apache-2.0
// How recipients are put together into encrypted copies:
//
// - A recipient's copy has a RecipientInfo for each of its certificates (P5).
// - RSA and EC recipients never share one: old clients fail on the whole message when they meet a
//   RecipientInfo of the other kind. Who has both kinds gets a third copy with both.
// - A recipient whom To and Cc do not name shares a copy only with recipients who have all of its
//   certificates as well, such as a domain's certificate; else the others would see from the
//   RecipientInfos that there is somebody more (P7).
#include "gateway/policy.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/alloc.h"

static const struct {
    enum plan_layer layers[PLAN_LAYERS_MAX];
    size_t count;
} modes[] = {
    [PROFILE_SIGN] = {{PLAN_SIGN}, 1},
    [PROFILE_ENCRYPT] = {{PLAN_ENCRYPT}, 1},
    [PROFILE_SIGN_ENCRYPT] = {{PLAN_SIGN, PLAN_ENCRYPT}, 2},
    [PROFILE_TRIPLE] = {{PLAN_SIGN, PLAN_ENCRYPT, PLAN_SIGN}, 3},
};

static void choose_layers(const struct facts *facts, struct plan *plan)
{
    if (!facts->profile || facts->content == FACTS_ENCRYPTED)
        return;
    // A signature over the encryption is another one than the sender's own client made.
    bool is_signed = facts->content == FACTS_SIGNED;
    for (size_t i = 0; i < modes[facts->profile->mode].count; i++) {
        enum plan_layer layer = modes[facts->profile->mode].layers[i];
        if (layer != PLAN_SIGN || !is_signed)
            plan->layers[plan->layer_count++] = layer;
        if (layer == PLAN_ENCRYPT)
            is_signed = false;
    }
}

static bool has_layer(const struct plan *plan, enum plan_layer layer)
{
    for (size_t i = 0; i < plan->layer_count; i++) {
        if (plan->layers[i] == layer)
            return true;
    }
    return false;
}

static bool has_certificate(const struct facts_recipient *recipient, size_t certificate)
{
    for (size_t i = 0; i < recipient->certificate_count; i++) {
        if (recipient->certificates[i] == certificate)
            return true;
    }
    return false;
}

static bool has_all_certificates(const struct facts_recipient *of, const struct facts_recipient *in)
{
    for (size_t i = 0; i < of->certificate_count; i++) {
        if (!has_certificate(in, of->certificates[i]))
            return false;
    }
    return true;
}

// a stands before b in the envelope or is named while b is hidden.
static bool may_share(const struct facts_recipient *a, const struct facts_recipient *b)
{
    if (a->key_types != b->key_types)
        return false;
    if (a->is_hidden && !has_all_certificates(a, b))
        return false;
    return !b->is_hidden || has_all_certificates(b, a);
}

static bool goes_clear(const struct facts *facts, const struct facts_recipient *recipient)
{
    assert(facts->profile); // without one there is no layer to leave off
    if (recipient->is_local && !facts->protects_local)
        return true;
    return recipient->certificate_count == 0 && facts->profile->missing_key == MISSING_KEY_SPLIT;
}

// Two passes, the named first: a hidden recipient joins a copy, it never opens one for others.
static void group_recipients(const struct facts *facts, bool hidden, struct plan *plan)
{
    for (size_t i = 0; i < facts->recipient_count; i++) {
        const struct facts_recipient *recipient = &facts->recipients[i];
        if (recipient->is_hidden != hidden || goes_clear(facts, recipient))
            continue;
        for (size_t j = 0; j < facts->recipient_count && plan->copy_of[i] == PLAN_NONE; j++) {
            if (plan->copy_of[j] != PLAN_NONE && may_share(&facts->recipients[j], recipient))
                plan->copy_of[i] = plan->copy_of[j];
        }
        if (plan->copy_of[i] == PLAN_NONE)
            plan->copy_of[i] = plan->copy_count++;
    }
}

static void put_rest_into_clear_copy(const struct facts *facts, struct plan *plan)
{
    for (size_t i = 0; i < facts->recipient_count; i++) {
        if (plan->copy_of[i] != PLAN_NONE)
            continue;
        if (plan->clear_copy == PLAN_NONE)
            plan->clear_copy = plan->copy_count++;
        plan->copy_of[i] = plan->clear_copy;
    }
    if (plan->clear_copy == 0) // nobody is left to protect the message for
        plan->layer_count = 0;
}

static void refuse_missing(const struct facts *facts, const char *names, struct plan *plan)
{
    if (facts->profile->missing_key == MISSING_KEY_DROP) {
        char why[400];
        snprintf(why, sizeof why, "no encryption certificate for %s", names);
        verdict_drop(&plan->verdict, why);
    } else {
        verdict_reply(&plan->verdict, "550 5.7.5", "no encryption certificate for %s", names);
    }
}

static bool check_missing(const struct facts *facts, struct plan *plan)
{
    char names[300] = "";
    size_t len = 0;
    bool is_missing = false;
    for (size_t i = 0; i < facts->recipient_count; i++) {
        const struct facts_recipient *recipient = &facts->recipients[i];
        if (recipient->certificate_count > 0 || goes_clear(facts, recipient))
            continue;
        is_missing = true;
        int n = snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? ", " : "",
                         recipient->address);
        len += (size_t)n < sizeof names - len ? (size_t)n : sizeof names - 1 - len;
    }
    if (is_missing)
        refuse_missing(facts, names, plan);
    return !is_missing;
}

// A valid certificate comes before one that is not, then a whole address before a domain, then the
// order of the profile.
static int signer_rank(const struct facts_signer *signer)
{
    if (signer->covers == CERTIFICATE_NO_MATCH)
        return 0;
    return (signer->validity == FACTS_VALID ? 4 : 0) + (int)signer->covers;
}

static void choose_signer(const struct facts *facts, struct plan *plan)
{
    const struct facts_signer *best = NULL;
    bool is_unknown = false;
    if (!*facts->from) {
        verdict_reply(&plan->verdict, "550 5.7.1",
                      "cannot be signed: the message has not exactly one From address");
        return;
    }
    for (size_t i = 0; i < facts->signer_count; i++) {
        const struct facts_signer *signer = &facts->signers[i];
        is_unknown = is_unknown || signer->validity == FACTS_UNKNOWN;
        if (signer_rank(signer) > (best ? signer_rank(best) : 0))
            best = signer;
    }
    bool is_valid = best && best->validity == FACTS_VALID;
    // One that is not known might suit better than what is there.
    if (is_unknown && !(is_valid && best->covers == CERTIFICATE_MATCHES_ADDRESS))
        verdict_reply(&plan->verdict, "451 4.3.0", "S/MIME processing is not possible now");
    else if (!best)
        verdict_reply(&plan->verdict, "550 5.7.1", "no signing certificate covers %s", facts->from);
    else if (best->validity == FACTS_EXPIRED)
        verdict_reply(&plan->verdict, "451 4.7.5", "S/MIME certificate is expired");
    else if (best->validity == FACTS_NOT_YET_VALID)
        verdict_reply(&plan->verdict, "451 4.7.5", "S/MIME certificate is not valid yet");
    else
        plan->signer = best->identity;
}

static void send_as_it_came(const struct facts *facts, struct plan *plan)
{
    for (size_t i = 0; i < facts->recipient_count; i++)
        plan->copy_of[i] = 0;
    plan->layer_count = 0;
    plan->copy_count = 1;
    plan->clear_copy = 0;
}

static void plan_copies(const struct facts *facts, struct plan *plan)
{
    if (!has_layer(plan, PLAN_ENCRYPT)) {
        for (size_t i = 0; i < facts->recipient_count; i++)
            plan->copy_of[i] = 0;
        plan->copy_count = 1;
        return;
    }
    if (!check_missing(facts, plan))
        return;
    group_recipients(facts, false, plan);
    group_recipients(facts, true, plan);
    put_rest_into_clear_copy(facts, plan);
}

enum err policy_plan(const struct facts *facts, struct plan *plan, struct detail *detail)
{
    *plan = (struct plan){.signer = PLAN_NONE, .clear_copy = PLAN_NONE};
    verdict_deliver(&plan->verdict);
    plan->copy_of = mem_calloc(facts->recipient_count + 1, sizeof *plan->copy_of);
    if (!plan->copy_of)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < facts->recipient_count; i++)
        plan->copy_of[i] = PLAN_NONE;
    if (facts->profile && facts->content == FACTS_BROKEN) {
        verdict_reply(&plan->verdict, "554 5.6.0", "broken S/MIME message: %s",
                      facts->content_reason);
        return ERR_OK;
    }
    choose_layers(facts, plan);
    if (plan->layer_count == 0) {
        send_as_it_came(facts, plan);
        return ERR_OK;
    }
    plan_copies(facts, plan);
    if (plan->verdict.kind == VERDICT_DELIVER && has_layer(plan, PLAN_SIGN))
        choose_signer(facts, plan);
    return ERR_OK;
}

void plan_clear(struct plan *plan)
{
    mem_free(plan->copy_of);
    *plan = (struct plan){.signer = PLAN_NONE, .clear_copy = PLAN_NONE};
}
