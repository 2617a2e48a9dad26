// SPDX-License-Identifier: Apache-2.0
// Acts that hang in a token, or that hsmd is killed in, over the real sockets: what needs no token
// is done all the same, at once; what is left in a token can be seen and destroyed.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/x509.h>

#include "hsmd/registry/registry.h"
#include "tests/integration/chamber.h"
#include "tests/support/custodian.h"
#include "tests/support/pki.h"

#define WAIT_MS 20000
#define AT_ONCE_MS 3000 // less than a request may take here (4 s) before hsmd gives it up

#define T(text) BYTES_LITERAL(text)

static struct chamber chamber;
static struct buf attributes;
static struct client *client;

static void do_act(const struct act *act)
{
    uint64_t number = chamber_must_propose(&chamber, CAROL, act, NULL);
    chamber_must_judge(&chamber, ALICE, number, false);
}

static void do_named(enum act_kind kind, const char *name)
{
    const struct act act = {.kind = kind, .name = bytes_of_text(name)};
    do_act(&act);
}

static void add_client(void)
{
    char key[CURVE_TEXT_SIZE];
    assert_int_equal(curve_read_public(hsmd_path(&chamber.hsmd, "gw.pub"), key, NULL), ERR_OK);
    const struct act add = {
        .kind = ACT_CLIENT_ADD, .name = T("gateway"), .curve_key = bytes_of_text(key)};
    const struct act grant = {.kind = ACT_GRANT,
                              .name = T("gateway"),
                              .key = T("signing"),
                              .operations = REGISTRY_SET(WIRE_SIGN),
                              .algorithms = REGISTRY_ALL};
    do_act(&add);
    do_act(&grant);
}

static int setup(void **state)
{
    const struct act adopt = {.kind = ACT_KEY_ADOPT,
                              .name = T("signing"),
                              .tokens = T("main"),
                              .label = T("p256"),
                              .purpose = WIRE_SMIME_SIGN,
                              .algorithms = REGISTRY_ALL};
    (void)state;
    chamber_setup(&chamber);
    hsmd_use_shim(&chamber.hsmd);
    hsmd_shim(&chamber.hsmd, "");
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    chamber_configure(&chamber, 3, 2, SHIM_PATH, "pin-file = \"pin\"");
    chamber_start(&chamber);
    do_act(&adopt);
    do_named(ACT_KEY_ENABLE, "signing");
    add_client();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_clear(&attributes);
    chamber_teardown(&chamber);
    return 0;
}

static enum err sign(void)
{
    struct buf frame;
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .sign = {.key = T("signing"),
                                            .algorithm = WIRE_ECDSA,
                                            .hash = HASH_SHA256,
                                            .form = WIRE_ATTRIBUTES,
                                            .data = buf_bytes(&attributes)}};
    buf_init(&frame, WIRE_FRAME_MAX);
    enum err err = client_call(client, &request, &frame, &reply, NULL);
    buf_clear(&frame);
    return err;
}

static uint64_t propose(const struct proposing *proposing)
{
    struct buf frame;
    struct answer answer;
    chamber_put_proposal(&chamber, proposing, &frame);
    chamber_send(&chamber, ALICE, buf_bytes(&frame), &answer);
    if (!answer.is_answered || answer.class != ERR_OK)
        fail_msg("%s", answer.detail);
    uint64_t number = (uint64_t)json_integer_value(json_object_get(answer.body, "number"));
    answer_clear(&answer);
    buf_clear(&frame);
    return number;
}

// Alice and bob agree on it, and its token does not come back from that function. Bob hangs up.
static uint64_t begin_hanging(const struct proposing *proposing, const char *function)
{
    char faults[80];
    struct buf frame;
    struct answer answer;
    snprintf(faults, sizeof faults, "count %s\nhang %s\n", function, function);
    uint64_t number = propose(proposing);
    unsigned calls = hsmd_shim_calls(&chamber.hsmd, function);
    hsmd_shim(&chamber.hsmd, faults);
    const struct judging judging = chamber_judging(&chamber, BOB, number);
    chamber_put_verdict(&chamber, &judging, &frame);
    chamber.wait_ms = 300;
    chamber_send(&chamber, BOB, buf_bytes(&frame), &answer);
    chamber.wait_ms = 0;
    assert_false(answer.is_answered);
    chamber_hang_up(&chamber, BOB);
    buf_clear(&frame);
    deadline_t until = deadline_in(WAIT_MS);
    while (hsmd_shim_calls(&chamber.hsmd, function) == calls && !deadline_is_past(until))
        usleep(20000);
    assert_true(hsmd_shim_calls(&chamber.hsmd, function) > calls);
    return number;
}

