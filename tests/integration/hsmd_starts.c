// SPDX-License-Identifier: Apache-2.0
// How the real hsmd starts, does not start, or starts with what there is; its command line.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_peer.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"

static struct hsmd hsmd;
static struct buf attributes;

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsmd_teardown(&hsmd);
    buf_clear(&attributes);
    return 0;
}

// Each test begins with the usual configuration and no hsmd, no log.
static int begin(void **state)
{
    (void)state;
    if (hsmd.pid)
        hsmd_stop(&hsmd, SIGKILL);
    hsmd_drop_log(&hsmd);
    hsmd_configure(&hsmd, NULL);
    return 0;
}

static enum err sign(struct client *client)
{
    return hsmd_sign(client, "signing", WIRE_RSA_PKCS1, buf_bytes(&attributes), NULL);
}

static void write_text(const char *name, const char *text, unsigned mode)
{
    assert_int_equal(file_write(hsmd_path(&hsmd, name), bytes_of_text(text), mode, NULL), ERR_OK);
}

static void read_text(const char *name, char *text, size_t size)
{
    struct buf buf;
    buf_init(&buf, size - 1);
    assert_int_equal(file_read(hsmd_path(&hsmd, name), &buf, NULL), ERR_OK);
    snprintf(text, size, "%s", buf_text(&buf));
    buf_clear(&buf);
}

#define OFFICERS "log-level = info officers-listen = { \"ipc://DIR/officers.sock\" } "

// What is wrong is said by its step, with the exit status of its class; by hsmd, or by hsmd migrate
// before it.
static void test_failing_starts(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *said;
        int status;
    } rows[] = {
        {"\"pin\"", "\"open-pin\"", "token main: PIN: ", 78},
        {"\"pin\"", "\"no-pin\"", "token main: PIN: ", 78},
        {"pin-file = \"pin\"", "pin-credential = \"pin\"", "no credential \"pin\"", 78},
        {"CERTS/rsa2048.pem", "CERTS/none.pem", "key signing: ", 78},
        {"CERTS/rsa2048.pem", "hsmd.conf", "key signing: ", 78},
        {"\"server.key\"", "\"server.pub\"", "server key: ", 78},
        {"\"server.key\"", "\"pin\"", "server key: ", 78},
        {"\"state\"", "\"/\"", "state directory: ", 78},
        {"\"state\"", "\"hsmd.conf\"", "state directory: ", 78},
        {"log-level = info", "audit-log = \"no/such/dir/log\"", "audit log: ", 78},
        {"log-level = info", "audit-log = \"hsmd.conf\"", "audit log: ", 78},
        {"ipc://DIR/data.sock", "ipc://DIR/none/data.sock", "endpoint ", 78},
        {"ipc://DIR/data.sock", "ipc:///tmp/hsmd-test.sock", "everyone may write", 78},
        {"ipc://DIR/data.sock", "tcp://192.0.2.1:7", "endpoint tcp://192.0.2.1:7", 78},
        {"gw.pub", "server.key.none", "client gateway: ", 78},
        {"log-level = info", OFFICERS "officers-server-key-file = \"pin\"",
         "officers' server key: ", 78},
        {"log-level = info", OFFICERS "officers-server-key-file = \"server-2.key\"",
         "officers' server key: it is the server key too", 78},
        {"label = \"general\"", "label = \"rsa2048\"",
         "key general: it is the same key in the token as key signing", 78},
        {"key decryption {", "key decryption { certificate-file = \"CERTS/rsa2048.pem\"",
         "key decryption: certificate: its certificate is of the same key as that of key signing",
         78},
        {"log-level = info", "log-levle = info", "hsmd.conf:4: ", 78},
    };
    char key[80];
    write_text("open-pin", SOFTHSM_PIN, 0440);
    read_text("server.key", key, sizeof key);
    write_text("server-2.key", key, 0400);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status = 0;
        hsmd_configure(&hsmd, rows[i].from, rows[i].to, NULL);
        if (hsmd_start(&hsmd, &status)) {
            print_error("row %zu (%s): started\n", i, rows[i].said);
            assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
            fail();
        }
        assert_true(hsmd_said(&hsmd, rows[i].said));
        if (status != rows[i].status)
            print_error("row %zu (%s): %d\n", i, rows[i].said, status);
        assert_int_equal(status, rows[i].status);
    }
}

