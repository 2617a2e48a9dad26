// SPDX-License-Identifier: Apache-2.0
// Files, secrets, configuration files.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/conf.h"
#include "hsmd/base/file.h"
#include "hsmd/base/secret.h"

static char directory[128];
static char path[160];

static int make_directory(void **state)
{
    const char *base = getenv("TMPDIR");
    (void)state;
    snprintf(directory, sizeof directory, "%.80s/sealgate-base-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/file", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

static void put(const char *text, unsigned mode)
{
    struct detail detail = {0};
    if (file_write(path, bytes_of_text(text), mode, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
}

static void test_write_and_read(void **state)
{
    struct detail detail = {0};
    struct stat st;
    struct buf buf;
    (void)state;
    umask(077);
    put("first", 0640);
    put("second, longer", 0604); // over the first
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0604);
    buf_init(&buf, 14);
    assert_int_equal(file_read(path, &buf, &detail), ERR_OK);
    assert_string_equal(buf_text(&buf), "second, longer");
    buf_clear(&buf);
    buf_init(&buf, 13);
    assert_int_equal(file_read(path, &buf, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "larger than 13 bytes"));
    buf_clear(&buf);
    buf_init(&buf, 100);
    assert_int_equal(file_read(directory, &buf, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "not a regular file"));
    assert_int_equal(file_read("/nonexistent/file", &buf, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "/nonexistent/file: No such file"));
    assert_int_equal(file_write("/nonexistent/file", BYTES_LITERAL("x"), 0600, &detail), ERR_PERM);
    buf_clear(&buf);
}

// Over the chunk that file_read reads at a time, and exactly that.
static void test_read_larger_files(void **state)
{
    static const size_t sizes[] = {4095, 4096, 4097, 8192, 10000};
    char text[10001];
    (void)state;
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct detail detail = {0};
        struct buf buf;
        text[sizes[i]] = 0;
        put(text, 0600);
        buf_init(&buf, sizes[i]);
        assert_int_equal(file_read(path, &buf, &detail), ERR_OK);
        assert_int_equal(buf.len, sizes[i]);
        text[sizes[i]] = 'x';
        buf_clear(&buf);
    }
}

static void test_read_secret(void **state)
{
    static const struct {
        const char *content;
        unsigned mode;
        enum err class;
        const char *want; // the secret, or a part of the detail
    } cases[] = {
        {"1234", 0400, ERR_OK, "1234"},         {"1234\n", 0600, ERR_OK, "1234"},
        {"1234\r\n", 0600, ERR_OK, "1234"},     {"12 34\n\n", 0600, ERR_OK, "12 34\n"},
        {"1234", 0440, ERR_PERM, "chmod 0400"}, {"1234", 0404, ERR_PERM, "chmod 0400"},
        {"1234", 0602, ERR_PERM, "chmod 0400"}, {"", 0400, ERR_PERM, "empty"},
        {"\n", 0400, ERR_PERM, "empty"},
    };
    struct secret secret;
    (void)state;
    assert_int_equal(secret_init(&secret, 16, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        put(cases[i].content, cases[i].mode);
        enum err err = file_read_secret(path, &secret, &detail);
        bool same = err == ERR_OK ? bytes_equal(bytes_of(secret.data, secret.len),
                                                bytes_of_text(cases[i].want))
                                  : strstr(detail.text, cases[i].want) != NULL;
        if (err != cases[i].class || !same)
            fail_msg("case %zu: class %s: %s", i, err_name(err), detail.text);
    }
    char *large = calloc(1, secret.room + 1);
    struct detail detail = {0};
    memset(large, 'x', secret.room);
    put(large, 0400);
    assert_int_equal(file_read_secret(path, &secret, &detail), ERR_PERM);
    assert_int_equal(secret.len, 0);
    assert_int_equal(secret.data[0], 0);
    free(large);
    secret_clear(&secret);
}

// systemd may hand them over with a mode for the group of a User=.
static void test_read_credential(void **state)
{
    static const struct {
        unsigned mode;
        enum err class;
    } cases[] = {{0400, ERR_OK},   {0440, ERR_OK},   {0600, ERR_OK},
                 {0404, ERR_PERM}, {0460, ERR_PERM}, {0441, ERR_PERM}};
    struct secret secret;
    char beside[300];
    (void)state;
    assert_int_equal(secret_init(&secret, 16, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("1234", cases[i].mode);
        setenv("CREDENTIALS_DIRECTORY", directory, 1);
        assert_int_equal(file_read_secret(path, &secret, NULL), cases[i].class);
    }
    put("1234", 0440);
    snprintf(beside, sizeof beside, "%s/../%s/file", directory, strrchr(directory, '/') + 1);
    assert_int_equal(file_read_secret(beside, &secret, NULL), ERR_PERM);
    directory[strlen(directory) - 1] ^= 1; // another's, whose name only begins alike
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    directory[strlen(directory) - 1] ^= 1;
    assert_int_equal(file_read_secret(path, &secret, NULL), ERR_PERM);
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(file_read_secret(path, &secret, NULL), ERR_PERM);
    secret_clear(&secret);
}

static void test_secret_is_wiped(void **state)
{
    struct secret secret;
    unsigned char resident = 0;
    (void)state;
    assert_int_equal(secret_init(&secret, 5000, NULL), ERR_OK);
    assert_true(secret.room >= 5000);
    assert_int_equal((uintptr_t)secret.data % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    assert_int_equal(secret_set(&secret, "topsecret", 9), ERR_OK);
    assert_int_equal(secret_set(&secret, "new", 3), ERR_OK);
    assert_memory_equal(secret.data, "new\0\0\0\0\0\0", 9);
    assert_int_equal(secret_set(&secret, "x", secret.room + 1), ERR_PERM);
    assert_memory_equal(secret.data, "new", 3);
    secret.data[secret.room - 1] = 1;
    secret_wipe(&secret);
    assert_int_equal(secret.len, 0);
    for (size_t i = 0; i < secret.room; i++)
        assert_int_equal(secret.data[i], 0);
    void *page = secret.data;
    secret_clear(&secret);
    assert_null(secret.data);
    assert_int_equal(mincore(page, 1, &resident), -1);
    assert_int_equal(errno, ENOMEM);
    secret_clear(&secret);
}

static int hardened(void)
{
    struct rlimit core = {1, 1};
    struct detail detail = {0};
    if (secret_harden_process(&detail) != ERR_OK)
        return 1;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0)
        return 2;
#ifdef SEALGATE_DUMPABLE
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 ? 0 : 3;
#else
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 3;
#endif
}

// In a child, for it cannot be taken back.
static void test_harden_process(void **state)
{
    int status = 0;
    pid_t pid = fork();
    (void)state;
    if (pid == 0)
        _exit(hardened());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

// A validator as a program would have one.
static int check_positive(cfg_t *cfg, cfg_opt_t *opt)
{
    long value = cfg_opt_getnint(opt, cfg_opt_size(opt) - 1);
    if (value > 0)
        return 0;
    cfg_error(cfg, "%s must be greater than 0, not %ld", cfg_opt_name(opt), value);
    return -1;
}

static void test_conf_errors_name_the_line(void **state)
{
    static const struct {
        const char *content;
        const char *want; // after "FILE:"; NULL: it is fine
    } cases[] = {
        {"", NULL},
        {"# only a comment\n", NULL},
        {"number = 7\n\nsection a {\n  inner = 3\n}\n", NULL},
        {"\nunknown = 1\n", "2: no such option 'unknown'"},
        {"\n\nnumber = many\n", "3: invalid integer value for option 'number'"},
        {"number = 0\n", "1: number must be greater than 0, not 0"},
        {"number = -3\n", "1: number must be greater than 0, not -3"},
        {"section a {\n\n  inner = 0\n}\n", "3: inner must be greater than 0, not 0"},
        {"section a {\n  other = 0\n}\n", "2: no such option 'other'"},
        {"section {\n}\n", "1: missing title for section 'section'"},
        {"section a {\n  inner =", "2: premature end of file"},
        {"section a {\n  inner = 1\n", " ends inside a section"},
        {"section a {\n  inner = 1\n# }\n", " ends inside a section"},
        {"section a {\n  inner = 1\n} section b {", " ends inside a section"},
        {"section a {\n  inner = 1\n} # {", NULL},
        {"section 'a {' {\n  inner = 1 /* { */ }", NULL},
        {"section a {\n  inner = 1\n}}\n", "3: "},
        {"number = 1\nnumber = 99999999999999999999\n", "2: integer value for option 'number'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cfg_opt_t section[] = {{.name = "inner", .type = CFGT_INT, .validcb = check_positive},
                               CFG_END()};
        cfg_opt_t options[] = {
            {.name = "number", .type = CFGT_INT, .def = {.number = 1}, .validcb = check_positive},
            CFG_SEC("section", section, CFGF_MULTI | CFGF_TITLE),
            CFG_END()};
        struct detail detail = {0};
        char want[300];
        cfg_t *cfg = NULL;
        put(cases[i].content, 0600);
        enum err err = conf_load(path, options, &cfg, &detail);
        snprintf(want, sizeof want, "%s:%s", path, cases[i].want ? cases[i].want : "");
        if (cases[i].want) {
            if (err != ERR_PERM || cfg || strncmp(detail.text, want, strlen(want)) != 0)
                fail_msg("%s: class %s: %s", cases[i].content, err_name(err), detail.text);
        } else if (err != ERR_OK) {
            fail_msg("%s: %s", cases[i].content, detail.text);
        } else {
            cfg_free(cfg);
        }
    }
}

// Of what cannot be read libConfuse's scanner would end the process.
static void test_conf_needs_a_file(void **state)
{
    cfg_opt_t options[] = {CFG_INT("number", 1, CFGF_NONE), CFG_END()};
    struct detail detail = {0};
    cfg_t *cfg = NULL;
    (void)state;
    assert_int_equal(conf_load(directory, options, &cfg, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "not a regular file"));
    assert_int_equal(conf_load(path, options, &cfg, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "No such file"));
    assert_int_equal(conf_load(path, options, &cfg, NULL), ERR_PERM);
    assert_null(cfg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_write_and_read),    TEST(test_read_larger_files),
        TEST(test_read_secret),       TEST(test_secret_is_wiped),
        TEST(test_harden_process),    TEST(test_conf_errors_name_the_line),
        TEST(test_conf_needs_a_file), TEST(test_read_credential),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
