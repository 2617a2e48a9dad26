// SPDX-License-Identifier: Apache-2.0
// Every field out of its bounds: refused, and the detail says which.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/registry/budget.h"
#include "hsmd/registry/registry.h"
#include "tests/support/officers_samples.h"

static char long_text[ACT_SIZE_MAX + 1];

static struct act sample(const char *name)
{
    size_t count = 0;
    const struct act_sample *samples = act_samples(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(samples[i].name, name) == 0)
            return samples[i].act;
    }
    fail_msg("no sample %s", name);
    return (struct act){0};
}

static void refused(const struct act *act, int line, const char *why)
{
    struct detail detail = {0};
    struct buf out;
    buf_init(&out, ACT_SIZE_MAX);
    enum err err = act_encode(act, &out, &detail);
    if (err != ERR_PERM || out.len || !strstr(detail.text, why))
        fail_msg("line %d: %s, \"%s\" without \"%s\"", line, err_name(err), detail.text, why);
    buf_clear(&out);
}

static void accepted(const struct act *act, int line)
{
    struct detail detail = {0};
    struct buf out;
    buf_init(&out, ACT_SIZE_MAX);
    if (act_encode(act, &out, &detail) != ERR_OK)
        fail_msg("line %d: %s", line, detail.text);
    buf_clear(&out);
}

#define BAD(name, member, value, why)  \
    do {                               \
        struct act act = sample(name); \
        act.member = (value);          \
        refused(&act, __LINE__, why);  \
    } while (0)
#define GOOD(name, member, value)      \
    do {                               \
        struct act act = sample(name); \
        act.member = (value);          \
        accepted(&act, __LINE__);      \
    } while (0)
#define T(text) BYTES_LITERAL(text)
#define LONG(len) bytes_of(long_text, len)

static void test_names(void **state)
{
    (void)state;
    BAD("enable", kind, (enum act_kind)0, "no such kind 0");
    BAD("enable", kind, (enum act_kind)63, "no such kind 63");
    BAD("enable", kind, (enum act_kind)64, "no such kind 64");
    BAD("enable", name, T(""), "name: missing");
    BAD("enable", name, T("a b"), "name: \"a b\" is not a name");
    BAD("enable", name, T("a\0b"), "name: ");
    BAD("enable", name, LONG(65), "name: ");
    GOOD("enable", name, LONG(64));
    BAD("grant", key, T(""), "key: missing");
    BAD("grant", key, T("../x"), "key: ");
    BAD("generate-rsa", tokens, T(""), "tokens: missing");
    BAD("generate-rsa", tokens, T("a,b"), "tokens: 2 of them");
    BAD("adopt", tokens, T("a,b"), "tokens: 2 of them");
    BAD("import", tokens, T("a,b,c,d,e,f,g,h,i"), "tokens: 9 of them");
    BAD("import", tokens, T("a,a"), "tokens: one of them is there twice");
    BAD("import", tokens, T("a,,b"), "tokens: an empty one");
    BAD("import", tokens, T(",a"), "tokens: an empty one");
    BAD("import", tokens, T("a,"), "tokens: an empty one");
    BAD("import", tokens, T("a, b"), "tokens: ");
    BAD("import", tokens, LONG(5000), "tokens: too long");
    GOOD("import", tokens, T("a,b,c,d,e,f,g,h"));
}

static void test_keys(void **state)
{
    struct bytes certificate = sample("certificate").certificates;
    uint8_t low[32] = {1};
    (void)state;
    BAD("generate-rsa", type, (enum wire_key_type)0, "type: missing");
    BAD("generate-rsa", type, (enum wire_key_type)4, "type: no such number 4");
    BAD("generate-rsa", type, WIRE_KEY_ED25519, "type: not rsa"); // of 3072 bits
    GOOD("generate-ed25519", purpose, WIRE_SMIME_SIGN);
    BAD("generate-ed25519", purpose, WIRE_SMIME_DECRYPT, "not for the purpose smime-decrypt");
    BAD("generate-ed25519", purpose, WIRE_AUDIT, "not for the purpose audit");
    BAD("generate-ed25519", bits, 255, "type: not rsa");
    BAD("generate-rsa", bits, 1024, "type: not rsa");
    BAD("generate-rsa", bits, 0, "bits");
    BAD("generate-ec", bits, 224, "type: not rsa");
    BAD("generate-rsa", purpose, (enum wire_purpose)0, "purpose: missing");
    BAD("generate-rsa", purpose, (enum wire_purpose)99, "purpose: no such number 99");
    BAD("generate-rsa", algorithms, 0, "algorithms: missing");
    BAD("generate-rsa", algorithms, UINT64_C(1) << 63, "algorithms: one that there is not");
    BAD("place", label, T(""), "label or id");
    BAD("place", label, T("a\x1b[31m"), "label: not printable");
    BAD("place", label, T("a\nb"), "label: not printable");
    BAD("place", label, T("\xff"), "label: not printable");
    BAD("place", label, T("\xc0\xaf"), "label: not printable");     // overlong
    BAD("place", label, T("\xed\xa0\x80"), "label: not printable"); // a surrogate
    BAD("place", label,
        T("\xc2\x9b"
          "31m"),
        "label: not printable"); // CSI of C1
    BAD("place", label,
        T("\xe2\x80\xae"
          "gpj"),
        "label: not printable");                                        // right to left
    BAD("place", label, T("\xf4\x90\x80\x80"), "label: not printable"); // over U+10FFFF
    BAD("place", label, LONG(129), "label: more than 128");
    GOOD("place", label, T("\xe9\x8d\xb5"));
    BAD("adopt", id, LONG(65), "id: more than 64");
    BAD("import", public_key, T(""), "public-key: missing");
    BAD("import", public_key, T("\x30\x00"), "public-key: not one public key");
    BAD("import", public_key.len, sample("import").public_key.len - 1, "public-key: not one");
    BAD("import", certificates, T("\x30\x00"), "certificates: number 1 is no certificate");
    BAD("import", certificates, LONG(WIRE_CERTIFICATES_MAX + 1), "certificates: more than");
    GOOD("import", certificates, bytes_of(NULL, 0));
    BAD("certificate", certificates, T(""), "certificates: missing");
    BAD("certificate", certificates.len, certificate.len - 1, "certificates: number 1");
    BAD("officer-add", public_key, bytes_of(long_text, 31), "signing-key: no Ed25519");
    BAD("officer-add", public_key, bytes_of(low, 32), "signing-key: no Ed25519");
    BAD("officer-add", curve_key.len, 39, "curve-key: no CURVE key");
    BAD("client-add", curve_key, T("~q:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"),
        "public-key: no CURVE key");
    BAD("officer-add", role, (enum officer_role)3, "role: no such number 3");
}