// Tokens that are away, PINs that are refused and keys that are not good enough do not end the
// start: it is said, and the rest is served.
static void test_crippled_starts(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *said;
    } rows[] = {
        {"MODULE", "/nonexistent/module.so", "token main: module"},
        {"label = \"hsmd test\"", "label = \"another\"",
         "token main: no token with the label 'another'; in the module: 'hsmd test' (serial "},
        {"\"pin\"", "\"wrong-pin\"", "/wrong-pin)"},
        {"MODULE", "no/module.so", "/hsmd-test-"}, // from the file's directory
        {"MODULE", "no/module.so", "token=\"main\" state=\"opening\" module=\""},
        {"\"p256\"", "\"p999\"", "key ec-signing: "},
        {"id = \"01\"", "id = \"09\"", "key signing: "},
        {"\"p256\"", "\"weak\"", "key ec-signing: attributes: CKA_EXTRACTABLE"},
        {"\"p256\"", "\"shown\"", "key ec-signing: attributes: CKA_SENSITIVE"},
        {"\"p256\"", "\"decrypt-only\"", "key ec-signing: attributes: CKA_SIGN"},
        {"\"p384\"", "\"sign-only\"", "key ec-decryption: attributes: CKA_DERIVE"},
        {"CERTS/rsa2048.pem", "CERTS/general.pem", "key signing: another key has taken its place"},
    };
    write_text("wrong-pin", "99999", 0400);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_key = strncmp(rows[i].said, "key ", 4) == 0;
        bool is_signing = strncmp(rows[i].said, "key signing", 11) == 0;
        hsmd_configure(&hsmd, rows[i].from, rows[i].to, NULL);
        hsmd_serve(&hsmd);
        assert_true(hsmd_said(&hsmd, rows[i].said));
        struct client *client = hsmd_client(&hsmd, "gw", 0);
        enum err err = sign(client);
        if (err != (is_key && !is_signing ? ERR_OK : ERR_TEMP))
            fail_msg("%s: %s", rows[i].said, err_name(err));
        client_close(client);
        assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    }
}

// Nor does it start while keys, clients or grants are in its configuration.
static void test_former_sections(void **state)
{
    (void)state;
    int status = 0;
    hsmd.is_to_migrate = false; // as somebody would who does not know of it
    assert_false(hsmd_start(&hsmd, &status));
    assert_int_equal(status, 78);
    assert_true(hsmd_said(&hsmd, "hsmd.conf:8: keys, clients and grants are kept in the registry"));
    assert_true(hsmd_said(&hsmd, "'hsmd migrate -c "));
}

static void test_second(void **state)
{
    (void)state;
    hsmd_serve(&hsmd);
    struct hsmd second = hsmd;
    int status = 0;
    assert_false(hsmd_start(&second, &status));
    assert_int_equal(status, 75);
    assert_true(hsmd_said(&hsmd, "state/registry.db: in use by another process"));
    struct client *client = hsmd_client(&hsmd, "gw", 0); // the first one still has its socket
    assert_int_equal(sign(client), ERR_OK);
    client_close(client);
}

// Another one, with a state of its own, must not take our socket, nor remove it when it fails.
static void test_same_socket(void **state)
{
    (void)state;
    struct hsmd second = hsmd;
    struct stat st;
    hsmd_serve(&hsmd);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK);
    hsmd_configure(&second, "\"state\"", "\"state-2\"", NULL);
    int status = 0;
    assert_false(hsmd_start(&second, &status));
    assert_int_equal(status, 78);
    assert_true(hsmd_said(&hsmd, "another hsmd listens there"));
    struct client *later = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(later), ERR_OK);
    client_close(later);
    // A socket that was put in the place of ours is not ours to remove; our lock is.
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", hsmd_path(&hsmd, "data.sock"));
    unlink(address.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(stat(address.sun_path, &st), 0);
    assert_int_not_equal(stat(hsmd_path(&hsmd, "data.sock.lock"), &st), 0);
    // Somebody listens who knows no lock.
    hsmd_configure(&hsmd, NULL);
    assert_false(hsmd_start(&hsmd, &status));
    assert_true(hsmd_said(&hsmd, "another process listens there"));
    assert_int_equal(stat(address.sun_path, &st), 0);
    close(fd); // now it is one left behind
    hsmd_serve(&hsmd);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    write_text("data.sock", "mine", 0600);
    assert_false(hsmd_start(&hsmd, &status));
    assert_true(hsmd_said(&hsmd, "a file that is no socket"));
    assert_int_equal(unlink(address.sun_path), 0);
    client_close(client);
}

