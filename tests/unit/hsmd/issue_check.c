// SPDX-License-Identifier: Apache-2.0
// What an officer may ask to have in a certificate, field by field, and what is said of what not.
#include "hsmd/custody/issue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/custody/issue_names.h"
#include "tests/support/issue_signer.h"

#define L10 "aaaaaaaaaa"
#define L60 L10 L10 L10 L10 L10 L10
#define L63 L60 "aaa"
#define L64 L60 "aaaa"
#define D250 L63 "." L63 "." L63 "." L10 L10 L10 L10 L10 "aaaaaaaa" // 3 * 64 + 58

static void set_common_name(struct act *act, struct bytes value)
{
    act->common_name = value;
}
static void set_organization(struct act *act, struct bytes value)
{
    act->organization = value;
}
static void set_unit(struct act *act, struct bytes value)
{
    act->unit = value;
}
static void set_city(struct act *act, struct bytes value)
{
    act->city = value;
}
static void set_state(struct act *act, struct bytes value)
{
    act->state = value;
}
static void set_country(struct act *act, struct bytes value)
{
    act->country = value;
}
static void set_domains(struct act *act, struct bytes value)
{
    act->domains = value;
}
static void set_emails(struct act *act, struct bytes value)
{
    act->emails = value;
}
static void set_any_name(struct act *act, struct bytes value)
{
    act->common_name = value;
    act->any_name = true;
}
static void set_any_domains(struct act *act, struct bytes value)
{
    act->domains = value;
    act->any_name = true;
}
static void set_any_emails(struct act *act, struct bytes value)
{
    act->emails = value;
    act->any_name = true;
}

#define CN(text, said)                                            \
    {                                                             \
        "common name", set_common_name, BYTES_LITERAL(text), said \
    }
#define ANY(text, said)                                        \
    {                                                          \
        "common name", set_any_name, BYTES_LITERAL(text), said \
    }
#define ANYDNS(text, said)                                    \
    {                                                         \
        "domains", set_any_domains, BYTES_LITERAL(text), said \
    }
#define ANYMAIL(text, said)                                 \
    {                                                       \
        "emails", set_any_emails, BYTES_LITERAL(text), said \
    }
#define O(text, said)                                               \
    {                                                               \
        "organization", set_organization, BYTES_LITERAL(text), said \
    }
#define OU(text, said)                                             \
    {                                                              \
        "organizational unit", set_unit, BYTES_LITERAL(text), said \
    }
#define CITY(text, said)                            \
    {                                               \
        "city", set_city, BYTES_LITERAL(text), said \
    }
#define STATE(text, said)                             \
    {                                                 \
        "state", set_state, BYTES_LITERAL(text), said \
    }
#define COUNTRY(text, said)                               \
    {                                                     \
        "country", set_country, BYTES_LITERAL(text), said \
    }
#define DNS(text, said)                                   \
    {                                                     \
        "domains", set_domains, BYTES_LITERAL(text), said \
    }
#define MAIL(text, said)                                \
    {                                                   \
        "emails", set_emails, BYTES_LITERAL(text), said \
    }