// Once the act has ended, one way or the other, the next one is done.
static void wait_for_end(uint64_t number)
{
    char state[16] = "pending";
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    deadline_t until = deadline_in(WAIT_MS);
    while (strcmp(state, "pending") == 0 && !deadline_is_past(until)) {
        usleep(50000);
        chamber_look(&chamber, number, state, digest);
    }
    if (strcmp(state, "done") != 0 && strcmp(state, "failed") != 0)
        fail_msg("state %s", state);
}

// A key that is not to be used, and a gateway that is not to have it, do not wait for a token.
static void test_hanging(void **state)
{
    static const struct {
        const char *function;
        struct act act;
    } rows[] = {
        {"C_GenerateKeyPair",
         {.kind = ACT_KEY_GENERATE,
          .name = T("new"),
          .tokens = T("main"),
          .type = WIRE_KEY_EC,
          .bits = 256,
          .purpose = WIRE_SMIME_SIGN,
          .algorithms = REGISTRY_ALL}},
        {"C_SignInit",
         {.kind = ACT_KEY_SELF_SIGN,
          .name = T("signing"),
          .common_name = T("mail.a.example"),
          .hash = HASH_SHA256,
          .days = 30}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct proposing proposing = {.signer = ALICE, .act = rows[i].act};
        client = hsmd_client(&chamber.hsmd, "gw", 5000);
        assert_int_equal(sign(), ERR_OK);
        unsigned uses = chamber_lines(&chamber, "\"event\":\"use\"", "gateway");
        uint64_t number = begin_hanging(&proposing, rows[i].function);
        deadline_t limit = deadline_in(AT_ONCE_MS);
        do_named(ACT_KEY_DISABLE, "signing");
        assert_int_equal(sign(), ERR_DENIED);
        do_named(ACT_CLIENT_REVOKE, "gateway");
        assert_false(deadline_is_past(limit));
        assert_false(chamber_has_client(&chamber, "gateway"));
        assert_int_equal(sign(), ERR_TEMP); // not even answered
        assert_int_equal(chamber_lines(&chamber, "\"event\":\"use\"", "gateway"), uses);
        hsmd_shim(&chamber.hsmd, "");
        wait_for_end(number);
        client_close(client);
        do_named(ACT_KEY_ENABLE, "signing");
        add_client();
    }
}

// How many private keys with that label the token has; id: the CKA_ID of the last one.
static unsigned count_objects(const char *label, struct buf *id)
{
    const json_t *item = NULL;
    size_t i = 0;
    unsigned count = 0;
    json_t *list = chamber_read(&chamber, DAVE, READ_OBJECTS, "main");
    assert_non_null(list);
    json_array_foreach(list, i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "label")), label) != 0)
            continue;
        assert_true(json_is_null(json_object_get(item, "known_as")));
        buf_reset(id);
        assert_int_equal(text_get_hex(json_string_value(json_object_get(item, "id")), id), ERR_OK);
        count++;
    }
    json_decref(list);
    return count;
}

// What officers do about a key that nobody knows: it is adopted, and destroyed.
static void clear_away(struct bytes id, unsigned number)
{
    char name[16];
    snprintf(name, sizeof name, "left-%u", number);
    const struct act adopt = {.kind = ACT_KEY_ADOPT,
                              .name = bytes_of_text(name),
                              .tokens = T("main"),
                              .id = id,
                              .purpose = WIRE_GENERAL,
                              .algorithms = REGISTRY_ALL};
    do_act(&adopt);
    do_named(ACT_KEY_DESTROY, name);
}

