// SPDX-License-Identifier: Apache-2.0
// Every act there is, over the real officers' socket, with a quorum of two: what one officer
// proposes, and says twice, and an auditor says, changes nothing in registry or tokens; two carry
// it out.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/x509.h>

#include "hsmd/registry/registry.h"
#include "tests/integration/chamber.h"
#include "tests/support/pki.h"

#define DUMP_MAX ((size_t)16 << 20)
#define TWIN PKI_RSA_2048      // was in both tokens before
#define BROUGHT PKI_RSA_2048_B // is imported
#define CLIENT_KEY "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

#define T(text) BYTES_LITERAL(text)

static struct chamber chamber;
static uint8_t certificate[4096], public_key[1024], private_key[4096];

// In an order in which each can be done. What is made above is put into them by setup.
static struct act acts[] = {
    {.kind = ACT_KEY_GENERATE,
     .name = T("signing"),
     .tokens = T("main"),
     .type = WIRE_KEY_EC,
     .bits = 256,
     .purpose = WIRE_SMIME_SIGN,
     .algorithms = REGISTRY_ALL},
    {.kind = ACT_KEY_IMPORT,
     .name = T("brought"),
     .tokens = T("main,spare"),
     .purpose = WIRE_SMIME_DECRYPT,
     .algorithms = REGISTRY_ALL},
    {.kind = ACT_KEY_ADOPT,
     .name = T("twin"),
     .tokens = T("main"),
     .label = T("twin"),
     .purpose = WIRE_GENERAL,
     .algorithms = REGISTRY_ALL},
    {.kind = ACT_KEY_PLACE, .name = T("twin"), .tokens = T("spare"), .label = T("twin")},
    {.kind = ACT_KEY_REQUEST,
     .name = T("signing"),
     .common_name = T("mail.a.example"),
     .hash = HASH_SHA256},
    {.kind = ACT_KEY_SELF_SIGN,
     .name = T("signing"),
     .common_name = T("mail.a.example"),
     .hash = HASH_SHA256,
     .days = 30},
    {.kind = ACT_KEY_CERTIFICATE, .name = T("twin")},
    {.kind = ACT_KEY_LIMIT, .name = T("twin"), .per_hour = 5},
    {.kind = ACT_KEY_ENABLE, .name = T("twin")},
    {.kind = ACT_CLIENT_ADD, .name = T("gw1"), .curve_key = T(CLIENT_KEY)},
    {.kind = ACT_GRANT,
     .name = T("gw1"),
     .key = T("twin"),
     .operations = REGISTRY_SET(WIRE_SIGN),
     .algorithms = REGISTRY_ALL},
    {.kind = ACT_UNGRANT, .name = T("gw1"), .key = T("twin")},
    {.kind = ACT_CLIENT_REVOKE, .name = T("gw1")},
    {.kind = ACT_KEY_RETIRE, .name = T("twin")},
    {.kind = ACT_KEY_DISABLE, .name = T("twin")},
    {.kind = ACT_KEY_DESTROY, .name = T("twin")},
    {.kind = ACT_OFFICER_ADD, .name = T("eve"), .role = OFFICER_OFFICER},
    {.kind = ACT_OFFICER_REMOVE, .name = T("eve")},
    {.kind = ACT_LOCK, .name = T("main")},
    {.kind = ACT_UNLOCK, .name = T("main")},
    {.kind = ACT_QUORUM, .number = 3}, // the last one that two can do
};

static struct act *find(enum act_kind kind)
{
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (acts[i].kind == kind)
            return &acts[i];
    }
    fail_msg("act %d is done by nobody here", kind);
    return NULL;
}

static size_t private_key_len;

static void fill_acts(void)
{
    const struct pki_request request = {.name = "twin.a.example", .key = TWIN};
    uint8_t *at = certificate;
    X509 *x509 = pki_certificate(&request, NULL, NULL);
    assert_true(i2d_X509(x509, NULL) <= (int)sizeof certificate);
    find(ACT_KEY_CERTIFICATE)->certificates = bytes_of(certificate, (size_t)i2d_X509(x509, &at));
    X509_free(x509);
    at = public_key;
    find(ACT_KEY_IMPORT)->public_key =
        bytes_of(public_key, (size_t)i2d_PUBKEY(pki_key(BROUGHT), &at));
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pki_key(BROUGHT));
    at = private_key;
    private_key_len = (size_t)i2d_PKCS8_PRIV_KEY_INFO(info, &at);
    PKCS8_PRIV_KEY_INFO_free(info);
    struct act *add = find(ACT_OFFICER_ADD);
    add->public_key = bytes_of(chamber.keys[EVE].public_signing, OFFICER_SIGNING_KEY_SIZE);
    add->curve_key = bytes_of_text(chamber.keys[EVE].public_curve);
}

