// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/migrate_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsmd/base/file.h"
#include "tests/support/pki.h"

const char good[] = "# the gateway's custodian\n"
                    "listen = { 'ipc:///run/x.sock' }\n"
                    "server-key-file = server.key   // made by keygen\n"
                    "state-directory = state\n"
                    "token main { module = '/m.so' label = 't' pin-file = pin }\n"
                    "key signing {\n"
                    "    token = main\n"
                    "    label = \"a } label\"  # }\n"
                    "    id = '01fF'\n"
                    "    purpose = smime-sign\n"
                    "    algorithms = { rsa-pkcs1, rsa-pss }\n"
                    "    certificate-file = signing.pem\n"
                    "    per-minute = 5  per-hour = 6  total = 7  failures-per-hour = 8\n"
                    "}\n"
                    "key old { token = main label = old purpose = smime-decrypt state = retired }\n"
                    "audit-key { token = main label = aud id = 06 }\n"
                    "client gw { public-key-file = gw.pub } log = stderr\n"
                    "client archive { public-key = '" KEY_2 "' }\n"
                    "grant { client = gw key = signing operations = { sign } total = 9 }\n"
                    "grant { client = archive key = old operations = { unwrap, agree }\n"
                    "    algorithms = { rsaes-oaep } }\n";

const char rewritten[] =
    "# the gateway's custodian\n"
    "listen = { 'ipc:///run/x.sock' }\n"
    "server-key-file = server.key   // made by keygen\n"
    "state-directory = state\n"
    "token main { module = '/m.so' label = 't' pin-file = pin }\n"
    "# key signing {\n"
    "#     token = main\n"
    "#     label = \"a } label\"  # }\n"
    "#     id = '01fF'\n"
    "#     purpose = smime-sign\n"
    "#     algorithms = { rsa-pkcs1, rsa-pss }\n"
    "#     certificate-file = signing.pem\n"
    "#     per-minute = 5  per-hour = 6  total = 7  failures-per-hour = 8\n"
    "# }\n"
    "# key old { token = main label = old purpose = smime-decrypt state = retired }\n"
    "# audit-key { token = main label = aud id = 06 }\n"
    "# client gw { public-key-file = gw.pub }\n"
    " log = stderr\n"
    "# client archive { public-key = '" KEY_2 "' }\n"
    "# grant { client = gw key = signing operations = { sign } total = 9 }\n"
    "# grant { client = archive key = old operations = { unwrap, agree }\n"
    "#     algorithms = { rsaes-oaep } }\n";

char dir[64];
struct buf said; // by hsmd
struct buf seen; // in the store
struct detail detail;

const char *in_dir(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

void write_text(const char *name, const char *text)
{
    assert_int_equal(file_write(in_dir(name), bytes_of_text(text), 0600, &detail), ERR_OK);
}

static void write_chain(void)
{
    char command[300];
    X509 *ca = pki_ca("ca", PKI_EC_P256);
    X509 *certificate =
        pki_signer("signing", PKI_RSA_2048, "email:a@a.example", ca, pki_key(PKI_EC_P256));
    pki_write_certificates(in_dir("signing.pem"), certificate, ca);
    // Longer than a page of the store.
    snprintf(command, sizeof command,
             "for i in 1 2 3 4 5 6 7 8 9; do cat %s/signing.pem; done >%s/long.pem", dir, dir);
    assert_int_equal(system(command), 0);
    X509_free(certificate);
    X509_free(ca);
}

int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/hsmd-migrate-XXXXXX");
    assert_non_null(mkdtemp(dir));
    buf_init(&said, 1 << 16);
    buf_init(&seen, 1 << 16);
    write_chain();
    write_text("gw.pub", KEY_1 "\n");
    write_text("hsmd.conf", good);
    assert_int_equal(chmod(in_dir("hsmd.conf"), 0640), 0);
    assert_int_equal(mkdir(in_dir("state"), 0700), 0);
    return 0;
}

int teardown(void **state)
{
    (void)state;
    char command[100];
    buf_clear(&said);
    buf_clear(&seen);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) == 0 ? 0 : -1;
}

// Exit status of `hsmd migrate -c FILE ARGUMENT`, files limited to so many bytes (0: not).
int run(const char *argument, size_t limit)
{
    int ends[2];
    int status = 0;
    uint8_t chunk[512];
    buf_reset(&said);
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit sizes = {.rlim_cur = limit, .rlim_max = limit};
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        if (limit)
            setrlimit(RLIMIT_FSIZE, &sizes);
        execl(TEST_BUILD "/bin/hsmd", "hsmd", "migrate", "-c", in_dir("hsmd.conf"), argument,
              (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], chunk, sizeof chunk)) > 0;)
        assert_int_equal(buf_put(&said, chunk, (size_t)n), ERR_OK);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void run_well(void)
{
    if (run(NULL, 0) != 0)
        fail_msg("%s", buf_text(&said));
}

struct store *open_store(void)
{
    struct store *store = NULL;
    if (store_open(in_dir("state/" STORE_FILE), &store, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return store;
}

void assert_file(const char *name, const char *expected)
{
    struct stat st;
    struct buf text;
    buf_init(&text, 1 << 16);
    assert_int_equal(file_read(in_dir(name), &text, &detail), ERR_OK);
    assert_string_equal(buf_text(&text), expected);
    buf_clear(&text);
    assert_int_equal(stat(in_dir(name), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

// Neither the file nor what is beside it has changed.
void assert_unchanged(const char *text)
{
    assert_file("hsmd.conf", text);
    assert_int_not_equal(access(in_dir("hsmd.conf.migrated"), F_OK), 0);
    if (buf_text(&said)[0] == 0 || !strstr(buf_text(&said), "nothing is changed: "))
        fail_msg("\"%s\"", buf_text(&said));
}
