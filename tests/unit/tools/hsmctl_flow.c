// SPDX-License-Identifier: Apache-2.0
// The command itself against a stand-in for hsmd, over real sockets with CURVE: what it says,
// prints and exits with when all is well, when hsmd is away, not itself, silent or broken, and when
// what it is to sign is not what it was told.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <zmq.h>

#include "hsmd/base/file.h"
#include "peer.h"
#include "tools/hsmctl.h"

#define PASSPHRASE "open sesame"
#define PROGRAM TEST_BUILD "/bin/hsmctl"
#define TEXT_MAX 65536

static char directory[] = "/tmp/sealgate-flow-XXXXXX";
static const char *const names[PEER_OFFICERS] = {"alice", "bob", "dave"};
static struct peer peer;

struct outcome {
    int status;
    char out[TEXT_MAX], err[TEXT_MAX];
};

static void path_of(char path[200], const char *name)
{
    snprintf(path, 200, "%s/%s", directory, name);
}

static void write_text(const char *name, const char *text)
{
    char path[200];
    struct detail detail = {0};
    path_of(path, name);
    if (file_write(path, bytes_of_text(text), 0600, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
}

static void slurp(const char *name, char text[TEXT_MAX])
{
    char path[200];
    struct buf file;
    path_of(path, name);
    buf_init(&file, TEXT_MAX - 1);
    assert_int_equal(file_read(path, &file, NULL), ERR_OK);
    snprintf(text, TEXT_MAX, "%s", buf_text(&file));
    buf_clear(&file);
}

// Runs it as one of the officers, with these lines on descriptor 3. Words are split at spaces.
static void run_lines(unsigned officer, const char *lines, const char *command,
                      struct outcome *outcome)
{
    char conf[200], out[200], err[200], words[1024];
    char *argv[40] = {(char *)PROGRAM, (char *)"-c", conf, (char *)"--passphrase-fd", (char *)"3"};
    int argc = 5, ends[2], status = 0;
    path_of(conf, names[officer]);
    strcat(conf, ".conf");
    path_of(out, "out");
    path_of(err, "err");
    snprintf(words, sizeof words, "%s", command);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], lines, strlen(lines)), (ssize_t)strlen(lines));
    close(ends[1]);
    peer.self = officer;
    pid_t pid = fork();
    if (pid == 0) {
        setsid(); // no terminal
        dup2(ends[0], 3);
        dup2(open("/dev/null", O_RDONLY), 0);
        dup2(open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
        dup2(open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
        execv(PROGRAM, argv);
        _exit(127);
    }
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    outcome->status = WEXITSTATUS(status);
    slurp("out", outcome->out);
    slurp("err", outcome->err);
    // Nothing that came from outside may do something to a terminal.
    assert_null(strchr(outcome->out, '\033'));
    assert_null(strchr(outcome->err, '\033'));
}

static void run(unsigned officer, const char *command, struct outcome *outcome)
{
    run_lines(officer, PASSPHRASE "\n", command, outcome);
}

static void start(enum peer_mode mode)
{
    peer.mode = mode;
    peer_start(&peer);
}

static void expect(const struct outcome *outcome, int status, const char *where, const char *text)
{
    if (outcome->status != status || !strstr(where, text))
        fail_msg("status %d, wanted %d and \"%s\"\nout: %s\nerr: %s", outcome->status, status, text,
                 outcome->out, outcome->err);
}

static json_t *json_of(const struct outcome *outcome)
{
    json_t *json = json_loads(outcome->out, 0, NULL);
    if (!json)
        fail_msg("no JSON: %s / %s", outcome->out, outcome->err);
    return json;
}

static void test_quorum(void **state)
{
    (void)state;
    struct outcome o;
    start(PEER_GOOD);
    run(0, "key csr signing --common-name mail.a.example --yes", &o);
    expect(&o, 0, o.out, "Proposal 7 waits for 1 more signature, until 2026-11-29T01:00:00.000Z");
    expect(&o, 0, o.out, "hsmctl approve 7");
    expect(&o, 0, o.err, "mail.a.example"); // it was explained
    expect(&o, 0, o.err, "\nIn short: ");
    assert_int_equal(peer_signatures(&peer), 1);
    run(0, "approve 7 --yes", &o);
    expect(&o, 1, o.err, "you have approved proposal 7 already"); // hsmd's words
    run(2, "approve 7 --yes", &o);
    expect(&o, 1, o.err, "dave is an auditor");
    run(2, "key enable a --yes", &o);
    expect(&o, 1, o.err, "dave is an auditor");
    run(1, "proposals 7", &o);
    expect(&o, 0, o.out, "mail.a.example");
    run(1, "result 7", &o);
    expect(&o, 1, o.out, "waits for 1 more");
    run(1, "approve 7", &o);
    expect(&o, 1, o.err, "no terminal");
    assert_int_equal(peer_signatures(&peer), 1);
    run(1, "approve 7 --yes", &o);
    expect(&o, 0, o.err, "Done: proposal 7");
    assert_string_equal(o.out, "-----BEGIN THING-----\n");
    assert_int_equal(peer_signatures(&peer), 2);
    run(1, "approve 7 --yes", &o);
    expect(&o, 1, o.err, "does not wait any more: done");
    run(0, "result 7", &o);
    assert_string_equal(o.out, "-----BEGIN THING-----\n");
    peer_stop(&peer);
}

static void test_json(void **state)
{
    (void)state;
    struct outcome o;
    start(PEER_GOOD);
    run(0, "unlock --yes --json --pin-fd 3", &o); // the passphrase is the first line, taken as PIN
    expect(&o, 2, o.out, "nothing to read");
    json_t *json = json_of(&o);
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "error"), "class")),
                        "perm");
    json_decref(json);
    run_lines(0, "1234\n" PASSPHRASE "\n", "unlock --yes --json --pin-fd 3", &o);
    assert_int_equal(o.status, 0);
    assert_string_equal(o.err, "");
    json = json_of(&o);
    assert_string_equal(json_string_value(json_object_get(json, "state")), "pending");
    json_decref(json);
    assert_true(bytes_equal(peer_attachment(&peer), BYTES_LITERAL("1234")));
    run(0, "reject 7 --yes --json", &o);
    assert_int_equal(o.status, 0);
    json_decref(json_of(&o));
    run(0, "status --json", &o);
    json_decref(json_of(&o));
    run(0, "key list --json", &o);
    json_decref(json_of(&o));
    run(0, "key enable --json", &o);
    expect(&o, 2, o.out, "key enable needs NAME");
    json_decref(json_of(&o));
    peer_stop(&peer);
}

