// SPDX-License-Identifier: Apache-2.0
// hsmctl audit verify --state: what a log that passes for good by itself cannot hide from one who
// has seen it before.
#include "tools/hsmctl_audit_state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>

#include "hsmd/base/file.h"
#include "tests/support/audit_log.h"
#include "tools/hsmctl.h"

#define LOG_MAX ((size_t)1 << 20)
#define ARGUMENTS_MAX 24
#define BEHIND_CHECKPOINT 6 // lines, of AUDIT_LOG_LINES

static char directory[64];
static char said[8192];

static const char *in(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static void write_key(const char *kind)
{
    FILE *file = fopen(in(kind), "we");
    assert_non_null(file);
    assert_int_equal(PEM_write_PUBKEY(file, audit_log_public(kind)), 1);
    fclose(file);
}

// The command's status; said has what it printed. The words are options and names in the directory.
static int verify(const char *words)
{
    char text[256];
    char *argv[ARGUMENTS_MAX] = {"audit", "verify", NULL};
    int argc = 2, status = 0;
    char *rest = text;
    snprintf(text, sizeof text, "%s", words);
    for (char *word; (word = strsep(&rest, " ")) != NULL && argc < ARGUMENTS_MAX - 1;)
        argv[argc++] = *word == '-' ? word : strdup(in(word));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen(in("said"), "we", stdout) || dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
            _exit(99);
        int result = hsmctl_audit(argc, argv);
        fflush(NULL);
        _exit(result);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (int i = 2; i < argc; i++) {
        if (*argv[i] != '-')
            free(argv[i]);
    }
    struct buf out;
    buf_init(&out, sizeof said - 1);
    assert_int_equal(file_read(in("said"), &out, NULL), ERR_OK);
    snprintf(said, sizeof said, "%s", buf_text(&out));
    buf_clear(&out);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect(const char *words, int status, const char *text)
{
    int got = verify(words);
    if (got != status || !strstr(said, text))
        fail_msg("%s: %d, not %d with \"%s\": %s", words, got, status, text, said);
}

static void copy(const char *from, const char *to, unsigned lines)
{
    struct buf text;
    size_t len = 0;
    buf_init(&text, LOG_MAX);
    assert_int_equal(file_read(in(from), &text, NULL), ERR_OK);
    for (unsigned n = 0; n < lines && len < text.len; n++)
        len = (size_t)((uint8_t *)memchr(text.data + len, '\n', text.len - len) + 1 - text.data);
    assert_int_equal(file_write(in(to), bytes_of(text.data, len), 0600, NULL), ERR_OK);
    buf_clear(&text);
}

static void go_on(const char *name)
{
    struct audit *audit = NULL;
    assert_int_equal(audit_open(in(name), &audit, NULL), ERR_OK);
    audit_log_use(audit, 7);
    audit_log_seal(audit, "P-256");
    audit_close(audit);
}

static bool same_files(const char *one, const char *other)
{
    struct buf a, b;
    buf_init(&a, LOG_MAX);
    buf_init(&b, LOG_MAX);
    assert_int_equal(file_read(in(one), &a, NULL), ERR_OK);
    assert_int_equal(file_read(in(other), &b, NULL), ERR_OK);
    bool is_same = bytes_equal(buf_bytes(&a), buf_bytes(&b));
    buf_clear(&a);
    buf_clear(&b);
    return is_same;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/sealgate-state-XXXXXX");
    assert_non_null(mkdtemp(directory));
    write_key("P-256");
    audit_log_make(in("log"), "P-256");
    return 0;
}

static int tear_down(void **state)
{
    char command[80];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command); // NOLINT: our own mkdtemp's name
}

// Cut exactly behind a checkpoint the log is good by itself, and was longer.
static void test_cut(void **state)
{
    struct stat st;
    (void)state;
    expect("--key P-256 --state state log", 0, "no former check of this key is known");
    assert_int_equal(stat(in("state"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    expect("--key P-256 --state state log", 0, "goes on from seq 12");
    copy("state", "kept", 9);
    copy("log", "cut", BEHIND_CHECKPOINT);
    expect("--key P-256 cut", 0, "good: 6 lines");
    expect("--key P-256 --state state cut", 1,
           "cut: it ends with line 6, but a former check has seen line 12");
    assert_true(same_files("state", "kept"));
    go_on("cut"); // past the line that was seen, but it is another one
    for (unsigned i = 0; i < 3; i++)
        go_on("cut");
    expect("--key P-256 cut", 0, "good: 14 lines");
    expect("--key P-256 --state state cut", 1, "line 12 (seq 12): another log");
    assert_true(same_files("state", "kept"));
    go_on("log");
    expect("--key P-256 --state state --json log", 0, "\"former_seq\": 12");
    expect("--key P-256 --state state log", 0, "goes on from seq 14");
    copy("log", "cut", AUDIT_LOG_LINES);
    expect("--key P-256 --state state cut", 1, "a former check has seen line 14");
    expect("--key P-256 --state state --json cut", 1, "\"former_seq\": 14");
}

// A whole log of the same key, as long, longer or shorter.
static void test_swapped(void **state)
{
    (void)state;
    audit_log_make(in("other"), "P-256");
    expect("--key P-256 --state state log", 0, "good");
    expect("--key P-256 other", 0, "good");
    expect("--key P-256 --state state other", 1, "another log");
    go_on("other");
    expect("--key P-256 --state state other", 1, "another log");
    copy("other", "short", BEHIND_CHECKPOINT);
    expect("--key P-256 --state state short", 1, "cut");
    expect("--key P-256 --state state log", 0, "goes on from seq 12");
}

// name.0, name.1 and so on, four lines each: use, use, checkpoint, and the first of the next.
static void make_rotated(const char *name)
{
    struct audit *audit = NULL;
    char file[32];
    assert_int_equal(audit_open(in(name), &audit, NULL), ERR_OK);
    for (unsigned i = 0; i < 4; i++) {
        audit_log_use(audit, i);
        audit_log_use(audit, i);
        audit_log_seal(audit, "P-256");
        snprintf(file, sizeof file, "%s.%u", name, i);
        assert_int_equal(rename(in(name), in(file)), 0);
        assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    }
    audit_close(audit);
}

// The files that are given at a check are those of the last one, later ones, or just the next.
static void test_rotated(void **state)
{
    (void)state;
    make_rotated("r");
    make_rotated("q");
    expect("--key P-256 --state state r.0", 0, "seq 1 to 3");
    copy("state", "first", 9);
    expect("--key P-256 --state state r.0 r.1", 0, "goes on from seq 3");
    expect("--key P-256 --state state r.1 r.2", 0, "goes on from seq 7");
    copy("state", "third", 9);
    expect("--key P-256 --state state r.2 r.3", 0, "goes on from seq 11");
    expect("--key P-256 --state state r.2", 1, "cut");
    expect("--key P-256 --state state r.0 r.1 r.2 r.3", 0, "goes on from seq 15");
    // Right behind what was seen is enough, and more than that is a hole.
    expect("--key P-256 --state first r.2", 1, "line 3, which a former check has seen, is not in");
    expect("--key P-256 --state third r.3", 0, "goes on from seq 11");
    copy("first", "again", 9);
    expect("--key P-256 --state again r.1", 0, "goes on from seq 3");
    // So is another log of the key, rotated at the same lines.
    expect("--key P-256 q.1", 0, "good");
    expect("--key P-256 --state first q.1", 1, "line 1 (seq 4): another log");
    expect("--key P-256 --state first q.0 q.1", 1, "line 3 (seq 3): another log");
}

// Keys have their own lines; a log that goes on with another key is known by the former one.
static void test_keys(void **state)
{
    struct audit_state kept;
    struct audit *audit = NULL;
    (void)state;
    write_key("RSA-2048");
    audit_log_make(in("rsa"), "RSA-2048");
    expect("--key P-256 --state state log", 0, "no former check of this key");
    expect("--key RSA-2048 --state state rsa", 0, "no former check of this key");
    go_on("log");
    expect("--key P-256 --state state log", 0, "goes on from seq 12");
    assert_int_equal(audit_state_load(in("state"), &kept, NULL), ERR_OK);
    assert_int_equal(kept.count, 2);
    assert_int_equal(kept.keys[0].last.seq, 14);
    assert_int_equal(kept.keys[1].last.seq, 12);
    unlink(in("state"));
    expect("--key P-256 --state state log", 0, "no former check of this key");
    assert_int_equal(audit_open(in("log"), &audit, NULL), ERR_OK);
    audit_log_seal(audit, "RSA-2048");
    audit_close(audit);
    expect("--key RSA-2048 --key P-256 --state state log", 0, "goes on from seq 14");
    copy("log", "cut", AUDIT_LOG_LINES + 2);
    expect("--key P-256 --state state cut", 1, "has seen line 15");
}

// A file that is no memory is never taken for an empty one.
static void test_file(void **state)
{
    static const char *const none[] = {
        "",
        "\n",
        "Sealgate audit state 1",
        "Sealgate audit state 2\n",
        "Sealgate audit state 1\n\n",
        "Sealgate audit state 1\nxy 3 00\n",
        "Sealgate audit state 1\n"
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff 0 "
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
        "Sealgate audit state 1\n"
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff 5 "
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff 6 "
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_int_equal(file_write(in("state"), bytes_of_text(none[i]), 0600, NULL), ERR_OK);
        expect("--key P-256 --state state log", 2, "it is not what --state has written");
    }
    unlink(in("state"));
    expect("--key P-256 --state none/state log", 2, "none/state");
    expect("--no-key --state state log", 2, "--state goes with --key");
    copy("log", "unsigned", 1);
    expect("--key P-256 --state state unsigned", 1, "BAD");
    assert_int_not_equal(access(in("state"), F_OK), 0);
    expect("--key P-256 --state state log", 0, "good");
    assert_int_equal(chmod(in("state"), 0620), 0);
    expect("--key P-256 --state state log", 2, "others may write it");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_swapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rotated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
