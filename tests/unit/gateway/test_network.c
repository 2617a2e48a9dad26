// SPDX-License-Identifier: Apache-2.0
#include "gateway/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct sockaddr *address(const char *text, struct sockaddr_storage *storage)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)storage;
    memset(storage, 0, sizeof *storage);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
        v6->sin6_family = AF_INET6;
    }
    return (const struct sockaddr *)storage;
}

static void test_has(void **state)
{
    (void)state;
    static const struct {
        const char *network, *address;
        bool has;
    } cases[] = {
        {"127.0.0.0/8", "127.0.0.1", true},
        {"127.0.0.0/8", "127.255.255.255", true},
        {"127.0.0.0/8", "128.0.0.1", false},
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.0", false},
        {"192.0.2.128/25", "192.0.2.128", true},
        {"192.0.2.128/25", "192.0.2.127", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"127.0.0.0/8", "::ffff:127.0.0.1", true},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/32", "2001:db9::1", false},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"::1", "::1", true},
        {"::1", "127.0.0.1", false},
        {"::/0", "2001:db8::1", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct network network;
        struct sockaddr_storage storage;
        assert_int_equal(network_parse(cases[i].network, &network, NULL), ERR_OK);
        if (network_has(&network, address(cases[i].address, &storage)) != cases[i].has)
            fail_msg("%s %s", cases[i].network, cases[i].address);
    }
}

static void test_other_families(void **state)
{
    (void)state;
    struct network network;
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_int_equal(network_parse("::/0", &network, NULL), ERR_OK);
    assert_false(network_has(&network, &local));
    assert_false(network_has(&network, NULL));
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "127.0.0.1/",
        "127.0.0.0/33",
        "127.0.0.0/-1",
        "127.0.0.0/8x",
        "127.0.0.1/8",
        "2001:db8::/129",
        "2001:db8::1/32",
        "localhost",
        "10.0.0/8",
        "/8",
        "127.0.0.0/ 8",
        "1111111111111111111111111111111111111111111111111111111111111111111111111111111111",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct network network;
        struct detail detail = {0};
        if (network_parse(cases[i], &network, &detail) != ERR_PERM || !*detail.text)
            fail_msg("\"%s\" was taken", cases[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_has),
        cmocka_unit_test(test_other_families),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
