// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "gateway/address.h"
#include "gateway/mime.h"
#include "mime_util.h"

static const struct {
    const char *text, *normal; // NULL: not an address
} normalise_cases[] = {
    {"bob@a.example", "bob@a.example"},
    {"<bob@a.example>", "bob@a.example"},
    {" \t<Bob@A.Example>\r\n", "bob@a.example"},
    {"<>", ""},
    {"", ""},
    {"postmaster", "postmaster"},
    {"<@relay.example,@b:bob@a.example>", "bob@a.example"},
    {"bob@a.example.", "bob@a.example"},
    {"\"bob\"@a.example", "bob@a.example"},
    {"\"bob smith\"@a.example", "\"bob smith\"@a.example"},
    {"\"b\\ob\"@a.example", "bob@a.example"},
    {"\"b\\\"ob\"@a.example", "\"b\\\"ob\"@a.example"},
    {"\"b@x\"@a.example", "\"b@x\"@a.example"},
    {"bob+tag@a.example", "bob+tag@a.example"},
    {"b..ob.@a.example", "b..ob.@a.example"},
    {"bob@[192.0.2.1]", "bob@[192.0.2.1]"},
    {"bob@[IPv6:2001:DB8::1]", "bob@[ipv6:2001:db8::1]"},
    {"bob@M\xc3\xbcnchen.example", "bob@xn--mnchen-3ya.example"},
    {"bob@XN--Mnchen-3YA.example", "bob@xn--mnchen-3ya.example"},
    {"bob@m\x75\xcc\x88nchen.example", "bob@xn--mnchen-3ya.example"}, // not composed
    {"bob@fa\xc3\x9f.example", "bob@xn--fa-hia.example"},
    {"J\xc3\xb6rg@a.example", "j\xc3\xb6rg@a.example"},
    {"bob@", NULL},
    {"@a.example", NULL},
    {"<bob@a.example", NULL},
    {"bob@@a.example", NULL},
    {"bob@x@a.example", NULL},
    {"bob@a..example", NULL},
    {"bob@.a.example", NULL},
    {"bob@a example", NULL},
    {"bob smith@a.example", NULL},
    {"bob@a.example>", NULL},
    {"bob\x01@a.example", NULL},
    {"bob@a\x01.example", NULL},
    {"bob\xff@a.example", NULL},
    {"bob@\xff.example", NULL},
    {"\"bob@a.example", NULL},
    {"\"\"@a.example", NULL},
    {"\"bob\"x@a.example", NULL},
    {"@relay.example", NULL},
    {"bob@[]", NULL},
    {"bob,erin@a.example", NULL},
    {"(c)bob@a.example", NULL},
};

static void test_normalise(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof normalise_cases / sizeof normalise_cases[0]; i++) {
        print_message("[%s]\n", normalise_cases[i].text);
        char address[ADDRESS_MAX] = "untouched";
        struct detail detail = {0};
        enum err err = address_normalise(normalise_cases[i].text, address, &detail);
        if (normalise_cases[i].normal) {
            assert_int_equal(err, ERR_OK);
            assert_string_equal(address, normalise_cases[i].normal);
            // What is normal stays.
            assert_int_equal(address_normalise(normalise_cases[i].normal, address, NULL), ERR_OK);
            assert_string_equal(address, normalise_cases[i].normal);
        } else {
            assert_int_equal(err, ERR_PERM);
            assert_string_equal(address, "untouched");
            assert_true(detail.text[0]);
        }
    }
}

static void test_length(void **state)
{
    (void)state;
    char text[2000];
    char address[ADDRESS_MAX];
    for (int n = 1; n < 1990; n++) {
        memset(text, 'x', (size_t)n);
        strcpy(text + n, "@a.b");
        enum err err = address_normalise(text, address, NULL);
        assert_int_equal(err, n + 4 < ADDRESS_MAX ? ERR_OK : ERR_PERM);
        memset(text, '"', 1);
        (void)address_normalise(text, address, NULL);
        memcpy(text, "a@", 2);
        memset(text + 2, 'b', (size_t)n);
        text[n + 2] = 0;
        err = address_normalise(text, address, NULL);
        assert_int_equal(err, n + 2 < ADDRESS_MAX ? ERR_OK : ERR_PERM);
    }
}

