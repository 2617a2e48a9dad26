// SPDX-License-Identifier: Apache-2.0
// Acts there and back, and what people are told of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"
#include "hsmd/registry/registry.h"
#include "tests/support/act_json.h"
#include "tests/support/officers_samples.h"

static void encode(const struct act *act, struct buf *out)
{
    struct detail detail = {0};
    buf_reset(out);
    if (act_encode(act, out, &detail) != ERR_OK)
        fail_msg("%s: %s", act_kind_name(act->kind), detail.text);
}

static void test_round_trip(void **state)
{
    size_t count = 0;
    const struct act_sample *samples = act_samples(&count);
    uint64_t kinds = 0;
    uint64_t all = 0;
    struct buf first;
    struct buf second;
    (void)state;
    buf_init(&first, ACT_SIZE_MAX);
    buf_init(&second, ACT_SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        struct act act = {0};
        struct detail detail = {0};
        encode(&samples[i].act, &first);
        if (act_decode(buf_bytes(&first), &act, &detail) != ERR_OK)
            fail_msg("%s: %s", samples[i].name, detail.text);
        encode(&act, &second);
        assert_true(bytes_equal(buf_bytes(&first), buf_bytes(&second)));
        assert_int_equal(act.kind, samples[i].act.kind);
        assert_true(bytes_equal(act.name, samples[i].act.name));
        assert_int_equal(act.per_minute, samples[i].act.per_minute);
        assert_int_equal(act.algorithms, samples[i].act.algorithms);
        assert_int_equal(act.any_name, samples[i].act.any_name);
        assert_true(bytes_equal(act.certificates, samples[i].act.certificates));
        kinds |= REGISTRY_SET(act.kind);
    }
#define X(symbol, number, name, attachment, verb)     \
    all |= REGISTRY_SET(number);                      \
    assert_string_equal(act_kind_name(symbol), name); \
    assert_int_equal(act_attachment(symbol), (attachment));
    ACT_KINDS(X)
#undef X
    assert_int_equal(kinds, all);
    assert_null(act_kind_name((enum act_kind)99));
    buf_clear(&first);
    buf_clear(&second);
}

// Every kind's encoding, cut anywhere, or with something behind it.
static void test_cut(void **state)
{
    size_t count = 0;
    const struct act_sample *samples = act_samples(&count);
    struct buf data;
    (void)state;
    buf_init(&data, ACT_SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        struct act act = {0};
        encode(&samples[i].act, &data);
        size_t len = data.len;
        assert_int_equal(buf_put(&data, "", 1), ERR_OK);
        for (size_t cut = 0; cut <= len + 1; cut++) {
            enum err wanted = cut == len ? ERR_OK : ERR_PERM;
            // Long ones: only at their ends.
            if (cut > 200 && cut + 100 < len)
                continue;
            uint8_t *copy = malloc(cut ? cut : 1); // so that ASan sees a byte too many
            memcpy(copy, data.data, cut);
            assert_int_equal(act_decode(bytes_of(copy, cut), &act, NULL), wanted);
            free(copy);
        }
    }
    buf_clear(&data);
}