static void kill_and_start(void)
{
    for (unsigned i = 0; i < MEMBERS; i++)
        chamber_hang_up(&chamber, (enum member)i);
    assert_int_equal(hsmd_stop(&chamber.hsmd, SIGKILL), 1000 + SIGKILL);
    hsmd_shim(&chamber.hsmd, "");
    chamber_start(&chamber);
}

// A key to import. What it borrows lives until the next call.
static struct proposing importing(const char *name, enum pki_key key)
{
    static uint8_t public_key[1024], private_key[4096];
    uint8_t *at = public_key;
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pki_key(key));
    size_t public_len = (size_t)i2d_PUBKEY(pki_key(key), &at);
    at = private_key;
    size_t private_len = (size_t)i2d_PKCS8_PRIV_KEY_INFO(info, &at);
    PKCS8_PRIV_KEY_INFO_free(info);
    return (struct proposing){.signer = ALICE,
                              .act = {.kind = ACT_KEY_IMPORT,
                                      .name = bytes_of_text(name),
                                      .tokens = T("main"),
                                      .purpose = WIRE_GENERAL,
                                      .algorithms = REGISTRY_ALL,
                                      .public_key = bytes_of(public_key, public_len)},
                              .attached = bytes_of(private_key, private_len)};
}

static void import_cut_at(const char *function, const char *name, enum pki_key key, unsigned left)
{
    static unsigned number;
    struct answer answer;
    struct buf id;
    buf_init(&id, 64);
    const struct proposing proposing = importing(name, key);
    uint64_t proposal = begin_hanging(&proposing, function);
    kill_and_start();
    if (count_objects(name, &id) != left)
        fail_msg("%s: %u keys are left", function, count_objects(name, &id));
    // hsmd has the private key no more: there is nothing to go on with.
    chamber_judge(&chamber, BOB, proposal, false, &answer);
    assert_int_equal(answer.class, ERR_PERM);
    assert_non_null(strstr(answer.detail, "propose it again"));
    answer_clear(&answer);
    if (left)
        clear_away(buf_bytes(&id), number++);
    assert_int_equal(count_objects(name, &id), 0);
    buf_clear(&id);
}

static void test_import_killed(void **state)
{
    static const enum pki_key keys[] = {PKI_EC_P256, PKI_RSA_2048};
    static const char *const names[] = {"brought", "taken"};
    static const char said[] = "an interrupted import had left";
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        import_cut_at("C_CreateObject", names[i], keys[i], 0);  // of the public half
        import_cut_at("C_DestroyObject", names[i], keys[i], 1); // of the key it was wrapped with
        import_cut_at("C_UnwrapKey", names[i], keys[i], 0);     // of the private one
        assert_false(hsmd_said(&chamber.hsmd, said));
        const struct proposing whole = importing(names[i], keys[i]);
        chamber_must_judge(&chamber, BOB, propose(&whole), false);
        assert_true(hsmd_said(&chamber.hsmd, said));
        do_named(ACT_KEY_DESTROY, names[i]);
    }
}

// A key that was made and not recorded is taken by the same proposal.
static void test_generate_killed(void **state)
{
    struct buf id;
    char how[16];
    uint8_t digest[STATEMENT_DIGEST_SIZE];
    const struct proposing proposing = {.signer = ALICE,
                                        .act = {.kind = ACT_KEY_GENERATE,
                                                .name = T("made"),
                                                .tokens = T("main"),
                                                .type = WIRE_KEY_EC,
                                                .bits = 256,
                                                .purpose = WIRE_SMIME_SIGN,
                                                .algorithms = REGISTRY_ALL}};
    (void)state;
    buf_init(&id, 64);
    uint64_t number = begin_hanging(&proposing, "C_SignInit"); // to prove the pair
    kill_and_start();
    assert_int_equal(count_objects("made", &id), 1);
    chamber_must_judge(&chamber, BOB, number, false);
    chamber_look(&chamber, number, how, digest);
    assert_string_equal(how, "done");
    do_named(ACT_KEY_DESTROY, "made");
    assert_int_equal(count_objects("made", &id), 0);
    buf_clear(&id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hanging),
                                       cmocka_unit_test(test_import_killed),
                                       cmocka_unit_test(test_generate_killed)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
