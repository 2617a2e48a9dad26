// SPDX-License-Identifier: Apache-2.0
// The decision about an outgoing message, by tables: what is known on the left, the plan on the
// right.
#include "gateway/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"

#define RECIPIENTS_MAX 6

// A recipient as a short text: "r0" has the RSA certificate 0, "e1" the EC certificate 1, "r0e1"
// both, "-" none; in front 'h' for hidden and 'l' for local.
struct policy_case {
    const char *name;
    const struct profile *profile;
    enum facts_content content;
    bool local_clear;
    const char *signers[3]; // "address valid", ...
    const char *recipients[RECIPIENTS_MAX];
    const char *from; // NULL: bob@a.example, "": none
    // expected
    const char *layers; // "SE"
    int signer;         // -1: none
    const char *copies; // number of each recipient's copy, a 'c' for the clear one: "01c"
    const char *reply;  // "" for deliver, "drop ...", else "550 5.7.5 text"
};

#define PROFILE(id, m, missing) \
    static const struct profile id = {.name = #id, .mode = m, .missing_key = missing};
PROFILE(sign, PROFILE_SIGN, MISSING_KEY_BOUNCE)
PROFILE(encrypt, PROFILE_ENCRYPT, MISSING_KEY_BOUNCE)
PROFILE(both, PROFILE_SIGN_ENCRYPT, MISSING_KEY_BOUNCE)
PROFILE(both_drop, PROFILE_SIGN_ENCRYPT, MISSING_KEY_DROP)
PROFILE(both_split, PROFILE_SIGN_ENCRYPT, MISSING_KEY_SPLIT)
PROFILE(triple, PROFILE_TRIPLE, MISSING_KEY_BOUNCE)

#define VALID          \
    {                  \
        "domain valid" \
    }

static const struct policy_case cases[] = {
    {"no profile: as it came", NULL, FACTS_PLAIN, .recipients = {"r0", "-"}, .layers = "",
     .signer = -1, .copies = "cc", .reply = ""},
    {"no profile: broken S/MIME is not our business", NULL, FACTS_BROKEN, .recipients = {"r0"},
     .layers = "", .signer = -1, .copies = "c", .reply = ""},
    {"sign", &sign, .signers = VALID, .recipients = {"r0", "-", "e1"}, .layers = "S",
     .copies = "000", .reply = ""},
    {"encrypt", &encrypt, .recipients = {"r0", "r1"}, .layers = "E", .signer = -1, .copies = "00",
     .reply = ""},
    {"encrypt needs no From", &encrypt, .recipients = {"r0"}, .from = "", .layers = "E",
     .signer = -1, .copies = "0", .reply = ""},
    {"sign and encrypt", &both, .signers = VALID, .recipients = {"r0"}, .layers = "SE",
     .copies = "0", .reply = ""},
    {"triple", &triple, .signers = VALID, .recipients = {"r0"}, .layers = "SES", .copies = "0",
     .reply = ""},

    {"signed already, sign: as it came", &sign, FACTS_SIGNED, .signers = VALID, .recipients = {"-"},
     .layers = "", .signer = -1, .copies = "c", .reply = ""},
    {"signed already, sign and encrypt: encrypted only", &both, FACTS_SIGNED, .signers = VALID,
     .recipients = {"r0"}, .layers = "E", .signer = -1, .copies = "0", .reply = ""},
    {"signed already, triple: encrypted and signed over that", &triple, FACTS_SIGNED,
     .signers = VALID, .recipients = {"r0"}, .layers = "ES", .copies = "0", .reply = ""},
    {"signed already, triple: the outer signer must cover", &triple, FACTS_SIGNED,
     .signers = {"none valid"}, .recipients = {"r0"}, .layers = "ES", .signer = -1, .copies = "0",
     .reply = "550 5.7.1 no signing certificate covers bob@a.example"},
    {"signed already, but no certificate", &both, FACTS_SIGNED, .signers = VALID,
     .recipients = {"-"}, .layers = "E", .signer = -1,
     .reply = "550 5.7.5 no encryption certificate for u0@x.example"},
    {"encrypted already: not touched", &triple, FACTS_ENCRYPTED, .signers = VALID,
     .recipients = {"-"}, .layers = "", .signer = -1, .copies = "c", .reply = ""},
    {"broken: refused", &sign, FACTS_BROKEN, .signers = VALID, .recipients = {"-"}, .signer = -1,
     .reply = "554 5.6.0 broken S/MIME message: the reason"},

    {"missing, bounce", &both, .signers = VALID, .recipients = {"r0", "-", "-"}, .layers = "SE",
     .signer = -1, .reply = "550 5.7.5 no encryption certificate for u1@x.example, u2@x.example"},
    {"missing, drop", &both_drop, .signers = VALID, .recipients = {"r0", "-"}, .layers = "SE",
     .signer = -1, .reply = "drop no encryption certificate for u1@x.example"},
    {"missing, split", &both_split, .signers = VALID, .recipients = {"r0", "-", "r1", "-"},
     .layers = "SE", .copies = "0c0c", .reply = ""},
    {"split, nobody has one: as it came, nothing to sign with", &both_split,
     .recipients = {"-", "-"}, .layers = "", .signer = -1, .copies = "cc", .reply = ""},
    {"split, but the signer does not cover", &both_split, .signers = {"none valid"},
     .recipients = {"r0", "-"}, .layers = "SE", .signer = -1,
     .reply = "550 5.7.1 no signing certificate covers bob@a.example"},

    {"local recipients are protected like others", &both, .signers = VALID,
     .recipients = {"r0", "l-"}, .layers = "SE", .signer = -1,
     .reply = "550 5.7.5 no encryption certificate for u1@x.example"},
    {"local recipients in clear", &both, .local_clear = true, .signers = VALID,
     .recipients = {"r0", "l-", "lr1"}, .layers = "SE", .copies = "0cc", .reply = ""},
    {"only local recipients, in clear", &both, .local_clear = true, .signers = VALID,
     .recipients = {"l-"}, .layers = "", .signer = -1, .copies = "c", .reply = ""},

    {"RSA and EC apart", &both, .signers = VALID, .recipients = {"r0", "e1", "r2", "e3"},
     .layers = "SE", .copies = "0101", .reply = ""},
    {"both kinds: a copy of its own", &both, .signers = VALID,
     .recipients = {"r0", "e1", "r0e1", "r2e3"}, .layers = "SE", .copies = "0122", .reply = ""},
    {"hidden: alone", &both, .signers = VALID, .recipients = {"hr0", "r1", "hr2"}, .layers = "SE",
     .copies = "102", .reply = ""},
    {"hidden, same certificate as a named one", &both, .signers = VALID,
     .recipients = {"hr0", "r0", "r1", "hr1"}, .layers = "SE", .copies = "0000", .reply = ""},
    {"hidden, one certificate more", &both, .signers = VALID, .recipients = {"r0", "hr0r1"},
     .layers = "SE", .copies = "01", .reply = ""},
    {"two hidden with the same certificate", &both, .signers = VALID, .recipients = {"hr0", "hr0"},
     .layers = "SE", .copies = "00", .reply = ""},
    {"hidden, in clear", &both_split, .signers = VALID, .recipients = {"r0", "h-"}, .layers = "SE",
     .copies = "0c", .reply = ""},

    {"no From", &sign, .signers = VALID, .recipients = {"-"}, .from = "", .layers = "S",
     .signer = -1, .copies = "0",
     .reply = "550 5.7.1 cannot be signed: the message has not exactly one From address"},
    {"no signer covers", &sign, .signers = {"none valid", "none expired"}, .recipients = {"-"},
     .layers = "S", .signer = -1, .copies = "0",
     .reply = "550 5.7.1 no signing certificate covers bob@a.example"},
    {"address before domain", &sign, .signers = {"domain valid", "address valid"},
     .recipients = {"-"}, .layers = "S", .signer = 1, .copies = "0", .reply = ""},
    {"the first of equals", &sign, .signers = {"none valid", "domain valid", "domain valid"},
     .recipients = {"-"}, .layers = "S", .signer = 1, .copies = "0", .reply = ""},
    {"expired", &sign, .signers = {"domain expired"}, .recipients = {"-"}, .layers = "S",
     .signer = -1, .copies = "0", .reply = "451 4.7.5 S/MIME certificate is expired"},
    {"a valid domain before an expired address", &sign,
     .signers = {"address expired", "domain valid"}, .recipients = {"-"}, .layers = "S",
     .signer = 1, .copies = "0", .reply = ""},
    {"expired, and another that does not cover", &sign,
     .signers = {"none valid", "address expired"}, .recipients = {"-"}, .layers = "S", .signer = -1,
     .copies = "0", .reply = "451 4.7.5 S/MIME certificate is expired"},
    {"not yet valid", &sign, .signers = {"address early"}, .recipients = {"-"}, .layers = "S",
     .signer = -1, .copies = "0", .reply = "451 4.7.5 S/MIME certificate is not valid yet"},
    {"unknown: later", &sign, .signers = {"none unknown"}, .recipients = {"-"}, .layers = "S",
     .signer = -1, .copies = "0", .reply = "451 4.3.0 S/MIME processing is not possible now"},
    {"unknown might be better than a domain", &sign, .signers = {"domain valid", "none unknown"},
     .recipients = {"-"}, .layers = "S", .signer = -1, .copies = "0",
     .reply = "451 4.3.0 S/MIME processing is not possible now"},
    {"unknown cannot be better than an address", &sign,
     .signers = {"none unknown", "address valid"}, .recipients = {"-"}, .layers = "S", .signer = 1,
     .copies = "0", .reply = ""},
    {"a missing key is said before the signer's trouble", &both, .signers = {"domain expired"},
     .recipients = {"-"}, .layers = "SE", .signer = -1,
     .reply = "550 5.7.5 no encryption certificate for u0@x.example"},
};

static void fill_signer(struct facts *facts, const char *text)
{
    static const char *const validities[] = {[FACTS_VALID] = "valid",
                                             [FACTS_EXPIRED] = "expired",
                                             [FACTS_NOT_YET_VALID] = "early",
                                             [FACTS_UNKNOWN] = "unknown"};
    struct facts_signer *signer = &facts->signers[facts->signer_count];
    char covers[16];
    char validity[16];
    assert_int_equal(sscanf(text, "%15s %15s", covers, validity), 2);
    *signer = (struct facts_signer){.identity = facts->signer_count, .name = "s"};
    if (strcmp(covers, "address") == 0)
        signer->covers = CERTIFICATE_MATCHES_ADDRESS;
    else if (strcmp(covers, "domain") == 0)
        signer->covers = CERTIFICATE_MATCHES_DOMAIN;
    while (strcmp(validities[signer->validity], validity) != 0)
        signer->validity++;
    facts->signer_count++;
}

static void fill_recipient(struct facts *facts, const char *text, size_t certificates[4])
{
    size_t i = facts->recipient_count++;
    struct facts_recipient *recipient = &facts->recipients[i];
    *recipient = (struct facts_recipient){.certificates = certificates};
    snprintf(recipient->address, sizeof recipient->address, "u%zu@x.example", i);
    for (; *text && *text != '-'; text++) {
        if (*text == 'h')
            recipient->is_hidden = true;
        else if (*text == 'l')
            recipient->is_local = true;
        else if (*text == 'r' || *text == 'e')
            recipient->key_types |= *text == 'r' ? FACTS_RSA : FACTS_EC;
        else
            certificates[recipient->certificate_count++] = (size_t)(*text - '0');
    }
}

static void describe_plan(const struct facts *facts, const struct plan *plan, char *layers,
                          char *copies, char *reply)
{
    const struct verdict *verdict = &plan->verdict;
    for (size_t i = 0; i < plan->layer_count; i++)
        *layers++ = plan->layers[i] == PLAN_SIGN ? 'S' : 'E';
    *layers = 0;
    for (size_t i = 0; i < facts->recipient_count; i++) {
        if (plan->copy_of[i] != PLAN_NONE)
            *copies++ =
                plan->copy_of[i] == plan->clear_copy ? 'c' : (char)('0' + (int)plan->copy_of[i]);
    }
    *copies = 0;
    *reply = 0;
    if (verdict->kind == VERDICT_DROP)
        sprintf(reply, "drop %s", verdict->text);
    else if (verdict->kind != VERDICT_DELIVER)
        sprintf(reply, "%s %s %s", verdict->code, verdict->enhanced, verdict->text);
}

static void test_plan(void **state)
{
    const struct policy_case *c = *state;
    struct facts_recipient recipients[RECIPIENTS_MAX];
    size_t certificates[RECIPIENTS_MAX][4];
    struct facts facts = {.profile = c->profile,
                          .protects_local = !c->local_clear,
                          .content = c->content,
                          .content_reason = "the reason",
                          .recipients = recipients};
    struct plan plan;
    char layers[8], copies[16], reply[400];
    snprintf(facts.from, sizeof facts.from, "%s", c->from ? c->from : "bob@a.example");
    for (size_t i = 0; i < 3 && c->signers[i]; i++)
        fill_signer(&facts, c->signers[i]);
    for (size_t i = 0; i < RECIPIENTS_MAX && c->recipients[i]; i++)
        fill_recipient(&facts, c->recipients[i], certificates[i]);
    assert_int_equal(policy_plan(&facts, &plan, NULL), ERR_OK);
    describe_plan(&facts, &plan, layers, copies, reply);
    assert_string_equal(reply, c->reply);
    assert_string_equal(layers, c->layers ? c->layers : "");
    if (plan.verdict.kind == VERDICT_DELIVER)
        assert_string_equal(copies, c->copies);
    assert_int_equal(plan.signer == PLAN_NONE ? -1 : (int)plan.signer, c->signer);
    plan_clear(&plan);
}

// Whatever the facts, what a profile is to encrypt leaves in clear only to those the profile splits
// off or who are local and exempt.
static void test_never_in_clear(void **state)
{
    (void)state;
    static const struct profile *const profiles[] = {&encrypt, &both, &both_drop, &triple};
    static const enum facts_content contents[] = {FACTS_PLAIN, FACTS_SIGNED, FACTS_BROKEN};
    static const char *const kinds[] = {"-", "r0", "e1", "hr2", "l-"};
    size_t certificates[2][4];
    for (size_t n = 0; n < 4 * 3 * 5 * 5; n++) {
        struct facts_recipient recipients[2];
        struct facts facts = {.profile = profiles[n % 4],
                              .protects_local = true,
                              .content = contents[n / 4 % 3],
                              .from = "bob@a.example",
                              .recipients = recipients};
        struct plan plan;
        fill_signer(&facts, "domain valid");
        fill_recipient(&facts, kinds[n / 12 % 5], certificates[0]);
        fill_recipient(&facts, kinds[n / 60 % 5], certificates[1]);
        assert_int_equal(policy_plan(&facts, &plan, NULL), ERR_OK);
        if (plan.verdict.kind == VERDICT_DELIVER) {
            assert_int_equal(plan.clear_copy, PLAN_NONE);
            assert_true(plan.layer_count > 0);
            for (size_t i = 0; i < 2; i++)
                assert_true(recipients[i].certificate_count > 0);
        }
        plan_clear(&plan);
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct facts facts = {.profile = &sign};
    struct plan plan;
    mem_fail_at(1);
    assert_int_equal(policy_plan(&facts, &plan, NULL), ERR_TEMP);
    mem_fail_at(0);
    plan_clear(&plan);
}

int main(void)
{
    enum { COUNT = sizeof cases / sizeof *cases };
    static struct CMUnitTest tests[COUNT + 2];
    for (size_t i = 0; i < COUNT; i++)
        tests[i] = (struct CMUnitTest){
            .name = cases[i].name, .test_func = test_plan, .initial_state = (void *)&cases[i]};
    tests[COUNT] = (struct CMUnitTest)cmocka_unit_test(test_never_in_clear);
    tests[COUNT + 1] = (struct CMUnitTest)cmocka_unit_test(test_out_of_memory);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
