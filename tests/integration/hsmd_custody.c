// SPDX-License-Identifier: Apache-2.0
// The real hsmd, when single keys and tokens fail: the others go on, a refused PIN stays refused.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <p11-kit/pkcs11.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"

#define HEALED_MS 8000

// A second token behind the same module, and a key that comes and goes.
static const char more[] =
    "token second { module = \"MODULE\" label = \"second\" pin-file = \"pin\" sessions = 2 }\n"
    "key elsewhere { token = second label = \"elsewhere\" purpose = smime-sign }\n"
    "key moving { token = main label = \"moving\" purpose = smime-sign }\n"
    "client gateway {";
static const char more_grants[] =
    "grant { client = gateway key = elsewhere operations = { sign } }\n"
    "grant { client = gateway key = moving operations = { sign } }\n"
    "grant { client = gateway key = signing ";

static const struct softhsm_key moving_key = {.label = "moving", .id = 0x41};

static struct hsmd hsmd;
static struct buf attributes;
static struct client *client;
static EVP_PKEY *moving;

static int setup(void **state)
{
    static const struct softhsm_key elsewhere = {
        .label = "elsewhere", .id = 0x42, .kind = "P-256", .token = "second"};
    (void)state;
    hsmd_setup(&hsmd);
    softhsm_add_token(&hsmd.hsm, "second");
    softhsm_make_key(&hsmd.hsm, &elsewhere);
    moving = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    softhsm_import_key(&hsmd.hsm, &moving_key, moving);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsmd_teardown(&hsmd);
    buf_clear(&attributes);
    EVP_PKEY_free(moving);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    hsmd_use_shim(&hsmd);
    hsmd_configure(&hsmd, "client gateway {", more, "grant { client = gateway key = signing ",
                   more_grants, "MODULE", SHIM_PATH, NULL);
    hsmd_serve(&hsmd);
    client = hsmd_client(&hsmd, "gw", 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    client_close(client);
    hsmd_shim(&hsmd, "");
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    return 0;
}

static enum err sign(const char *key, enum wire_algorithm algorithm)
{
    return hsmd_sign(client, key, algorithm, buf_bytes(&attributes), NULL);
}

static void require_healed(const char *key)
{
    deadline_t until = deadline_in(HEALED_MS);
    enum err err = sign(key, WIRE_ECDSA);
    while (err == ERR_TEMP && !deadline_is_past(until)) {
        usleep(100000);
        err = sign(key, WIRE_ECDSA);
    }
    assert_int_equal(err, ERR_OK);
}

// How often hsmd has said it.
static unsigned times(const char *text)
{
    struct buf said;
    unsigned count = 0;
    buf_init(&said, 1 << 20);
    assert_int_equal(file_read(hsmd_path(&hsmd, "stderr"), &said, NULL), ERR_OK);
    for (const char *at = buf_text(&said); (at = strstr(at, text)) != NULL; at++)
        count++;
    buf_clear(&said);
    return count;
}

// Private and public half, and the certificate.
static void destroy_moving(void *functions, unsigned long session, void *arg)
{
    CK_FUNCTION_LIST *fn = functions;
    CK_ATTRIBUTE match = {CKA_LABEL, (void *)moving_key.label, strlen(moving_key.label)};
    CK_OBJECT_HANDLE found[8];
    CK_ULONG count = 0;
    (void)arg;
    if (fn->C_FindObjectsInit(session, &match, 1) != CKR_OK ||
        fn->C_FindObjects(session, found, 8, &count) != CKR_OK)
        count = 0;
    fn->C_FindObjectsFinal(session);
    while (count > 0)
        fn->C_DestroyObject(session, found[--count]);
}

// Its key is gone, and only its key: the module is not opened anew time and again for it, and when
// it is back it works again. One that has taken its place does not.
static void test_key_gone(void **state)
{
    (void)state;
    EVP_PKEY *other = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    assert_int_equal(sign("moving", WIRE_ECDSA), ERR_OK);
    softhsm_in_child(&hsmd.hsm, NULL, destroy_moving, NULL);
    usleep(1100000); // for so long its copy may be used
    for (unsigned n = 0; n < 8; n++) {
        assert_int_equal(sign("moving", WIRE_ECDSA), ERR_TEMP);
        assert_int_equal(sign("ec-signing", WIRE_ECDSA), ERR_OK);
        assert_int_equal(sign("signing", WIRE_RSA_PKCS1), ERR_OK);
    }
    for (unsigned n = 0; n < 20;
         n++) { // nobody else asks: another key shows that the token is well
        assert_int_equal(sign("moving", WIRE_ECDSA), ERR_TEMP);
        usleep(120000);
    }
    assert_int_equal(times("event=key key=\"moving\" state=\"not there\""), 1);
    assert_int_equal(times("state=\"opened anew\""), 0);
    assert_int_equal(sign("ec-signing", WIRE_ECDSA), ERR_OK);
    assert_int_equal(sign("elsewhere", WIRE_ECDSA), ERR_OK);
    softhsm_import_key(&hsmd.hsm, &moving_key, other);
    usleep(1100000);
    for (unsigned n = 0; n < 4; n++)
        assert_int_equal(sign("moving", WIRE_ECDSA), ERR_TEMP);
    softhsm_in_child(&hsmd.hsm, NULL, destroy_moving, NULL);
    softhsm_import_key(&hsmd.hsm, &moving_key, moving);
    require_healed("moving");
    assert_true(hsmd_said(&hsmd, "state=\"there again\""));
    assert_int_equal(times("state=\"opened anew\""), 0);
    EVP_PKEY_free(other);
}

// A token refuses its PIN in the middle of the day; then the other token's troubles make hsmd open
// their module anew. The refused PIN is not tried again.
static void test_pin_refused(void **state)
{
    (void)state;
    assert_int_equal(sign("elsewhere", WIRE_ECDSA), ERR_OK);
    hsmd_shim(&hsmd, "fail C_Login 0xa0\nkill\n"); // CKR_PIN_INCORRECT
    assert_int_equal(sign("elsewhere", WIRE_ECDSA), ERR_TEMP);
    assert_true(hsmd_said(&hsmd, "error event=token token=\"second\""));
    assert_int_equal(times("given up until hsmd is started again"), 1);
    hsmd_shim(&hsmd, "fail C_Sign 0x06\n"); // CKR_FUNCTION_FAILED
    for (unsigned n = 0; n < 4; n++)
        assert_int_equal(sign("ec-signing", WIRE_ECDSA), ERR_TEMP);
    usleep(1500000); // until the module is opened anew, in vain
    assert_true(times("token=\"main\" state=\"not there\"") > 0);
    hsmd_shim(&hsmd, "");
    require_healed("ec-signing");
    assert_true(hsmd_said(&hsmd, "token=\"main\" state=\"back\""));
    usleep(1100000);
    unsigned before = times("state=\"opened anew\"");
    for (unsigned n = 0; n < 4; n++)
        assert_int_equal(sign("elsewhere", WIRE_ECDSA), ERR_TEMP);
    assert_int_equal(times("given up until hsmd is started again"), 1);
    // Nor does asking for it disturb the other token of the module.
    assert_int_equal(times("state=\"opened anew\""), before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_key_gone),
        TEST(test_pin_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