static void test_reads(void **state)
{
    (void)state;
    static const struct {
        const char *command, *text;
    } rows[] = {
        {"status", "main"},
        {"status", "! escape \\x1b[2J"},
        {"proposals", "Nothing waits"},
        {"key list", "There are no keys"},
        {"client list", "There are no clients"},
        {"officer list", "auditor"},
        {"token list", "main"},
        {"token show main", "There are no private keys"},
        {"audit fetch", PEER_AUDIT_LOG},
    };
    struct outcome o;
    start(PEER_GOOD);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        run(2, rows[i].command, &o);
        expect(&o, 0, o.out, rows[i].text);
    }
    run(2, "key show nothing", &o);
    expect(&o, 1, o.err, "no such key");
    run(2, "proposals 8", &o);
    expect(&o, 1, o.err, "there is no proposal 8");
    run_lines(2, "wrong passphrase\n", "status", &o);
    expect(&o, 2, o.err, "passphrase");
    run_lines(2, "", "status", &o);
    expect(&o, 2, o.err, "nothing to read");
    peer_stop(&peer);
}

// Agreed on, but hsmd could not write it down: it offers its proposer to say so again.
static void test_again(void **state)
{
    (void)state;
    struct outcome o;
    start(PEER_ENOUGH);
    run(0, "key enable signing --yes", &o);
    expect(&o, 0, o.out, "has all its signatures, but was not carried out");
    run(0, "approve 7 --yes", &o);
    expect(&o, 0, o.err, "Done: proposal 7");
    assert_int_equal(peer_signatures(&peer), 2);
    peer_stop(&peer);
}

// An act that this hsmctl is too old for can be looked at as far as hsmd tells it, and rejected.
static void test_later_act(void **state)
{
    (void)state;
    struct outcome o;
    start(PEER_LATER_ACT);
    run(0, "key enable signing --yes", &o);
    run(1, "approve 7 --yes", &o);
    expect(&o, 1, o.err, "cannot be read by this hsmctl");
    run(1, "proposals 7", &o);
    expect(&o, 1, o.err, "cannot be read by this hsmctl");
    expect(&o, 1, o.out, "hsmd calls it: a summary");
    assert_int_equal(peer_signatures(&peer), 1);
    run(1, "reject 7 --yes", &o);
    assert_int_equal(o.status, 0);
    assert_int_equal(peer_signatures(&peer), 2);
    peer_stop(&peer);
}