static void test_numbers(void **state)
{
    (void)state;
    BAD("limit", per_minute, (uint64_t)BUDGET_LIMIT_MAX + 1, "per-minute: ");
    BAD("limit", per_hour, UINT64_MAX, "per-hour: ");
    BAD("limit", total, (uint64_t)BUDGET_LIMIT_MAX + 1, "total: ");
    BAD("grant", failures_per_hour, (uint64_t)BUDGET_LIMIT_MAX + 1, "failures-per-hour: ");
    GOOD("limit", total, BUDGET_LIMIT_MAX);
    BAD("grant", operations, 0, "operations: missing");
    BAD("grant", operations, REGISTRY_SET(WIRE_LIST), "operations: one that cannot");
    BAD("grant", operations, REGISTRY_ALL, "operations: one that cannot");
    BAD("grant", algorithms, 0, "algorithms: missing");
    BAD("grant", algorithms, REGISTRY_SET(WIRE_RSA_PSS), "algorithms: none for unwrap");
    BAD("grant-algorithms", algorithms, REGISTRY_SET(WIRE_RSA_PSS) | REGISTRY_SET(WIRE_RSAES_OAEP),
        "algorithms: one of an operation that is not granted");
    BAD("quorum-2", number, 0, "number: 0 is not between");
    BAD("quorum-2", number, 100, "number: 100 is not between");
    BAD("self-sign", days, 0, "days: 0 is not between");
    BAD("self-sign", days, 36501, "days: ");
    BAD("csr", hash, HASH_NONE, "hash: ");
    BAD("csr", hash, HASH_SHA1, "hash: ");
    BAD("csr", hash, HASH_COUNT, "hash: ");
}

static void test_subject(void **state)
{
    (void)state;
    BAD("csr", common_name, T(""), "common-name: missing");
    BAD("csr", common_name, LONG(257), "common-name: more than 256");
    GOOD("csr", common_name, LONG(256));
    BAD("csr", organization, T("a\tb"), "organization: not printable");
    BAD("csr", unit, T("\x7f"), "unit: not printable");
    BAD("csr", city, T("\xe2\x80\x8b"), "city: not printable");
    BAD("csr", state, LONG(257), "state: more than");
    BAD("csr", country, T("D"), "country: not two capital letters");
    BAD("csr", country, T("de"), "country: not two capital letters");
    BAD("csr", country, T("DEU"), "country: not two capital letters");
    BAD("csr", domains, T("a b"), "domains: not ASCII");
    BAD("csr", domains, T("k\xc3\xb6ln.example"), "domains: not ASCII");
    BAD("csr", domains, T("a.example,a.example"), "domains: one of them is there twice");
    BAD("csr", domains, LONG(257), "domains: one of more than 256");
    BAD("csr", emails, LONG(ACT_LIST_MAX + 1), "emails: more than 4096");
    BAD("csr", emails, T("a@b.example,"), "emails: an empty one");
}

// What a kind does not have is not silently left out.
static void test_absent(void **state)
{
    (void)state;
    BAD("enable", key, T("x"), "key: key-enable has no such field");
    BAD("enable", tokens, T("x"), "tokens: key-enable has no such field");
    BAD("enable", days, 1, "days: key-enable has no such field");
    BAD("enable", pss, true, "pss: key-enable has no such field");
    BAD("enable", algorithms, REGISTRY_ALL, "algorithms: key-enable has no such field");
    BAD("enable", total, UINT64_C(1) << 40, "total: key-enable has no such field");
    BAD("quorum-2", name, T("x"), "name: quorum has no such field");
    BAD("csr", days, 1, "days: key-csr has no such field");
    BAD("client-add", public_key, T("x"), "key: client-add has no such field");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_keys),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_subject),
        cmocka_unit_test(test_absent),
    };
    memset(long_text, 'a', sizeof long_text);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