static const struct {
    const char *field; // that the text begins with
    void (*set)(struct act *act, struct bytes value);
    struct bytes value;
    const char *said; // NULL: nothing is wrong
} rows[] = {
    CN("mail.a.example", NULL),
    CN("MAIL.A.EXAMPLE", NULL),
    CN("xn--kln-sna.example", NULL),
    CN("1and1.example", NULL),
    CN("gateway@a.example", NULL),
    CN("", "there must be one"),
    CN("localhost", "one label only; it must be a fully qualified"),
    CN("Mail Gateway", "a character other than letters"),
    CN("a_b.example", "a character other than letters"),
    CN("*.a.example", "wildcard elsewhere"),
    CN("mail.a.example.", "empty label"),
    CN(".mail.example", "empty label"),
    CN("mail..example", "empty label"),
    CN("192.0.2.1", "ends in a number"),
    CN("-mail.example", "hyphen"),
    CN("mail-.example", "hyphen"),
    CN("mail.example ", "begins or ends with a space"),
    CN("mail.example\n", "control character"),
    CN("mail.example\0.evil", "control character"),
    CN("k\xc3\xb6ln.example", "A-labels"),
    CN("\xff.example", "not UTF-8"),
    CN(L64 ".example", "too long (at most 64 characters)"),
    CN("@a.example", "nothing before the @"),
    CN("a@localhost", "one label only"),
    ANY("Mail Gateway of Köln", NULL),
    ANY("localhost", NULL),
    ANY("", "there must be one"),
    ANY("a\x1b[31m", "control character"),
    ANY("a\xe2\x80\xae"
        "b",
        "control character"),
    ANY("a\xed\xa0\x80", "not UTF-8"),
    ANY("\xc0\x80", "not UTF-8"),
    O("", NULL),
    O("Ж" L63, NULL), // 64 characters in 65 bytes
    O("Ж" L64, "too long (at most 64"),
    OU("", NULL),
    OU(L64, NULL),
    OU(L64 "a", "too long (at most 64"),
    OU(" Mail", "space"),
    CITY("", NULL),
    CITY(L64 L64, NULL),
    CITY(L64 L64 "a", "too long (at most 128"),
    STATE("", NULL),
    STATE(L64 L64, NULL),
    STATE(L64 L64 "a", "too long (at most 128"),
    STATE("a\tb", "control character"),
    COUNTRY("", NULL),
    COUNTRY("ZW", NULL),
    COUNTRY("AD", NULL),
    COUNTRY("de", "ISO 3166"),
    COUNTRY("UK", "ISO 3166"),
    COUNTRY("EU", "ISO 3166"),
    COUNTRY("D", "ISO 3166"),
    COUNTRY("DEU", "ISO 3166"),
    COUNTRY("E ", "ISO 3166"),
    COUNTRY("D E", "ISO 3166"),
    DNS("", NULL),
    DNS("a.example", NULL),
    DNS("a.example,*.b.example", NULL),
    DNS("a.example, *.b.example", "a character other than letters"),
    DNS("*.b.example", NULL),
    DNS(L63 ".example", NULL),
    DNS(D250 ".aa", NULL),
    DNS(D250 ".aaa", "longer than 253"),
    DNS(L64 ".example", "more than 63"),
    DNS("a.example,", "an empty name"),
    DNS(",a.example", "an empty name"),
    DNS("a.example,,b.example", "an empty name"),
    DNS(" ", "a character other than letters"),
    DNS(",", "an empty name"),
    DNS("a.example b.example", "a character other than letters"),
    DNS("a.example;b.example", "a character other than letters"),
    DNS("*.example", "one label only; give the full name"),
    DNS("*", "wildcard"),
    DNS("*.", "wildcard"),
    DNS("*.*.a.example", "wildcard"),
    DNS("a.*.example", "wildcard"),
    DNS("b*.a.example", "wildcard"),
    DNS("*a.example", "wildcard"),
    DNS("intern", "one label only; give the full name"),
    DNS("good.example,intern", "\"intern\" is no fully qualified"),
    DNS("10.0.0.1", "ends in a number"),
    DNS("http://a.example", "a character other than letters"),
    DNS("a.example:25", "a character other than letters"),
    DNS("alice@a.example", "a character other than letters"),
    DNS("köln.example", "not ASCII: write it as A-labels"),
    DNS("a.example\0", "a character other than letters"),
    ANYDNS("intern", NULL),
    ANYDNS("*.intern,10.0.0.1", NULL),
    ANYDNS("a_b", "a character other than letters"),
    ANYDNS("in tern", "a character other than letters"),
    MAIL("", NULL),
    MAIL("alice@a.example", NULL),
    MAIL("alice@a.example,bob+x=y@b.example", NULL),
    MAIL("alice@a.example ,bob@b.example", "a character other than letters"),
    MAIL("o'neil!#$%&*/?^_`{|}~@a.example", NULL),
    MAIL(L64 "@a.example", NULL),
    MAIL("a" L64 "@a.example", "more than 64"),
    MAIL(L64 "@" L63 "." L63 "." L60 "a", NULL), // 254
    MAIL(L64 "@" L63 "." L63 "." L60 "aa", "longer than 254"),
    MAIL("alice", "no @"),
    MAIL("@a.example", "nothing before"),
    MAIL("alice@", "is empty"),
    MAIL("alice@@a.example", "needs quoting"),
    MAIL("\"al ice\"@a.example", "needs quoting"),
    MAIL(".alice@a.example", "needs quoting"),
    MAIL("alice.@a.example", "needs quoting"),
    MAIL("al..ice@a.example", "needs quoting"),
    MAIL("Alice <alice@a.example>", "needs quoting"),
    MAIL("alice@[192.0.2.1]", "a character other than letters"),
    MAIL("alice@localhost", "one label only; give the full name"),
    MAIL("alice@*.a.example", "wildcard"),
    MAIL("alice@köln.example", "A-labels"),
    MAIL("jürgen@a.example", "rfc822Name cannot hold"),
    MAIL("alice@a.example,", "an empty name"),
    MAIL("alice\r\n@a.example", "needs quoting"),
    ANYMAIL("root@localhost", NULL),
    ANYMAIL("root@local_host", "a character other than letters"),
};

