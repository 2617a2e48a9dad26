// SPDX-License-Identifier: Apache-2.0
// The real hsmd with a token that breaks in every way the shim knows: it answers in time, never
// wrongly, and is well again when the token is.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/audit_log.h"
#include "tests/support/custodian.h"

#define HEALED_MS 5000

static struct hsmd hsmd;
static struct buf attributes;
static EVP_PKEY *public_key;
static struct client *client;

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    public_key = softhsm_public_key(&hsmd.hsm, "p256");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsmd_teardown(&hsmd);
    buf_clear(&attributes);
    EVP_PKEY_free(public_key);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    hsmd_use_shim(&hsmd);
    if (!hsmd_start(&hsmd, NULL))
        assert_true(hsmd_said(&hsmd, "READY"));
    client = hsmd_client(&hsmd, "gw", 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    client_close(client);
    if (hsmd.pid) {
        hsmd_shim(&hsmd, "");
        assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    }
    return 0;
}

// The class of the answer; a signature must be one.
static enum err sign(void)
{
    struct buf frame;
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .sign = {.key = BYTES_LITERAL("ec-signing"),
                                            .algorithm = WIRE_ECDSA,
                                            .hash = HASH_SHA256,
                                            .form = WIRE_ATTRIBUTES,
                                            .data = buf_bytes(&attributes)}};
    buf_init(&frame, WIRE_FRAME_MAX);
    enum err err = client_call(client, &request, &frame, &reply, NULL);
    if (err == ERR_OK) {
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        if (EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, public_key) != 1 ||
            EVP_DigestVerify(ctx, reply.signature.data, reply.signature.len, attributes.data,
                             attributes.len) != 1)
            err = ERR_BUG;
        EVP_MD_CTX_free(ctx);
    }
    buf_clear(&frame);
    return err;
}

static void require_healed(const char *after)
{
    deadline_t until = deadline_in(HEALED_MS);
    enum err err = sign();
    while (err == ERR_TEMP && !deadline_is_past(until)) {
        usleep(50000);
        err = sign();
    }
    if (err != ERR_OK)
        print_error("not healed after: %s\n", after);
    assert_int_equal(err, ERR_OK);
}

// What happens once is not even noticed.
static void test_once(void **state)
{
    (void)state;
    static const char *const faults[] = {
        "fail C_Sign 0xb3 1 1\n",      // CKR_SESSION_HANDLE_INVALID
        "fail C_Sign 0x32 1 1\n",      // CKR_DEVICE_REMOVED
        "fail C_Sign 0xe0 1 1\n",      // CKR_TOKEN_NOT_PRESENT
        "fail C_Sign 0x06 1 1\n",      // CKR_FUNCTION_FAILED
        "fail C_Sign 0x30 1 1\n",      // CKR_DEVICE_ERROR
        "fail C_SignInit 0x101 1 1\n", // CKR_USER_NOT_LOGGED_IN
        "fail C_SignInit 0x82 1 1\n",  // CKR_OBJECT_HANDLE_INVALID
        "fail C_SignInit 0x60 1 1\n",  // CKR_KEY_HANDLE_INVALID
        "fail C_SignInit 0xb3 1 1\n",  "kill\n", "logout\n",
    };
    assert_int_equal(sign(), ERR_OK);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        hsmd_shim(&hsmd, faults[i]);
        enum err err = sign();
        if (err != ERR_OK)
            print_error("%s: %s\n", faults[i], err_name(err));
        assert_int_equal(err, ERR_OK);
        hsmd_shim(&hsmd, "");
        assert_int_equal(sign(), ERR_OK);
    }
}

// What lasts is answered "temp", and is over when it is over.
static void test_lasting(void **state)
{
    (void)state;
    static const char *const faults[] = {
        "fail C_Sign 0xb3\n",
        "fail C_Sign 0x32\n",
        "fail C_Sign 0x06\n",
        "fail C_SignInit 0x101\n",
        "fail C_SignInit 0x82\n",
        "fail C_OpenSession 0xb1\nkill\n",
        "fail C_Login 0x06\nlogout\n",
        "pull\n",
        "pull 0xe0\n",
        "pull 0x05\n",
    };
    assert_int_equal(sign(), ERR_OK);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        hsmd_shim(&hsmd, faults[i]);
        for (unsigned n = 0; n < 4; n++) {
            enum err err = sign();
            if (err != ERR_TEMP)
                print_error("%s: %s\n", faults[i], err_name(err));
            assert_int_equal(err, ERR_TEMP);
        }
        hsmd_shim(&hsmd, "");
        require_healed(faults[i]);
    }
}

// A token that does not come back from a call: each is answered at its deadline, more of them than
// there are sessions; and hsmd still stops.
static void test_hang(void **state)
{
    (void)state;
    client_close(client);
    hsmd_stop(&hsmd, SIGTERM);
    hsmd_configure(&hsmd, "MODULE", SHIM_PATH, "request-timeout = 4000", "request-timeout = 500",
                   NULL);
    assert_true(hsmd_start(&hsmd, NULL));
    client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(), ERR_OK);
    hsmd_shim(&hsmd, "hang C_Sign\n");
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(sign(), ERR_TEMP);
    assert_true(hsmd_said(&hsmd, "not done at its deadline"));
    hsmd_shim(&hsmd, "");
    require_healed("hang");
    hsmd_shim(&hsmd, "hang C_Sign\n");
    assert_int_equal(sign(), ERR_TEMP);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_true(hsmd_said(&hsmd, "stuck in the token"));
}