// What is shown is what was signed, or nothing is signed.
static void test_tampered(void **state)
{
    (void)state;
    static const struct {
        enum peer_mode mode;
        const char *text;
    } rows[] = {
        {PEER_OTHER_ACT, "not what alice signed"},
        {PEER_OTHER_DIGEST, "its digest is not what hsmd says"},
        {PEER_OTHER_SIGNATURE, "not what alice signed"},
    };
    struct outcome o;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        start(rows[i].mode);
        run(0, "key enable signing --yes", &o);
        assert_int_equal(peer_signatures(&peer), 1);
        run(1, "approve 7 --yes", &o);
        expect(&o, 1, o.err, rows[i].text);
        assert_int_equal(peer_signatures(&peer), 1);
        run(1, "proposals 7", &o);
        expect(&o, 1, o.err, rows[i].text);
        if (rows[i].mode == PEER_OTHER_SIGNATURE) {
            run(1, "reject 7 --yes", &o);
            expect(&o, 0, o.err, rows[i].text); // she is told why
            assert_int_equal(peer_signatures(&peer), 2);
        }
        peer_stop(&peer);
    }
}

static void test_failed(void **state)
{
    (void)state;
    struct outcome o;
    start(PEER_FAILING);
    run(0, "key enable signing --yes", &o);
    run(1, "approve 7 --yes", &o);
    expect(&o, 1, o.out, "could not be carried out:\n    token \\x1b[2J gone");
    peer_stop(&peer);
}

static void test_troubles(void **state)
{
    (void)state;
    static const struct {
        enum peer_mode mode;
        int status;
        const char *text;
    } rows[] = {
        {PEER_DENYING, 1, "refused this officer's key"},
        {PEER_SILENT, 3, "does not answer within 1500 ms"},
        {PEER_GARBAGE, 2, "hsmd's answer cannot be read"},
        {PEER_OTHER_ID, 2, "to another question"},
        {PEER_TWO_FRAMES, 2, "is no answer"},
        {PEER_NO_JSON, 2, "is no JSON"},
        {PEER_NO_LOG, 3, "hsmd says no: the audit log cannot be written"},
    };
    struct outcome o;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        start(rows[i].mode);
        run(0, rows[i].mode == PEER_SILENT ? "status --timeout 1500" : "status", &o);
        expect(&o, rows[i].status, o.err, rows[i].text);
        peer_stop(&peer);
    }
    run(0, "status", &o);
    expect(&o, 3, o.err, "nobody listens");
}

// Half of one file and half of another is not given out as a log.
static void test_rotated(void **state)
{
    (void)state;
    struct outcome o;
    start(PEER_ROTATING);
    run(2, "audit fetch", &o);
    expect(&o, 3, o.err, "was rotated while it was fetched");
    peer_stop(&peer);
}

// Another hsmd than the one of the key that is configured.
static void test_untrusted(void **state)
{
    (void)state;
    struct outcome o;
    char public[CURVE_TEXT_SIZE], kept[CURVE_TEXT_SIZE];
    memcpy(kept, peer.secret_key, sizeof kept);
    assert_int_equal(zmq_curve_keypair(public, peer.secret_key), 0);
    start(PEER_GOOD);
    run(0, "status --timeout 10000", &o);
    expect(&o, 2, o.err, "is not the officers' channel of the hsmd");
    peer_stop(&peer);
    memcpy(peer.secret_key, kept, sizeof kept);
}