static void test_canonical(void **state)
{
    static const struct {
        const char *name;
        struct bytes encoding;
        const char *why; // NULL: it is good
    } rows[] = {
        {"shortest", BYTES_LITERAL("\x93\x01\x08\xa1k"), NULL},
        {"long array", BYTES_LITERAL("\xdc\x00\x03\x01\x08\xa1k"), "shortest"},
        {"long version", BYTES_LITERAL("\x93\xcc\x01\x08\xa1k"), "shortest"},
        {"long kind", BYTES_LITERAL("\x93\x01\xcd\x00\x08\xa1k"), "shortest"},
        {"long string", BYTES_LITERAL("\x93\x01\x08\xd9\x01k"), "shortest"},
        {"binary for string", BYTES_LITERAL("\x93\x01\x08\xc4\x01k"), "not a string"},
        {"version 2", BYTES_LITERAL("\x93\x02\x08\xa1k"), "no such version 2"},
        {"no kind", BYTES_LITERAL("\x93\x01\x0d\xa1k"), "no such kind 13"},
        {"kind of 64 bits", BYTES_LITERAL("\x93\x01\xcf\x00\x00\x00\x01\x00\x00\x00\x08\xa1k"),
         "out of range"},
        {"one too many", BYTES_LITERAL("\x94\x01\x08\xa1k\x01"), "4 elements instead of 3"},
        {"one too few", BYTES_LITERAL("\x92\x01\x08"), "2 elements instead of 3"},
        {"nested", BYTES_LITERAL("\x93\x01\x08\x91\xa1k"), "not a string"},
        {"nothing", {NULL, 0}, "cut short"},
        {"control character", BYTES_LITERAL("\x93\x01\x08\xa2k\x1b"), "not a name"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct act act = {0};
        struct detail detail = {0};
        enum err err = act_decode(rows[i].encoding, &act, &detail);
        if ((err == ERR_OK) != !rows[i].why)
            fail_msg("%s: %s %s", rows[i].name, err_name(err), detail.text);
        if (rows[i].why && !strstr(detail.text, rows[i].why))
            fail_msg("%s: \"%s\"", rows[i].name, detail.text);
        if (rows[i].why)
            assert_int_equal(act.kind, 0); // outputs only on success
    }
}

static void test_explain(void **state)
{
    size_t count = 0;
    const struct act_sample *samples = act_samples(&count);
    struct buf text;
    (void)state;
    buf_init(&text, ACT_EXPLANATION_MAX);
    for (size_t i = 0; i < count; i++) {
        buf_reset(&text);
        assert_int_equal(act_explain(&samples[i].act, &text), ERR_OK);
        assert_string_equal(buf_text(&text), samples[i].explanation);
        buf_reset(&text);
        assert_int_equal(act_summary(&samples[i].act, &text), ERR_OK);
        assert_string_equal(buf_text(&text), samples[i].summary);
    }
    buf_clear(&text);
}

// The first line of what depends on the fields, where no sample shows it.
static void test_explain_variants(void **state)
{
    static const struct {
        struct act act;
        const char *line;
    } rows[] = {
        {{.kind = ACT_KEY_GENERATE,
          .name = BYTES_LITERAL("k"),
          .tokens = BYTES_LITERAL("t"),
          .type = WIRE_KEY_EC,
          .bits = 256,
          .purpose = WIRE_AUDIT},
         "Generate a new key \"k\" (ec:p256) in token \"t\", for signing the audit log's "
         "checkpoints, and nothing else (audit). Its private half is made in the token and does "
         "not leave it. It cannot be used until it is enabled.\n"},
        {{.kind = ACT_KEY_SELF_SIGN,
          .name = BYTES_LITERAL("k"),
          .common_name = BYTES_LITERAL("x"),
          .hash = HASH_SHA256,
          .days = 1},
         "Sign a certificate for key \"k\" with the key itself, for the names below, valid for 1 "
         "day. Whoever trusts it takes what the key signs for theirs.\n"},
        {{.kind = ACT_GRANT,
          .name = BYTES_LITERAL("{key}"),
          .key = BYTES_LITERAL("%s"),
          .operations = REGISTRY_SET(WIRE_AGREE),
          .algorithms = REGISTRY_ALL},
         "Let client \"{key}\" use key \"%s\". From then on client \"{key}\" can have everything "
         "decrypted that was encrypted for key \"%s\", within the limits below, whenever the key "
         "is enabled. This takes the place of every grant it has for this key by then: what is "
         "not below it can do no longer.\n"},
    };
    struct buf text;
    (void)state;
    buf_init(&text, ACT_EXPLANATION_MAX);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        buf_reset(&text);
        assert_int_equal(act_explain(&rows[i].act, &text), ERR_OK);
        assert_int_equal(strncmp(buf_text(&text), rows[i].line, strlen(rows[i].line)), 0);
    }
    buf_clear(&text);
}