// The token comes back with another PIN: it is tried once, and never again by itself.
static void test_pin_changed(void **state)
{
    (void)state;
    assert_int_equal(sign(), ERR_OK);
    hsmd_shim(&hsmd, "pull\n");
    assert_int_equal(file_write(hsmd_path(&hsmd, "pin"), BYTES_LITERAL("99999"), 0400, NULL),
                     ERR_OK);
    for (unsigned n = 0; n < 4; n++)
        assert_int_equal(sign(), ERR_TEMP);
    hsmd_shim(&hsmd, "");
    for (unsigned n = 0; n < 20; n++) {
        assert_int_equal(sign(), ERR_TEMP);
        usleep(100000);
    }
    assert_true(hsmd_said(&hsmd, "given up until hsmd is started again"));
    assert_int_equal(file_write(hsmd_path(&hsmd, "pin"), BYTES_LITERAL(SOFTHSM_PIN), 0400, NULL),
                     ERR_OK);
    usleep(1200000);
    assert_int_equal(sign(), ERR_TEMP);
}

// A token that hangs when it is opened does not hold up hsmd's start, nor its end.
static void test_hang_at_start(void **state)
{
    (void)state;
    client_close(client);
    for (unsigned i = 0; i < 2; i++) {
        hsmd_stop(&hsmd, SIGTERM);
        hsmd_shim(&hsmd, "hang C_Login\n");
        assert_true(hsmd_start(&hsmd, NULL));
        assert_true(hsmd_said(&hsmd, "hanging, going on without it"));
        client = hsmd_client(&hsmd, "gw", 0);
        assert_int_equal(sign(), ERR_TEMP);
        if (i == 1)
            break;
        hsmd_shim(&hsmd, "");
        require_healed("a hang at the start");
        client_close(client);
    }
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    hsmd_shim(&hsmd, "");
}

// How many lines of the audit log have both texts.
static unsigned lines(const char *text, const char *other)
{
    struct buf log;
    unsigned count = 0;
    buf_init(&log, 64u << 20);
    assert_int_equal(file_read(hsmd_path(&hsmd, "state/audit.log"), &log, NULL), ERR_OK);
    char *rest = (char *)log.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        count += strstr(line, text) && strstr(line, other);
    buf_clear(&log);
    return count;
}

// The log tells once that the token was lost, why, and that it is back, however many requests meet
// it meanwhile; and again the next time.
static void test_lines(void **state)
{
    static const char lost[] = "\"event\":\"token-lost\",\"token\":\"main\"";
    static const char back[] = "\"event\":\"token-back\",\"token\":\"main\"";
    (void)state;
    unsigned lost_before = lines(lost, ""), back_before = lines(back, "");
    assert_int_equal(sign(), ERR_OK);
    for (unsigned n = 1; n <= 2; n++) {
        hsmd_shim(&hsmd, "pull 0xe0\n");
        deadline_t until = deadline_in(HEALED_MS);
        while (lines(lost, "") < lost_before + n && !deadline_is_past(until)) {
            assert_int_equal(sign(), ERR_TEMP);
            usleep(50000);
        }
        for (unsigned i = 0; i < 15; i++, usleep(100000)) // some looks of its own thread
            assert_int_equal(sign(), ERR_TEMP);
        assert_int_equal(lines(lost, ""), lost_before + n);
        assert_int_equal(lines(back, ""), back_before + n - 1);
        hsmd_shim(&hsmd, "");
        require_healed("pull");
        until = deadline_in(HEALED_MS);
        while (lines(back, "") < back_before + n && !deadline_is_past(until))
            usleep(50000);
        sleep(1);
        assert_int_equal(lines(lost, "no token with the label"), lost_before + n);
        assert_int_equal(lines(back, ""), back_before + n);
        assert_int_equal(lines(back, "\"reason\""), 0);
    }
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_true(audit_log_verify(hsmd_path(&hsmd, "state/audit.log")) > 4);
}

#define CALLERS 8

static atomic_bool is_over;
static atomic_uint good;
static atomic_uint temporary;
static atomic_uint wrong;

static void *call_until_over(void *argument)
{
    while (!atomic_load(&is_over)) {
        enum err err = sign();
        atomic_fetch_add(err == ERR_OK ? &good : err == ERR_TEMP ? &temporary : &wrong, 1);
        if (err != ERR_OK)
            usleep(10000);
    }
    return argument;
}

static void test_under_load(void **state)
{
    (void)state;
    static const char *const faults[] = {"kill\n",
                                         "pull\n",
                                         "",
                                         "logout\n",
                                         "fail C_Sign 0xb3 3 5\n",
                                         "fail C_SignInit 0x82 2 9\n",
                                         "fail C_Sign 0x06\n",
                                         "",
                                         "sessions 1\nkill\n",
                                         ""};
    pthread_t threads[CALLERS];
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_until_over, NULL), 0);
    for (unsigned i = 0; i < 2 * sizeof faults / sizeof *faults; i++) {
        hsmd_shim(&hsmd, faults[i % (sizeof faults / sizeof *faults)]);
        usleep(300000);
    }
    hsmd_shim(&hsmd, "");
    require_healed("load");
    unsigned before = atomic_load(&good);
    usleep(500000);
    assert_true(atomic_load(&good) > before);
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_true(atomic_load(&temporary) > 0); // or the faults did not arrive
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_once),       TEST(test_lines),       TEST(test_lasting),       TEST(test_hang),
        TEST(test_under_load), TEST(test_pin_changed), TEST(test_hang_at_start),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