static struct client *client_at(const char *endpoint, const char *name)
{
    char before[sizeof hsmd.endpoint];
    memcpy(before, hsmd.endpoint, sizeof before);
    snprintf(hsmd.endpoint, sizeof hsmd.endpoint, "%s", endpoint);
    struct client *client = hsmd_client(&hsmd, name, 2000);
    memcpy(hsmd.endpoint, before, sizeof before);
    return client;
}

// Two endpoints at once, of the two doors: each serves the client and keeps the stranger out.
static void test_tcp(void **state)
{
    (void)state;
    char both[200];
    char ipc[sizeof hsmd.endpoint];
    char tcp[64];
    memcpy(ipc, hsmd.endpoint, sizeof ipc);
    snprintf(tcp, sizeof tcp, "tcp://127.0.0.1:%u", peer_free_port());
    snprintf(both, sizeof both, "\"%s\", \"%s\"", ipc, tcp);
    hsmd_configure(&hsmd, "\"ipc://DIR/data.sock\"", both, NULL);
    hsmd_serve(&hsmd);
    for (unsigned i = 0; i < 2; i++) {
        const char *endpoint = i ? tcp : ipc;
        struct client *client = client_at(endpoint, "gw");
        struct client *stranger = client_at(endpoint, "stranger");
        assert_int_equal(sign(client), ERR_OK);
        assert_int_equal(sign(stranger), ERR_TEMP);
        assert_int_equal(hsmd_times_said(&hsmd, "denied: unknown client"), i + 1);
        assert_int_equal(sign(client), ERR_OK);
        client_close(stranger);
        client_close(client);
    }
    assert_true(hsmd_said(&hsmd, "address=\"process "));
    assert_true(hsmd_said(&hsmd, "127.0.0.1\" domain"));
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

static void test_credential(void **state)
{
    (void)state;
    setenv("CREDENTIALS_DIRECTORY", hsmd.dir, 1);
    hsmd_configure(&hsmd, "pin-file = \"pin\"", "pin-credential = \"pin\"", NULL);
    hsmd_serve(&hsmd);
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

// Nobody's openssl.cnf is read: here it is a FIFO, on which opening it would wait for ever.
static void test_openssl_conf(void **state)
{
    (void)state;
    unlink(hsmd_path(&hsmd, "fifo"));
    assert_int_equal(mkfifo(hsmd_path(&hsmd, "fifo"), 0600), 0);
    setenv("OPENSSL_CONF", hsmd_path(&hsmd, "fifo"), 1);
    hsmd_serve(&hsmd);
    unsetenv("OPENSSL_CONF");
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK);
    client_close(client);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

// What -t sees without a token.
static void test_check(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *said;
        int status;
    } rows[] = {
        {"ipc://DIR/data.sock", "ipc://DIR/none/data.sock", "none: No such file", 0},
        {"ipc://DIR/data.sock", "ipc:///tmp/hsmd-test.sock", "everyone may write", 78},
        {"MODULE", "none.so", "token main: module: ", 78},
        {"grant {", "grant {", ": good", 0},
        {"log-level = info", OFFICERS "officers-server-key-file = \"server-2.key\"",
         "officers' server key: it is the server key too", 78},
    };
    char key[80];
    char output[2000];
    char config[160];
    snprintf(config, sizeof config, "%s", hsmd_path(&hsmd, "hsmd.conf"));
    read_text("server.key", key, sizeof key);
    write_text("server-2.key", key, 0400);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hsmd_configure(&hsmd, rows[i].from, rows[i].to, NULL);
        assert_int_equal(hsmd_migrate(&hsmd), 0);
        int status = hsmd_run(&hsmd, output, sizeof output, "-t", "-c", config, NULL);
        if (status != rows[i].status || !strstr(output, rows[i].said))
            fail_msg("row %zu: %d, %s", i, status, output);
    }
}

