// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/hsmd_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsmd/base/file.h"
#include "tests/support/require.h"

#define ARGS_MAX 16

static const char configuration[] =
    "listen = { \"ipc://DIR/data.sock\" }\n"
    "server-key-file = \"server.key\"\n"
    "state-directory = \"state\"\n"
    "log-level = info\n"
    "request-timeout = 4000\n"
    "self-test-interval = 0\n" // it would use keys and write lines between those of a test
    "token main { module = \"MODULE\" label = \"hsmd test\" pin-file = \"pin\" sessions = 2 }\n"
    "key signing { token = main label = \"rsa2048\" id = \"01\" purpose = smime-sign\n"
    "    certificate-file = \"CERTS/rsa2048.pem\" }\n"
    "key decryption { token = main label = \"rsa3072\" purpose = smime-decrypt }\n"
    "key ec-signing { token = main label = \"p256\" purpose = smime-sign }\n"
    "key ec-decryption { token = main label = \"p384\" purpose = smime-decrypt }\n"
    "key general { token = main label = \"general\" purpose = general }\n"
    "client gateway { public-key-file = \"gw.pub\" }\n"
    "grant { client = gateway key = signing operations = { sign } }\n"
    "grant { client = gateway key = ec-signing operations = { sign } algorithms = { ecdsa } }\n"
    "grant { client = gateway key = decryption operations = { unwrap } }\n"
    "grant { client = gateway key = ec-decryption operations = { agree } }\n"
    "grant { client = gateway key = general operations = { sign } algorithms = { rsa-pss } }\n";

const char *hsmd_path(const struct hsmd *hsmd, const char *name)
{
    static char paths[4][160];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", hsmd->dir, name);
    return path;
}

void hsmd_drop_log(struct hsmd *hsmd)
{
    unlink(hsmd_path(hsmd, "state/audit.log"));
    unlink(hsmd_path(hsmd, "state/audit.head"));
}

// Replaces every occurrence, in place.
static void replace(char *text, size_t size, const char *from, const char *to)
{
    for (char *at = text; (at = strstr(at, from)) != NULL; at += strlen(to)) {
        size_t tail = strlen(at + strlen(from)) + 1;
        REQUIRE((size_t)(at - text) + strlen(to) + tail <= size);
        memmove(at + strlen(to), at + strlen(from), tail);
        memcpy(at, to, strlen(to));
    }
}

// Where the text says that the state is; "" if it is not one of the directory's own.
static void find_state(struct hsmd *hsmd, const char *text)
{
    static const char option[] = "state-directory = \"";
    const char *at = strstr(text, option);
    hsmd->state[0] = 0;
    if (at && at[sizeof option - 1] != '/')
        snprintf(hsmd->state, sizeof hsmd->state, "%.*s",
                 (int)strcspn(at + sizeof option - 1, "\""), at + sizeof option - 1);
}

void hsmd_configure(struct hsmd *hsmd, ...)
{
    char text[8192];
    char certs[220];
    va_list ap;
    snprintf(text, sizeof text, "%s", configuration);
    snprintf(certs, sizeof certs, "%s/certs", hsmd->hsm.dir);
    va_start(ap, hsmd);
    for (const char *from; (from = va_arg(ap, const char *)) != NULL;) {
        REQUIRE(strstr(text, from));
        replace(text, sizeof text, from, va_arg(ap, const char *));
    }
    va_end(ap);
    replace(text, sizeof text, "DIR", hsmd->dir);
    replace(text, sizeof text, "MODULE", softhsm_module());
    replace(text, sizeof text, "CERTS", certs);
    find_state(hsmd, text);
    hsmd->is_to_migrate = true;
    REQUIRE(file_write(hsmd_path(hsmd, "hsmd.conf"), bytes_of_text(text), 0600, NULL) == ERR_OK);
}