static int setup(void **state)
{
    char tokens[400];
    struct softhsm_key twin = {.label = "twin", .id = 0x78};
    (void)state;
    chamber_setup(&chamber);
    softhsm_add_token(&chamber.hsmd.hsm, "spare");
    softhsm_import_key(&chamber.hsmd.hsm, &twin, pki_key(TWIN));
    twin.token = "spare";
    softhsm_import_key(&chamber.hsmd.hsm, &twin, pki_key(TWIN));
    snprintf(tokens, sizeof tokens,
             "pin-file = \"pin\" }\ntoken spare { module = \"%s\" label = \"spare\" sessions = 2 "
             "pin-file = \"pin\"",
             softhsm_module());
    fill_acts();
    chamber_configure(&chamber, 3, 2, softhsm_module(), tokens);
    chamber_start(&chamber);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    chamber_teardown(&chamber);
    return 0;
}

// All that an act can change: the registry but for proposals, and the private keys in the tokens
// (null: locked).
static void look(struct buf *out)
{
    buf_init(out, DUMP_MAX);
    chamber_dump(&chamber, false, out);
    static const char *const tokens[] = {"main", "spare"};
    for (size_t i = 0; i < 2; i++) {
        json_t *objects = chamber_read(&chamber, DAVE, READ_OBJECTS, tokens[i]);
        char *text = objects ? json_dumps(objects, JSON_SORT_KEYS) : NULL;
        assert_int_equal(buf_printf(out, "%s: %s\n", tokens[i], text ? text : "null"), ERR_OK);
        free(text);
        json_decref(objects);
    }
}

static void require_state(uint64_t number, const char *kind, const char *want)
{
    char state[16];
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    chamber_look(&chamber, number, state, digest);
    if (strcmp(state, want) != 0)
        fail_msg("%s: %s, not %s", kind, state, want);
}

static uint64_t propose(const struct act *act)
{
    struct buf frame;
    struct answer answer;
    struct proposing proposing = {.signer = ALICE, .act = *act};
    if (act->kind == ACT_KEY_IMPORT)
        proposing.attached = bytes_of(private_key, private_key_len);
    if (act->kind == ACT_UNLOCK)
        proposing.attachment = SOFTHSM_PIN;
    chamber_put_proposal(&chamber, &proposing, &frame);
    chamber_send(&chamber, ALICE, buf_bytes(&frame), &answer);
    if (!answer.is_answered || answer.class != ERR_OK)
        fail_msg("%s: %s", act_kind_name(act->kind), answer.detail);
    uint64_t number = (uint64_t)json_integer_value(json_object_get(answer.body, "number"));
    answer_clear(&answer);
    buf_clear(&frame);
    return number;
}

static void judge(enum member member, uint64_t number, const char *kind, enum err want)
{
    struct answer answer;
    chamber_judge(&chamber, member, number, false, &answer);
    if (!answer.is_answered || answer.class != want)
        fail_msg("%s: %d, class %d: %s", kind, answer.is_answered, answer.class, answer.detail);
    answer_clear(&answer);
}

static void test_every_act(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        const char *kind = act_kind_name(acts[i].kind);
        struct buf before, alone, after;
        look(&before);
        uint64_t number = propose(&acts[i]);
        judge(ALICE, number, kind, ERR_PERM);
        judge(DAVE, number, kind, ERR_DENIED);
        require_state(number, kind, "pending");
        look(&alone);
        if (!bytes_equal(buf_bytes(&before), buf_bytes(&alone)))
            fail_msg("%s by one alone: it was\n%s\nand is\n%s", kind, buf_text(&before),
                     buf_text(&alone));
        judge(BOB, number, kind, ERR_OK);
        require_state(number, kind, "done");
        look(&after);
        // A request is in the answer alone.
        if (bytes_equal(buf_bytes(&before), buf_bytes(&after)) != (acts[i].kind == ACT_KEY_REQUEST))
            fail_msg("%s by two: it was\n%s\nand is\n%s", kind, buf_text(&before),
                     buf_text(&after));
        buf_clear(&before);
        buf_clear(&alone);
        buf_clear(&after);
    }
#define X(symbol, number, name, attachment, what) assert_non_null(find(symbol));
    ACT_KINDS(X)
#undef X
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_act)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