static void test_command_line(void **state)
{
    (void)state;
    char output[2000];
    struct stat st;
    char config[160];
    snprintf(config, sizeof config, "%s", hsmd_path(&hsmd, "hsmd.conf"));
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "-t", "-c", config, NULL), 78);
    assert_non_null(
        strstr(output, "hsmd.conf:8: keys, clients and grants are kept in the registry"));
    assert_int_equal(hsmd_migrate(&hsmd), 0);
    assert_int_equal(unlink(hsmd_path(&hsmd, "state/audit.log")), 0);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "-t", "-c", config, NULL), 0);
    assert_non_null(strstr(output, "good"));
    assert_int_not_equal(stat(hsmd_path(&hsmd, "state/audit.log"), &st), 0); // touched nothing
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "--version", NULL), 0);
    assert_non_null(strstr(output, "hsmd " SEALGATE_VERSION));
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "--help", NULL), 0);
    assert_non_null(strstr(output, "usage: hsmd"));
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "--nonsense", NULL), 64);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "serve", NULL), 64);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "--ready-fd", "x", NULL), 64);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "keygen", NULL), 64);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "keygen", hsmd_path(&hsmd, "gw"), NULL),
                     78);
    assert_non_null(strstr(output, "there already"));
    write_text("half.pub", "", 0444);
    assert_int_equal(
        hsmd_run(&hsmd, output, sizeof output, "keygen", hsmd_path(&hsmd, "half"), NULL), 78);
    assert_non_null(strstr(output, "half.pub: there already"));
    assert_int_not_equal(stat(hsmd_path(&hsmd, "half.key"), &st), 0);
    unlink(hsmd_path(&hsmd, "half.pub"));
    assert_int_equal(
        hsmd_run(&hsmd, output, sizeof output, "keygen", hsmd_path(&hsmd, "half"), NULL), 0);
    assert_int_equal(stat(hsmd_path(&hsmd, "gw.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0400);
    chmod(hsmd_path(&hsmd, "pin"), 0644);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "-t", "-c", config, NULL), 78);
    chmod(hsmd_path(&hsmd, "pin"), 0400);
    assert_non_null(strstr(output, "chmod 0400"));
}

// Does the kernel let a process of the same user, without the right to look into every other, look
// into this one? What it asks itself is the same for its memory, for a debugger and for this link.
static bool is_open_to_others(pid_t pid)
{
    char command[80];
    snprintf(command, sizeof command, "readlink /proc/%d/exe >/dev/null", (int)pid);
    return system(command) == 0;
}

// No core dump has a key or a PIN in it, and nobody attaches a debugger: the running hsmd, not only
// the function that sees to it.
static void test_hardened(void **state)
{
    (void)state;
    char limits[4000];
    char path[40];
    (void)prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0); // root's; others have not got it
    hsmd_serve(&hsmd);
    snprintf(path, sizeof path, "/proc/%d/limits", (int)hsmd.pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    limits[fread(limits, 1, sizeof limits - 1, file)] = 0;
    fclose(file);
    const char *core = strstr(limits, "Max core file size");
    unsigned long soft = 1;
    unsigned long hard = 1;
    assert_non_null(core);
    assert_int_equal(sscanf(core, "Max core file size %lu %lu", &soft, &hard), 2);
    assert_true(soft == 0 && hard == 0);
    pid_t other = fork();
    if (other == 0)
        execlp("sleep", "sleep", "600", NULL);
    bool is_other_open = false;
    for (int i = 0; i < 500 && !is_other_open; i++, usleep(10000))
        is_other_open = is_open_to_others(other);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    assert_true(is_other_open); // or this test says nothing
#ifdef SEALGATE_DUMPABLE        // LeakSanitizer's build
    assert_true(is_open_to_others(hsmd.pid));
#else
    assert_false(is_open_to_others(hsmd.pid));
#endif
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

// Nobody but hsmd looks into the directory that hsmd migrate or hsmd makes, whatever the umask.
static void test_state_directory(void **state)
{
    (void)state;
    struct stat st;
    mode_t before = umask(0);
    hsmd_configure(&hsmd, "\"state\"", "\"state-3\"", NULL);
    for (unsigned i = 0; i < 2; i++) {
        int status = 0;
        bool is_started = hsmd_start(&hsmd, &status);
        assert_int_equal(is_started, i == 0); // a new directory has no registry to serve from
        assert_int_equal(stat(hsmd_path(&hsmd, "state-3"), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        if (is_started)
            assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
        assert_int_equal(
            rename(hsmd_path(&hsmd, "state-3"), hsmd_path(&hsmd, i ? "by-hsmd" : "by-migrate")), 0);
    }
    umask(before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(test_failing_starts), TEST(test_crippled_starts), TEST(test_former_sections),
        TEST(test_second),         TEST(test_same_socket),     TEST(test_tcp),
        TEST(test_credential),     TEST(test_openssl_conf),    TEST(test_check),
        TEST(test_command_line),   TEST(test_state_directory), TEST(test_hardened),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
