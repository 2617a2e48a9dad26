// SPDX-License-Identifier: Apache-2.0
// Key files: written, read by us and by the openssl command, refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/officers/keyfile.h"

#define PASSPHRASE "correct horse"

static char directory[128];
static char path[160];
static struct secret passphrase;
static struct officer_key written;
static struct buf whole; // the file that was written

static int setup(void **state)
{
    struct detail detail = {0};
    const char *base = getenv("TMPDIR");
    (void)state;
    snprintf(directory, sizeof directory, "%.80s/sealgate-officer-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/alice.key", directory);
    buf_init(&whole, 8192);
    if (secret_init(&passphrase, 2000, &detail) != ERR_OK ||
        secret_set(&passphrase, PASSPHRASE, strlen(PASSPHRASE)) != ERR_OK ||
        officer_key_generate(&written, &detail) != ERR_OK ||
        officer_key_write(&written, path, &passphrase, &detail) != ERR_OK ||
        file_read(path, &whole, &detail) != ERR_OK) {
        fprintf(stderr, "%s\n", detail.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    officer_key_clear(&written);
    secret_clear(&passphrase);
    buf_clear(&whole);
    return rmdir(directory);
}

static void put(struct bytes data, unsigned mode)
{
    struct detail detail = {0};
    if (file_write(path, data, mode, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
}

static void test_round_trip(void **state)
{
    struct officer_key key = {0};
    struct detail detail = {0};
    struct stat st;
    uint8_t signature[STATEMENT_SIGNATURE_SIZE];
    const struct bytes message = BYTES_LITERAL("message");
    (void)state;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    if (officer_key_read(path, &passphrase, &key, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    assert_memory_equal(key.signing.data, written.signing.data, 32);
    assert_string_equal((const char *)key.curve.data, (const char *)written.curve.data);
    assert_int_equal(key.curve.len, CURVE_TEXT_SIZE - 1);
    assert_memory_equal(key.public_signing, written.public_signing, sizeof key.public_signing);
    assert_string_equal(key.public_curve, written.public_curve);
    assert_true(curve_is_key(key.public_curve));
    assert_int_equal(officer_key_sign(&key, message, signature, &detail), ERR_OK);
    assert_int_equal(statement_check(bytes_of(written.public_signing, 32), message,
                                     bytes_of(signature, sizeof signature), &detail),
                     ERR_OK);
    // The key as it is (behind its text for a moment) is not left there.
    for (size_t i = CURVE_TEXT_SIZE; i < key.curve.room; i++)
        assert_int_equal(key.curve.data[i], 0);
    officer_key_clear(&key);
    officer_key_clear(&key);
}

static void test_form(void **state)
{
    const char *text = buf_text(&whole);
    const char *second = strstr(text + 1, "-----BEGIN ENCRYPTED PRIVATE KEY-----");
    (void)state;
    assert_int_equal(strncmp(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----", 37), 0);
    assert_non_null(second);
    assert_null(strstr(second + 1, "-----BEGIN"));
}

// What the openssl command makes of the file: its output, or a failure.
static bool run_openssl(const char *arguments, char *out, size_t size)
{
    char command[512];
    snprintf(command, sizeof command, "openssl %s 2>&1", arguments);
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    size_t len = fread(out, 1, size - 1, pipe);
    out[len] = 0;
    int status = pclose(pipe);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_openssl_command(void **state)
{
    char arguments[300];
    char out[4096];
    char hex[3 * 32 + 1];
    (void)state;
    put(buf_bytes(&whole), 0600);
    snprintf(arguments, sizeof arguments,
             "pkey -in %s -passin pass:'" PASSPHRASE "' -noout -text_pub", path);
    if (!run_openssl(arguments, out, sizeof out))
        fail_msg("%s", out);
    assert_non_null(strstr(out, "ED25519 Public-Key:"));
    for (size_t i = 0; i < 15; i++) // its first line of the key
        snprintf(hex + 3 * i, sizeof hex - 3 * i, "%02x:", written.public_signing[i]);
    if (!strstr(out, hex))
        fail_msg("no %s in %s", hex, out);
    snprintf(arguments, sizeof arguments, "asn1parse -in %s", path);
    assert_true(run_openssl(arguments, out, sizeof out));
    assert_non_null(strstr(out, ":PBES2"));
    assert_non_null(strstr(out, ":scrypt"));
    assert_non_null(strstr(out, ":aes-256-cbc"));
    snprintf(arguments, sizeof arguments, "pkey -in %s -passin pass:wrong-one -noout", path);
    assert_false(run_openssl(arguments, out, sizeof out));
}

static void refused(enum err wanted, const char *why)
{
    struct officer_key key = {0};
    struct detail detail = {0};
    assert_int_equal(officer_key_read(path, &passphrase, &key, &detail), wanted);
    if (!strstr(detail.text, why))
        fail_msg("\"%s\" without \"%s\"", detail.text, why);
    assert_null(key.signing.data);
    assert_null(key.curve.data);
}

static void test_wrong_passphrase(void **state)
{
    static const char *const wrong[] = {"correct horsf", "correct hors", "correct horse ", "x"};
    (void)state;
    put(buf_bytes(&whole), 0600);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(secret_set(&passphrase, wrong[i], strlen(wrong[i])), ERR_OK);
        refused(ERR_DENIED, "wrong passphrase");
    }
    secret_wipe(&passphrase);
    refused(ERR_DENIED, "wrong passphrase");
    assert_int_equal(secret_set(&passphrase, PASSPHRASE, strlen(PASSPHRASE)), ERR_OK);
}

static void test_refused_files(void **state)
{
    const char *second = strstr(buf_text(&whole) + 1, "-----BEGIN");
    size_t half = (size_t)(second - buf_text(&whole));
    struct buf other;
    (void)state;
    buf_init(&other, 16384);
    put(buf_bytes(&whole), 0640);
    refused(ERR_PERM, "others may read it");
    put(buf_bytes(&whole), 0604);
    refused(ERR_PERM, "others may read it");
    put(bytes_of(whole.data, half), 0600);
    refused(ERR_PERM, "not an officer's key file");
    put(bytes_of(whole.data, half / 2), 0600);
    refused(ERR_PERM, "not an officer's key file");
    put(bytes_of(whole.data, half + 100), 0600);
    refused(ERR_PERM, "not an officer's key file");
    put(BYTES_LITERAL("hello\n"), 0600);
    refused(ERR_PERM, "not an officer's key file");
    // The two the other way round.
    assert_int_equal(buf_put(&other, second, whole.len - half), ERR_OK);
    assert_int_equal(buf_put(&other, whole.data, half), ERR_OK);
    put(buf_bytes(&other), 0600);
    refused(ERR_PERM, "no key of type ED25519");
    buf_reset(&other);
    assert_int_equal(buf_put_bytes(&other, buf_bytes(&whole)), ERR_OK);
    assert_int_equal(buf_put(&other, whole.data, half), ERR_OK);
    put(buf_bytes(&other), 0600);
    refused(ERR_PERM, "behind the two keys");
    assert_int_equal(unlink(path), 0);
    refused(ERR_PERM, "No such file");
    buf_clear(&other);
}

static void test_refused_writes(void **state)
{
    struct detail detail = {0};
    char text[KEYFILE_PASSPHRASE_MAX + 2];
    (void)state;
    put(BYTES_LITERAL("mine"), 0600);
    assert_int_equal(officer_key_write(&written, path, &passphrase, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "File exists"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(secret_set(&passphrase, "1234567", 7), ERR_OK);
    assert_int_equal(officer_key_write(&written, path, &passphrase, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "fewer than 8"));
    // Seven characters in ten bytes.
    assert_int_equal(secret_set(&passphrase,
                                "\xc3\xa4\xc3\xb6\xc3\xbc"
                                "4567",
                                10),
                     ERR_OK);
    assert_int_equal(officer_key_write(&written, path, &passphrase, &detail), ERR_PERM);
    memset(text, 'a', sizeof text);
    assert_int_equal(secret_set(&passphrase, text, sizeof text), ERR_OK);
    assert_int_equal(officer_key_write(&written, path, &passphrase, &detail), ERR_PERM);
    assert_int_equal(secret_set(&passphrase, PASSPHRASE, strlen(PASSPHRASE)), ERR_OK);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_public(void **state)
{
    struct officer_public public = {0};
    struct officer_public again = {0};
    struct detail detail = {0};
    struct buf line;
    (void)state;
    assert_int_equal(officer_public_of(&written, "no name", &public, &detail), ERR_PERM);
    assert_int_equal(officer_public_of(&written, "alice", &public, &detail), ERR_OK);
    assert_int_equal(officer_public_write(&public, path, &detail), ERR_OK);
    if (officer_public_read(path, &again, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    assert_memory_equal(&public, &again, sizeof public);
    buf_init(&line, 400);
    assert_int_equal(file_read(path, &line, &detail), ERR_OK);
    assert_int_equal(strncmp(buf_text(&line), "officer-1 alice ", 16), 0);
    assert_int_equal(line.len, 16 + 64 + 1 + 40 + 1);
    for (size_t i = 0; i < line.len - 1; i++) { // any cut, and any line end in the middle
        put(bytes_of(line.data, i), 0644);
        assert_int_equal(officer_public_read(path, &again, &detail), ERR_PERM);
    }
    assert_int_equal(buf_put_text(&line, "more\n"), ERR_OK);
    put(buf_bytes(&line), 0644);
    assert_int_equal(officer_public_read(path, &again, &detail), ERR_PERM);
    put(BYTES_LITERAL("officer-1 alice "
                      "0100000000000000000000000000000000000000000000000000000000000000 "
                      "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7\n"),
        0644); // a key that anybody can sign for
    assert_int_equal(officer_public_read(path, &again, &detail), ERR_PERM);
    buf_clear(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_form),
        cmocka_unit_test(test_openssl_command), cmocka_unit_test(test_wrong_passphrase),
        cmocka_unit_test(test_refused_files),   cmocka_unit_test(test_refused_writes),
        cmocka_unit_test(test_public),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