static const struct {
    const char *header, *from; // NULL: ERR_PERM
} from_cases[] = {
    {"From: bob@a.example\n", "bob@a.example"},
    {"From: Bob <Bob@A.example>\n", "bob@a.example"},
    {"From: =?utf-8?q?B=C3=B6b?= <bob@a.example>\n", "bob@a.example"},
    {"From: \"erin@c.example\" <bob@a.example>\n", "bob@a.example"},
    {"From: =?utf-8?q?erin=40c=2Eexample?= <bob@a.example>\n", "bob@a.example"},
    {"From: bob@a.example (Bob, \\( erin@c.example)\n", "bob@a.example"},
    {"FROM :\n Bob\n <bob@a.example>\n", "bob@a.example"},
    {"From: Bob (x) <bob @ a.example>\n", "bob@a.example"},
    {"From: bob@m\xc3\xbcnchen.example\n", "bob@xn--mnchen-3ya.example"},
    {"From: bob@xn--mnchen-3ya.example\n", "bob@xn--mnchen-3ya.example"},
    {"From: \"a b\"@a.example\n", "\"a b\"@a.example"},
    {"To: bob@a.example\n", NULL},
    {"From:\n", NULL},
    {"From: \n", NULL},
    {"From: bob\n", NULL},
    {"From: <>\n", NULL},
    {"From: bob@a.example\nFrom: bob@a.example\n", NULL},
    {"From: bob@a.example\nfrom : erin@c.example\n", NULL},
    {"From: bob@a.example, erin@c.example\n", NULL},
    {"From: bob@a.example; erin@c.example\n", NULL},
    {"From: bob@a.example erin@c.example\n", NULL},
    {"From: bob@a.example <erin@c.example>\n", NULL},
    {"From: <bob@a.example> <erin@c.example>\n", NULL},
    {"From: Bob <bob@a.example> junk\n", NULL},
    {"From: us: bob@a.example;\n", NULL},
    {"From: undisclosed:;\n", NULL},
    {"From: bob@a.example@c.example\n", NULL},
    {"From: <@c.example:bob@a.example>\n", NULL},
    {"From: Bob <bob@a.example\n", NULL},
    {"From: bob@a.example (open\n", NULL},
    {"From: \"open <bob@a.example>\n", NULL},
    {"From: bob\xff@a.example\n", NULL},
};

static void test_from(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof from_cases / sizeof from_cases[0]; i++) {
        print_message("%s", from_cases[i].header);
        char raw[200];
        snprintf(raw, sizeof raw, "%s\n", from_cases[i].header);
        struct message *message = parse(bytes_of_text(raw));
        char from[ADDRESS_MAX] = "untouched";
        enum err err = address_from(message, from, NULL);
        assert_int_equal(err, from_cases[i].from ? ERR_OK : ERR_PERM);
        assert_string_equal(from, from_cases[i].from ? from_cases[i].from : "untouched");
        message_free(message);
    }
}

static const struct {
    const char *address, *pattern;
    bool is_in;
} domain_cases[] = {
    {"bob@a.example", "a.example", true},
    {"bob@a.example", "A.Example", true},
    {"bob@a.example", "*.example", true},
    {"bob@x.y.a.example", "*.a.example", true},
    {"bob@a.example", "*.a.example", false},
    {"bob@xa.example", "*.a.example", false},
    {"bob@xa.example", "a.example", false},
    {"bob@a.example", "a.example.", true},
    {"bob@a.example", "b.example", false},
    {"bob@xn--mnchen-3ya.example", "m\xc3\xbcnchen.example", true},
    {"bob@x.xn--mnchen-3ya.example", "*.m\xc3\xbcnchen.example", true},
    {"bob", "a.example", false},
    {"", "a.example", false},
    {"bob@a.example", "", false},
    {"bob@a.example", "*", false},
    {"bob@a.example", "*.", false},
    {"bob@a.example", "*.*.example", false},
    {"\"x@a.example\"@b.example", "a.example", false},
    {"\"x@a.example\"", "a.example\"", false},
};

static void test_domain(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof domain_cases / sizeof domain_cases[0]; i++) {
        print_message("%s in %s\n", domain_cases[i].address, domain_cases[i].pattern);
        assert_int_equal(address_is_in_domain(domain_cases[i].address, domain_cases[i].pattern),
                         domain_cases[i].is_in);
    }
    assert_string_equal(address_domain("bob@a.example"), "a.example");
    assert_string_equal(address_domain("bob"), "");
    assert_string_equal(address_domain("\"x@a.example\""), "");
    assert_true(address_is_equal("bob@a.example", "bob@a.example"));
    assert_true(address_is_equal("Bob@a.example", "bob@A.example"));
    assert_false(address_is_equal("bob@a.example", "bob@b.example"));
}

int main(void)
{
    mime_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalise),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_from),
        cmocka_unit_test(test_domain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