// In the child: standard error into the file.
static void run_program(const struct hsmd *hsmd, char **args)
{
    int fd = open(hsmd_path(hsmd, "stderr"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    dup2(fd, STDERR_FILENO);
    dup2(fd, STDOUT_FILENO);
    execv(TEST_BUILD "/bin/hsmd", args);
    _exit(127);
}

static int wait_status(pid_t pid)
{
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void read_output(const struct hsmd *hsmd, struct buf *out)
{
    buf_init(out, 64 << 20);
    REQUIRE(file_read(hsmd_path(hsmd, "stderr"), out, NULL) == ERR_OK);
}

// What a sanitizer finds in hsmd is no matter of exit statuses: it may have been killed.
static void check_sanitizers(const struct hsmd *hsmd)
{
    struct buf said;
    read_output(hsmd, &said);
    const char *found = strstr(buf_text(&said), "Sanitizer: ");
    if (!found)
        found = strstr(buf_text(&said), "runtime error: ");
    if (found)
        fprintf(stderr, "hsmd: %.8000s\n", found);
    REQUIRE(!found);
    buf_clear(&said);
}

int hsmd_run(struct hsmd *hsmd, char *output, size_t size, ...)
{
    char *args[ARGS_MAX] = {"hsmd"};
    unsigned count = 1;
    va_list ap;
    va_start(ap, size);
    while (count < ARGS_MAX - 1 && (args[count] = va_arg(ap, char *)) != NULL)
        count++;
    va_end(ap);
    pid_t pid = fork();
    if (pid == 0)
        run_program(hsmd, args);
    int status = wait_status(pid);
    check_sanitizers(hsmd);
    struct buf said;
    read_output(hsmd, &said);
    snprintf(output, size, "%s", buf_text(&said));
    buf_clear(&said);
    return status;
}

int hsmd_migrate(struct hsmd *hsmd)
{
    char config[160];
    char registry[80];
    char output[8];
    snprintf(config, sizeof config, "%s", hsmd_path(hsmd, "hsmd.conf"));
    snprintf(registry, sizeof registry, "%s/registry.db", hsmd->state);
    if (hsmd->state[0])
        unlink(hsmd_path(hsmd, registry));
    unlink(hsmd_path(hsmd, "hsmd.conf.before-migration"));
    int status = hsmd_run(hsmd, output, sizeof output, "migrate", "-c", config, NULL);
    hsmd->is_to_migrate = status != 0;
    return status;
}

bool hsmd_start(struct hsmd *hsmd, int *status)
{
    int ends[2];
    char ready[16] = "";
    char descriptor[16];
    int migrated = hsmd->is_to_migrate ? hsmd_migrate(hsmd) : 0;
    if (migrated != 0) {
        if (status)
            *status = migrated;
        return false;
    }
    REQUIRE(pipe(ends) == 0);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    snprintf(descriptor, sizeof descriptor, "%d", ends[1]);
    char config[160];
    snprintf(config, sizeof config, "%s", hsmd_path(hsmd, "hsmd.conf"));
    hsmd->pid = fork();
    REQUIRE(hsmd->pid >= 0);
    if (hsmd->pid == 0)
        run_program(hsmd, (char *[]){"hsmd", "-c", config, "--ready-fd", descriptor, NULL});
    close(ends[1]);
    ssize_t n = read(ends[0], ready, sizeof ready - 1);
    close(ends[0]);
    if (n == 6 && strcmp(ready, "ready\n") == 0)
        return true;
    int ended = wait_status(hsmd->pid);
    hsmd->pid = 0;
    check_sanitizers(hsmd);
    if (status)
        *status = ended;
    return false;
}

void hsmd_serve(struct hsmd *hsmd)
{
    if (!hsmd_start(hsmd, NULL))
        REQUIRE(hsmd_said(hsmd, "READY")); // prints what it said instead
}

int hsmd_stop(struct hsmd *hsmd, int signal)
{
    pid_t pid = hsmd->pid;
    hsmd->pid = 0;
    kill(pid, signal);
    int status = wait_status(pid);
    check_sanitizers(hsmd);
    return status;
}

void hsmd_use_shim(struct hsmd *hsmd)
{
    setenv("SHIM_MODULE", softhsm_module(), 1);
    setenv("SHIM_CONTROL", hsmd_path(hsmd, "faults"), 1);
    hsmd_shim(hsmd, "");
    hsmd_configure(hsmd, "MODULE", SHIM_PATH, NULL);
}

void hsmd_shim(struct hsmd *hsmd, const char *faults)
{
    REQUIRE(file_write(hsmd_path(hsmd, "faults"), bytes_of_text(faults), 0600, NULL) == ERR_OK);
}

unsigned hsmd_shim_calls(const struct hsmd *hsmd, const char *function)
{
    char name[64];
    struct stat st;
    snprintf(name, sizeof name, "faults.%s", function);
    return stat(hsmd_path(hsmd, name), &st) == 0 ? (unsigned)st.st_size : 0;
}

unsigned hsmd_times_said(const struct hsmd *hsmd, const char *text)
{
    struct buf said;
    unsigned times = 0;
    read_output(hsmd, &said);
    for (const char *at = buf_text(&said); (at = strstr(at, text)); at++)
        times++;
    buf_clear(&said);
    return times;
}

bool hsmd_said(const struct hsmd *hsmd, const char *text)
{
    struct buf said;
    read_output(hsmd, &said);
    bool found = strstr(buf_text(&said), text) != NULL;
    if (!found)
        fprintf(stderr, "hsmd did not say \"%s\" but:\n%s\n", text, buf_text(&said));
    buf_clear(&said);
    return found;
}

struct client *hsmd_client(struct hsmd *hsmd, const char *name, unsigned timeout_ms)
{
    struct client *client = NULL;
    char public_name[32];
    char secret_name[32];
    struct detail detail = {0};
    snprintf(public_name, sizeof public_name, "%s.pub", name);
    snprintf(secret_name, sizeof secret_name, "%s.key", name);
    const struct client_conf conf = {.endpoints = hsmd->endpoint,
                                     .server_key_file = hsmd_path(hsmd, "server.pub"),
                                     .public_key_file = hsmd_path(hsmd, public_name),
                                     .secret_key_file = hsmd_path(hsmd, secret_name),
                                     .timeout_ms = timeout_ms};
    if (client_open(&conf, &client, &detail) != ERR_OK) {
        fprintf(stderr, "%s\n", detail.text);
        exit(1);
    }
    return client;
}

enum err hsmd_sign(struct client *client, const char *key, enum wire_algorithm algorithm,
                   struct bytes attributes, struct buf *signature)
{
    struct buf frame;
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .sign = {.key = bytes_of_text(key),
                                            .algorithm = algorithm,
                                            .hash = HASH_SHA256,
                                            .form = WIRE_ATTRIBUTES,
                                            .data = attributes}};
    buf_init(&frame, WIRE_FRAME_MAX);
    enum err err = client_call(client, &request, &frame, &reply, NULL);
    if (err == ERR_OK && signature)
        REQUIRE(buf_put_bytes(signature, reply.signature) == ERR_OK);
    buf_clear(&frame);
    return err;
}

void hsmd_setup(struct hsmd *hsmd)
{
    char output[400];
    *hsmd = (struct hsmd){0};
    softhsm_setup(&hsmd->hsm, "hsmd test");
    softhsm_make_keys(&hsmd->hsm, SOFTHSM_RSA2048 | SOFTHSM_RSA3072 | SOFTHSM_P256 | SOFTHSM_P384);
    static const struct softhsm_key others[] = {
        {.label = "weak", .id = 0x21, .kind = "P-256", .flags = SOFTHSM_EXTRACTABLE},
        {.label = "general", .id = 0x25, .kind = "RSA-2048"},
        {.label = "shown", .id = 0x24, .kind = "P-256", .flags = SOFTHSM_NOT_SENSITIVE},
        {.label = "sign-only", .id = 0x22, .kind = "P-256", .flags = SOFTHSM_SIGN_ONLY},
        {.label = "decrypt-only", .id = 0x23, .kind = "P-256", .flags = SOFTHSM_DECRYPT_ONLY}};
    for (unsigned i = 0; i < sizeof others / sizeof *others; i++)
        softhsm_make_key(&hsmd->hsm, &others[i]);
    snprintf(hsmd->dir, sizeof hsmd->dir, "/tmp/hsmd-test-XXXXXX");
    REQUIRE(mkdtemp(hsmd->dir));
    snprintf(hsmd->endpoint, sizeof hsmd->endpoint, "ipc://%s/data.sock", hsmd->dir);
    static const char *const pairs[] = {"server", "gw", "stranger"};
    for (unsigned i = 0; i < 3; i++)
        REQUIRE(hsmd_run(hsmd, output, sizeof output, "keygen", hsmd_path(hsmd, pairs[i]), NULL) ==
                0);
    REQUIRE(file_write(hsmd_path(hsmd, "pin"), BYTES_LITERAL(SOFTHSM_PIN "\n"), 0400, NULL) ==
            ERR_OK);
    hsmd_configure(hsmd, NULL);
}

void hsmd_teardown(struct hsmd *hsmd)
{
    char command[120];
    if (hsmd->pid)
        hsmd_stop(hsmd, SIGKILL);
    snprintf(command, sizeof command, "rm -rf '%s'", hsmd->dir);
    REQUIRE(system(command) == 0); // NOLINT: our own mkdtemp's name
    softhsm_teardown(&hsmd->hsm);
}