// Of two certificates: both are told of.
static void test_explain_certificates(void **state)
{
    size_t count = 0;
    const struct act_sample *sample = act_samples(&count);
    struct buf two;
    struct buf text;
    (void)state;
    while (sample->act.kind != ACT_KEY_CERTIFICATE)
        sample++;
    buf_init(&two, 2 * WIRE_CERTIFICATES_MAX);
    buf_init(&text, ACT_EXPLANATION_MAX);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(buf_put_bytes(&two, sample->act.certificates), ERR_OK);
    struct act act = sample->act;
    act.certificates = buf_bytes(&two);
    assert_int_equal(act_explain(&act, &text), ERR_OK);
    const char *wanted = "Put 2 certificates beside key \"signing\", in place of what is there. "
                         "From then on clients are given them with the key.\n  key: \"signing\"\n";
    assert_memory_equal(buf_text(&text), wanted, strlen(wanted));
    buf_clear(&two);
    buf_clear(&text);
}

// A word that the explanation of a sample must have.
static void test_explain_has(void **state)
{
    static const struct {
        const char *sample;
        const char *text;
    } rows[] = {
        {"certificate", "Put 1 certificate beside key \"signing\", in place of what is there."},
        {"certificate", "  certificate: SHA-256 "},
        {"certificate", "  subject: \""},
        {"certificate", "  issuer: \""},
        {"certificate", "  serial: "},
        {"certificate", "  valid from: 20"},
        {"certificate", "  valid to: 2"},
        {"certificate", "  public-key: rsa:"},
        {"import", "  public-key: rsa:"},
        {"import", ", SHA-256 "},
        {"import", "tokens \"main\" and \"spare\""},
        {"destroy-there", "the copies of key \"signing\" in tokens \"a\", \"b\" and \"c\""},
        {"destroy-there", "This cannot be undone"},
        {"auditor-add", "read everything here, and change nothing"},
        {"grant-algorithms", "  algorithms: rsa-pss, ecdsa"},
        {"limit-none", "  per-minute: no limit\n"},
        {"quorum-2", "2 officers must agree to every act"},
        {"self-sign", "valid for 365 days"},
        {"unlock", "token \"main\" with the PIN that comes with this proposal"},
    };
    size_t count = 0;
    const struct act_sample *samples = act_samples(&count);
    struct buf text;
    (void)state;
    buf_init(&text, ACT_EXPLANATION_MAX);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t at = 0;
        while (at < count && strcmp(samples[at].name, rows[i].sample) != 0)
            at++;
        assert_true(at < count);
        buf_reset(&text);
        assert_int_equal(act_explain(&samples[at].act, &text), ERR_OK);
        if (!strstr(buf_text(&text), rows[i].text))
            fail_msg("%s: no \"%s\" in:\n%s", rows[i].sample, rows[i].text, buf_text(&text));
    }
    buf_clear(&text);
}

// Nothing of a long text is cut, and what a terminal would obey does not get through, even of an
// act that no decoder has seen.
static void test_explain_hostile(void **state)
{
    char long_name[ACT_TEXT_MAX];
    struct buf text;
    (void)state;
    memset(long_name, '\x1b', sizeof long_name);
    long_name[sizeof long_name - 1] = 'Z';
    const struct act act = {.kind = ACT_KEY_REQUEST,
                            .name = BYTES_LITERAL("k\n  key: \"x\""),
                            .common_name = bytes_of(long_name, sizeof long_name),
                            .hash = HASH_SHA256};
    buf_init(&text, ACT_EXPLANATION_MAX);
    assert_int_equal(act_explain(&act, &text), ERR_OK);
    assert_null(strchr(buf_text(&text), '\x1b'));
    assert_null(strstr(buf_text(&text), "\n  key: \"x\""));
    assert_non_null(strstr(buf_text(&text), "\\x1bZ\"\n"));
    buf_clear(&text);
    buf_init(&text, 10); // no room: all or nothing
    assert_int_equal(act_explain(&act, &text), ERR_PERM);
    assert_int_equal(text.len, 0);
    buf_clear(&text);
}