// Commands of a file, with one passphrase, until the first one that fails.
static void test_batch(void **state)
{
    (void)state;
    struct outcome o;
    char command[300], path[200];
    path_of(path, "batch");
    snprintf(command, sizeof command, "batch %s --yes", path);
    start(PEER_GOOD);
    write_text("batch", "# two reads and an act\r\n\nstatus\nofficer list\n"
                        "key 'enable' sign\"ing\" # at last\n");
    run(0, command, &o);
    expect(&o, 0, o.out, "dave");
    expect(&o, 0, o.out, "Proposal 7 waits for 1 more signature");
    expect(&o, 0, o.err, "key \"signing\"");
    assert_true(strstr(o.out, "dave") < strstr(o.out, "Proposal 7"));
    assert_int_equal(peer_signatures(&peer), 1);
    write_text("batch", "officer list\napprove 7\nkey enable other\n");
    run(0, command, &o);
    expect(&o, 1, o.err, "line 2: hsmd says no: you have approved proposal 7 already");
    expect(&o, 1, o.out, "dave");
    assert_null(strstr(o.out, "Proposal 7 waits")); // the third was not begun
    assert_null(strstr(o.err, "other"));
    peer_stop(&peer);
    run(0, command, &o);
    expect(&o, 3, o.err, "line 1: ");
    start(PEER_FAILING);
    write_text("batch", "key enable signing\n");
    run(0, command, &o);
    expect(&o, 0, o.out, "Proposal 7 waits");
    write_text("batch", "approve 7\nstatus\n");
    run(1, command, &o);
    expect(&o, 1, o.err, "line 1: this could not be carried out");
    assert_null(strstr(o.out, "ready"));
    peer_stop(&peer);
}

static void test_keygen(void **state)
{
    (void)state;
    struct outcome o;
    char command[300], path[200];
    struct officer_public public;
    struct officer_key key = {0};
    struct secret passphrase = {0};
    struct detail detail = {0};
    path_of(path, "eve");
    snprintf(command, sizeof command, "officer keygen eve --out %s", path);
    run_lines(0, "short\n", command, &o);
    expect(&o, 2, o.err, "8");
    run(0, command, &o);
    expect(&o, 0, o.out, "hsmctl officer add eve --file");
    run(0, command, &o);
    expect(&o, 2, o.err, "is there already");
    strcat(path, ".pub");
    assert_int_equal(officer_public_read(path, &public, &detail), ERR_OK);
    assert_string_equal(public.name, "eve");
    path_of(path, "eve.key");
    assert_int_equal(secret_init(&passphrase, 64, &detail), ERR_OK);
    assert_int_equal(secret_set(&passphrase, PASSPHRASE, strlen(PASSPHRASE)), ERR_OK);
    assert_int_equal(officer_key_read(path, &passphrase, &key, &detail), ERR_OK);
    assert_memory_equal(key.public_signing, public.signing_key, sizeof public.signing_key);
    secret_clear(&passphrase);
    officer_key_clear(&key);
}

static int set_up(void **state)
{
    (void)state;
    char text[600], public[CURVE_TEXT_SIZE], path[200];
    struct secret passphrase = {0};
    struct detail detail = {0};
    assert_non_null(mkdtemp(directory));
    snprintf(peer.endpoint, sizeof peer.endpoint, "ipc://%s/socket", directory);
    assert_int_equal(zmq_curve_keypair(public, peer.secret_key), 0);
    write_text("server.pub", public);
    assert_int_equal(secret_init(&passphrase, 64, &detail), ERR_OK);
    assert_int_equal(secret_set(&passphrase, PASSPHRASE, strlen(PASSPHRASE)), ERR_OK);
    for (unsigned i = 0; i < PEER_OFFICERS; i++) {
        struct officer_key key = {0};
        char name[40];
        assert_int_equal(officer_key_generate(&key, &detail), ERR_OK);
        assert_int_equal(officer_public_of(&key, names[i], &peer.officers[i], &detail), ERR_OK);
        snprintf(name, sizeof name, "%s.key", names[i]);
        path_of(path, name);
        assert_int_equal(officer_key_write(&key, path, &passphrase, &detail), ERR_OK);
        officer_key_clear(&key);
        snprintf(text, sizeof text,
                 "endpoint = \"%s\"\nserver-key-file = server.pub\nkey-file = %s.key\n"
                 "timeout = 20000\n",
                 peer.endpoint, names[i]);
        snprintf(name, sizeof name, "%s.conf", names[i]);
        write_text(name, text);
    }
    secret_clear(&passphrase);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const files[] = {
        "server.pub", "alice.key", "alice.conf", "bob.key", "bob.conf", "dave.key", "dave.conf",
        "eve.key",    "eve.pub",   "out",        "err",     "socket",   "batch"};
    char path[200];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        path_of(path, files[i]);
        unlink(path);
    }
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quorum),    cmocka_unit_test(test_json),
        cmocka_unit_test(test_reads),     cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_failed),    cmocka_unit_test(test_troubles),
        cmocka_unit_test(test_untrusted), cmocka_unit_test(test_keygen),
        cmocka_unit_test(test_again),     cmocka_unit_test(test_later_act),
        cmocka_unit_test(test_rotated),   cmocka_unit_test(test_batch),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
