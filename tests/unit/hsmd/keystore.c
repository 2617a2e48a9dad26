// SPDX-License-Identifier: Apache-2.0
// Promise 1: which keys of a token are taken at all.
#include "hsmd/keystore/keystore_internal.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_check_key(void **state)
{
    (void)state;
    enum { EXTRACTABLE = 1, SENSITIVE = 2, SIGN = 4, DECRYPT = 8, DERIVE = 16 };
    static const struct {
        const char *name;
        enum token_key_type type;
        unsigned flags;
        enum wire_purpose purpose;
        const char *said; // NULL: it is good
    } rows[] = {
        {"signing", TOKEN_KEY_RSA, SENSITIVE | SIGN, WIRE_SMIME_SIGN, NULL},
        {"decryption", TOKEN_KEY_RSA, SENSITIVE | DECRYPT, WIRE_SMIME_DECRYPT, NULL},
        {"EC signing", TOKEN_KEY_EC, SENSITIVE | SIGN, WIRE_SMIME_SIGN, NULL},
        {"EC decryption", TOKEN_KEY_EC, SENSITIVE | DERIVE, WIRE_SMIME_DECRYPT, NULL},
        {"audit", TOKEN_KEY_EC, SENSITIVE | SIGN, WIRE_AUDIT, NULL},
        {"audit that cannot sign", TOKEN_KEY_EC, SENSITIVE | DERIVE, WIRE_AUDIT,
         "CKA_SIGN is false, but the purpose is audit"},
        {"general", TOKEN_KEY_EC, SENSITIVE | DERIVE, WIRE_GENERAL, NULL},
        {"Ed25519", TOKEN_KEY_ED25519, SENSITIVE | SIGN, WIRE_SMIME_SIGN, NULL},
        {"Ed25519 general", TOKEN_KEY_ED25519, SENSITIVE | SIGN, WIRE_GENERAL, NULL},
        {"Ed25519 for decryption", TOKEN_KEY_ED25519, SENSITIVE | SIGN | DERIVE, WIRE_SMIME_DECRYPT,
         "not for the purpose smime-decrypt"},
        {"Ed25519 for audit", TOKEN_KEY_ED25519, SENSITIVE | SIGN, WIRE_AUDIT,
         "not for the purpose audit"},
        {"Ed25519 that only derives", TOKEN_KEY_ED25519, SENSITIVE | DERIVE, WIRE_GENERAL,
         "neither"},
        {"Ed25519, extractable", TOKEN_KEY_ED25519, EXTRACTABLE | SENSITIVE | SIGN, WIRE_GENERAL,
         "CKA_EXTRACTABLE is true"},
        {"extractable", TOKEN_KEY_RSA, EXTRACTABLE | SENSITIVE | SIGN, WIRE_SMIME_SIGN,
         "CKA_EXTRACTABLE is true"},
        {"shown", TOKEN_KEY_RSA, SIGN, WIRE_SMIME_SIGN, "CKA_SENSITIVE is false"},
        {"both", TOKEN_KEY_EC, EXTRACTABLE | SIGN, WIRE_GENERAL, "CKA_EXTRACTABLE is true"},
        {"cannot sign", TOKEN_KEY_RSA, SENSITIVE | DECRYPT, WIRE_SMIME_SIGN, "CKA_SIGN is false"},
        {"cannot decrypt", TOKEN_KEY_RSA, SENSITIVE | SIGN | DERIVE, WIRE_SMIME_DECRYPT,
         "CKA_DECRYPT is false"},
        {"cannot derive", TOKEN_KEY_EC, SENSITIVE | SIGN | DECRYPT, WIRE_SMIME_DECRYPT,
         "CKA_DERIVE is false"},
        {"cannot do anything", TOKEN_KEY_EC, SENSITIVE | DECRYPT, WIRE_GENERAL, "neither"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct token_key_info info = {.type = rows[i].type,
                                            .extractable = rows[i].flags & EXTRACTABLE,
                                            .sensitive = rows[i].flags & SENSITIVE,
                                            .can_sign = rows[i].flags & SIGN,
                                            .can_decrypt = rows[i].flags & DECRYPT,
                                            .can_derive = rows[i].flags & DERIVE};
        struct detail detail = {0};
        enum err err = keystore_check_key(&info, rows[i].purpose, &detail);
        if (err != (rows[i].said ? ERR_PERM : ERR_OK) ||
            (rows[i].said && !strstr(detail.text, rows[i].said)))
            fail_msg("%s: %s, %s", rows[i].name, err_name(err), detail.text);
    }
}

// As long as others are well: half a second for half a minute, then five, and never more than a
// tenth of their time, but once a minute.
static void test_pause(void **state)
{
    static const struct {
        uint64_t outage_ms, reopen_ms;
        unsigned pause;
    } rows[] = {
        {0, 0, 500},      {29999, 50, 500},   {29999, 51, 510},       {0, 3000, 30000},
        {30000, 0, 5000}, {30000, 500, 5000}, {UINT32_MAX, 40, 5000}, {30000, 501, 5010},
        {0, 6000, 60000}, {0, 6001, 60000},   {30000, 6001, 60000},   {0, UINT32_MAX, 60000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(keystore_reopen_pause(rows[i].outage_ms, rows[i].reopen_ms),
                         rows[i].pause);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_key),
        cmocka_unit_test(test_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