static void test_json(void **state)
{
    static const struct {
        const char *sample;
        const char *json;
    } rows[] = {
        {"generate-rsa", "{\"kind\":\"key-generate\",\"name\":\"signing\",\"tokens\":[\"main\"],"
                         "\"type\":\"rsa:3072\","
                         "\"purpose\":\"smime-sign\",\"algorithms\":null}"},
        {"grant",
         "{\"kind\":\"grant\",\"name\":\"gateway-1\",\"key\":\"signing\",\"operations\":[\"sign\","
         "\"unwrap\"],\"algorithms\":null,\"per_minute\":60,\"per_hour\":null,\"total\":null,"
         "\"failures_per_hour\":null}"},
        {"adopt",
         "{\"kind\":\"key-adopt\",\"name\":\"found\",\"tokens\":[\"main\"],\"label\":\"k\xc3\xb6y "
         "\\\"one\\\"\",\"id\":\"01ab\",\"purpose\":\"general\",\"algorithms\":null}"},
        {"self-sign",
         "{\"kind\":\"key-self-sign\",\"name\":\"signing\",\"common_name\":\"x\",\"organization\":"
         "\"\",\"unit\":\"\",\"city\":\"\",\"state\":\"\",\"country\":\"\",\"domains\":[],"
         "\"emails\":[],\"hash\":\"sha256\",\"pss\":false,\"any_name\":true,\"days\":365}"},
        {"quorum-2", "{\"kind\":\"quorum\",\"number\":2}"},
    };
    size_t count = 0;
    const struct act_sample *samples = act_samples(&count);
    (void)state;
    for (size_t i = 0; i < count; i++) {
        json_t *json = act_json(&samples[i].act);
        assert_non_null(json);
        char *text = json_dumps(json, JSON_COMPACT);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            if (strcmp(rows[r].sample, samples[i].name) == 0)
                assert_string_equal(text, rows[r].json);
        }
        free(text);
        json_decref(json);
    }
}

static void test_types(void **state)
{
    static const struct {
        const char *text;
        enum wire_key_type type; // 0: none
        unsigned bits;
    } rows[] = {
        {"rsa:2048", WIRE_KEY_RSA, 2048},
        {"rsa:8192", WIRE_KEY_RSA, 8192},
        {"ec:p256", WIRE_KEY_EC, 256},
        {"ec:p384", WIRE_KEY_EC, 384},
        {"ec:p521", WIRE_KEY_EC, 521},
        {"ed25519", WIRE_KEY_ED25519, 256},
        {"ed25519:256", 0, 0},
        {"ed448", 0, 0},
        {"rsa:1024", 0, 0},
        {"rsa:2047", 0, 0},
        {"rsa:02048", 0, 0},
        {"rsa:+3072", 0, 0},
        {"rsa:3072x", 0, 0},
        {"rsa:4294970368", 0, 0},
        {"rsa", 0, 0},
        {"rsa:", 0, 0},
        {"ec:256", 0, 0},
        {"ec:p224", 0, 0},
        {"", 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum wire_key_type type = (enum wire_key_type)0;
        unsigned bits = 0;
        char text[ACT_TYPE_SIZE];
        assert_int_equal(act_type_by_name(rows[i].text, &type, &bits), rows[i].type != 0);
        assert_int_equal(type, rows[i].type);
        assert_int_equal(bits, rows[i].bits);
        if (type)
            assert_string_equal(act_type_text(type, bits, text), rows[i].text);
    }
}

// The n-th allocation fails: an error, nothing leaked, nothing half done.
static void test_memory(void **state)
{
    size_t count = 0;
    const struct act_sample *samples = act_samples(&count);
    struct buf data;
    (void)state;
    buf_init(&data, ACT_SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        struct buf out;
        struct act act = {0};
        encode(&samples[i].act, &data);
        buf_init(&out, ACT_EXPLANATION_MAX);
        mem_fail_at(1);
        assert_int_equal(act_decode(buf_bytes(&data), &act, NULL), ERR_TEMP);
        mem_fail_at(1);
        assert_int_equal(act_encode(&samples[i].act, &out, NULL), ERR_TEMP);
        mem_fail_at(1);
        assert_int_equal(act_explain(&samples[i].act, &out), ERR_TEMP);
        assert_int_equal(out.len, 0);
        mem_fail_at(0);
        buf_clear(&out);
    }
    buf_clear(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_explain_variants),
        cmocka_unit_test(test_explain_certificates),
        cmocka_unit_test(test_explain_has),
        cmocka_unit_test(test_explain_hostile),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