static void test_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct act act = issue_signer_act(i % 2 ? ACT_KEY_REQUEST : ACT_KEY_SELF_SIGN);
        struct detail detail = {0};
        rows[i].set(&act, rows[i].value);
        enum err err = issue_check(&act, &detail);
        size_t len = strlen(rows[i].field);
        bool ok = !rows[i].said ? err == ERR_OK
                                : err == ERR_PERM && strstr(detail.text, rows[i].said) &&
                                      strncmp(detail.text, rows[i].field, len) == 0 &&
                                      detail.text[len] == ':';
        if (!ok)
            print_error("row %zu, %s \"%s\": %s \"%s\"\n", i, rows[i].field,
                        (const char *)rows[i].value.data, err_name(err), detail.text);
        assert_true(ok);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        enum act_kind kind;
        enum hash hash;
        bool pss;
        unsigned days;
        enum err expected;
        const char *said;
    } numbers[] = {
        {ACT_KEY_REQUEST, HASH_SHA256, false, 0, ERR_OK, ""},
        {ACT_KEY_REQUEST, HASH_SHA384, true, 0, ERR_OK, ""},
        {ACT_KEY_SELF_SIGN, HASH_SHA512, true, 1, ERR_OK, ""},
        {ACT_KEY_SELF_SIGN, HASH_SHA256, false, ACT_DAYS_MAX, ERR_OK, ""},
        {ACT_KEY_SELF_SIGN, HASH_SHA256, false, ACT_DAYS_MAX + 1, ERR_PERM, "days: "},
        {ACT_KEY_SELF_SIGN, HASH_SHA256, false, 0, ERR_PERM, "days: "},
        {ACT_KEY_REQUEST, HASH_SHA1, false, 0, ERR_PERM, "hash: it must be sha256"},
        {ACT_KEY_REQUEST, HASH_SHA224, false, 0, ERR_PERM, "hash: it must be sha256"},
        {ACT_KEY_REQUEST, HASH_NONE, false, 0, ERR_PERM, "hash: it must be sha256"},
        {ACT_KEY_ENABLE, HASH_SHA256, false, 1, ERR_BUG, ""},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct act act = issue_signer_act(numbers[i].kind);
        struct detail detail = {0};
        act.hash = numbers[i].hash;
        act.pss = numbers[i].pss;
        act.days = numbers[i].days;
        assert_int_equal(issue_check(&act, &detail), numbers[i].expected);
        assert_non_null(strstr(detail.text, numbers[i].said));
    }
}

// A list longer than an act's is not walked through.
static void test_long_list(void **state)
{
    (void)state;
    static uint8_t list[ACT_LIST_MAX + 1];
    struct act act = issue_signer_act(ACT_KEY_REQUEST);
    struct detail detail = {0};
    memset(list, 'a', sizeof list);
    act.domains = bytes_of(list, sizeof list);
    assert_int_equal(issue_check(&act, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "domains: more than 4096 bytes"));
}

// As many countries as ISO 3166 has, each found, and no other pair of letters.
static void test_countries(void **state)
{
    (void)state;
    unsigned count = 0;
    for (char a = 'A'; a <= 'Z'; a++) {
        for (char b = 'A'; b <= 'Z'; b++) {
            const char code[] = {a, b};
            count += issue_country_flaw(bytes_of(code, 2)) == NULL;
        }
    }
    assert_int_equal(count, 249);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_long_list),
        cmocka_unit_test(test_countries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
