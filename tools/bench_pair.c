// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/hash.h"

#define ARGUMENTS_MAX 32
#define PIN_FD 3
#define WARM_UP_MS 200
#define LINE_MAX 8192 // "ready", and a public key in hexadecimal

extern char **environ;

struct child {
    pid_t pid;
    FILE *in, *out;  // its standard input and output
    const char *key; // as it is called there
    char spki[LINE_MAX];
};

struct sample {
    double count, seconds, cpu, p50, p99, failures, hsmd_cpu;
};

static bool add_arguments(const struct bench_setup *setup, const struct bench_row *row, int side,
                          const char *public, char callers[12], const char *argv[ARGUMENTS_MAX])
{
    const char *key = setup->labels[side] ? setup->labels[side] : row->key;
    const char *const more[] = {"--key",    key,    "--op", row->operation, "--callers", callers,
                                "--public", public, NULL};
    size_t count = 0;
    for (const char *const *at = setup->commands[side]; *at; at++) {
        if (count + sizeof more / sizeof *more > ARGUMENTS_MAX)
            return false;
        argv[count++] = *at;
    }
    snprintf(callers, 12, "%u", row->callers);
    memcpy(argv + count, more, sizeof more);
    if (!public)
        argv[count + 6] = NULL;
    return true;
}

static enum err spawn(const char *const *argv, int pin_fd, int in, int out, pid_t *pid,
                      struct detail *detail)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (pin_fd >= 0)
        posix_spawn_file_actions_adddup2(&actions, pin_fd, PIN_FD);
    int error = posix_spawn(pid, argv[0], &actions, NULL, (char **)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error ? err_set(detail, ERR_PERM, "%s: %s", argv[0], strerror(error)) : ERR_OK;
}

// The PIN goes through a pipe, which holds it without waiting: it is a line.
static enum err spawn_with_pin(const char *const *argv, const struct secret *pin, int in, int out,
                               pid_t *pid, struct detail *detail)
{
    int fds[2] = {-1, -1};
    if (!pin)
        return spawn(argv, -1, in, out, pid, detail);
    if (pipe2(fds, O_CLOEXEC) != 0)
        return err_errno(detail, ERR_TEMP, "pipe");
    enum err err = write(fds[1], pin->data, pin->len) == (ssize_t)pin->len
                       ? spawn(argv, fds[0], in, out, pid, detail)
                       : err_errno(detail, ERR_TEMP, "pipe");
    close(fds[0]);
    close(fds[1]);
    return err;
}

static enum err start(const struct bench_setup *setup, const struct bench_row *row, int side,
                      const char *public, struct child *child, struct detail *detail)
{
    const char *argv[ARGUMENTS_MAX];
    char callers[12], line[LINE_MAX];
    int to[2] = {-1, -1}, from[2] = {-1, -1};
    if (!add_arguments(setup, row, side, public, callers, argv))
        return err_set(detail, ERR_PERM, "too many arguments");
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
        return err_errno(detail, ERR_TEMP, "pipe");
    enum err err = spawn_with_pin(argv, setup->pins[side], to[0], from[1], &child->pid, detail);
    close(to[0]);
    close(from[1]);
    child->in = fdopen(to[1], "w");
    child->out = fdopen(from[0], "r");
    child->key = setup->labels[side] ? setup->labels[side] : row->key;
    if (err == ERR_OK && (!fgets(line, sizeof line, child->out) ||
                          sscanf(line, "ready %8191[0-9A-Fa-f]", child->spki) != 1))
        err = err_set(detail, ERR_PERM, "%s does not come up", argv[0]);
    return err;
}

// In hexadecimal, of a public key in hexadecimal.
static void fingerprint(const char *spki, char out[2 * HASH_SIZE_MAX + 1])
{
    uint8_t der[LINE_MAX / 2], digest[HASH_SIZE_MAX];
    size_t len = strlen(spki) / 2;
    for (size_t i = 0; i < len; i++)
        sscanf(spki + 2 * i, "%2hhx", &der[i]);
    out[0] = 0;
    if (hash_digest(HASH_SHA256, bytes_of(der, len), digest) != ERR_OK)
        return;
    for (size_t i = 0; i < hash_size(HASH_SHA256); i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

// Two halves with keys of the same name but not the same key would be compared for nothing.
static enum err check_same(const struct child children[BENCH_SIDES], struct detail *detail)
{
    char texts[BENCH_SIDES][2 * HASH_SIZE_MAX + 1];
    if (strcmp(children[BENCH_DIRECT].spki, children[BENCH_HSMD].spki) == 0)
        return ERR_OK;
    for (int side = 0; side < BENCH_SIDES; side++)
        fingerprint(children[side].spki, texts[side]);
    return err_set(detail, ERR_PERM,
                   "not the same key: the public half of %.60s in the token has SHA-256 %s, that "
                   "of hsmd's %.60s %s (see --label)",
                   children[BENCH_DIRECT].key, texts[BENCH_DIRECT], children[BENCH_HSMD].key,
                   texts[BENCH_HSMD]);
}

// False: it did not end well, and said why.
static bool stop(struct child *child)
{
    int status = 0;
    if (child->in)
        fclose(child->in);
    if (child->pid > 0) {
        while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    if (child->out)
        fclose(child->out);
    return status == 0;
}

// Processor time so far of a process, user and system, in seconds (proc(5)).
static double cpu_of(pid_t pid)
{
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = pid ? fopen(path, "r") : NULL;
    if (!file)
        return 0;
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = 0;
    const char *at = strrchr(text, ')'); // the name may hold anything
    if (!at ||
        sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static enum err run(struct child *child, unsigned ms, pid_t hsmd, struct sample *sample,
                    struct detail *detail)
{
    char line[256];
    double before = cpu_of(hsmd);
    if (fprintf(child->in, "run %u\n", ms) < 0 || fflush(child->in) != 0 ||
        !fgets(line, sizeof line, child->out) ||
        sscanf(line, "%lf %lf %lf %lf %lf %lf", &sample->count, &sample->seconds, &sample->cpu,
               &sample->p50, &sample->p99, &sample->failures) != 6)
        return err_set(detail, ERR_PERM, "one half of the measurement ended");
    sample->hsmd_cpu = cpu_of(hsmd) - before;
    if (sample->count < 1)
        return err_set(detail, ERR_PERM, "no operation succeeded");
    return ERR_OK;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Sorts the values.
static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

// Of an expression in i, the number of the pair.
#define MEDIAN(expression)                   \
    __extension__({                          \
        for (unsigned i = 0; i < count; i++) \
            values[i] = (expression);        \
        median(values, count);               \
    })

static void summarise(struct sample (*pairs)[BENCH_SIDES], unsigned count, bool has_hsmd,
                      struct bench_result *result)
{
    double values[BENCH_PAIRS_MAX];
    for (int s = 0; s < BENCH_SIDES; s++) {
        struct bench_side *side = &result->sides[s];
        side->rate = MEDIAN(pairs[i][s].count / pairs[i][s].seconds);
        side->p50 = MEDIAN(pairs[i][s].p50);
        side->p99 = MEDIAN(pairs[i][s].p99);
        side->cpu = MEDIAN((pairs[i][s].cpu + (s == BENCH_HSMD ? pairs[i][s].hsmd_cpu : 0)) /
                           pairs[i][s].count);
        for (unsigned i = 0; i < count; i++) {
            side->operations += pairs[i][s].count;
            result->failures += pairs[i][s].failures;
        }
    }
    result->hsmd_cpu = MEDIAN(pairs[i][BENCH_HSMD].hsmd_cpu / pairs[i][BENCH_HSMD].count);
    result->has_hsmd_cpu = has_hsmd;
    result->added_p50 = MEDIAN(pairs[i][BENCH_HSMD].p50 - pairs[i][BENCH_DIRECT].p50);
    result->added_p99 = MEDIAN(pairs[i][BENCH_HSMD].p99 - pairs[i][BENCH_DIRECT].p99);
    result->ratio = MEDIAN(pairs[i][BENCH_HSMD].count / pairs[i][BENCH_HSMD].seconds /
                           (pairs[i][BENCH_DIRECT].count / pairs[i][BENCH_DIRECT].seconds));
    result->ratio_min = values[0];
    result->ratio_max = values[count - 1];
}

enum err bench_measure(const struct bench_setup *setup, const struct bench_row *row,
                       struct bench_result *result, struct detail *detail)
{
    static struct sample pairs[BENCH_PAIRS_MAX][BENCH_SIDES];
    static struct child children[BENCH_SIDES];
    struct sample ignored;
    enum err err = ERR_OK;
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    memset(children, 0, sizeof children);
    // The one that goes through hsmd first: the token may not have the public half.
    err = start(setup, row, BENCH_HSMD, NULL, &children[BENCH_HSMD], detail);
    if (err == ERR_OK)
        err = start(setup, row, BENCH_DIRECT, children[BENCH_HSMD].spki, &children[BENCH_DIRECT],
                    detail);
    if (err == ERR_OK)
        err = check_same(children, detail);
    for (int side = 0; side < BENCH_SIDES && err == ERR_OK; side++)
        err = run(&children[side], WARM_UP_MS, 0, &ignored, detail);
    for (unsigned i = 0; i < setup->pairs && err == ERR_OK; i++) {
        for (int turn = 0; turn < BENCH_SIDES && err == ERR_OK; turn++) {
            int side = (int)(i % 2) ^ turn; // each goes first as often
            err = run(&children[side], setup->ms, side == BENCH_HSMD ? setup->hsmd : 0,
                      &pairs[i][side], detail);
        }
    }
    for (int side = 0; side < BENCH_SIDES; side++) {
        if (!stop(&children[side]) && err == ERR_OK)
            err = err_set(detail, ERR_PERM, "one half of the measurement did not end well");
    }
    (void)signal(SIGPIPE, before);
    if (err != ERR_OK)
        return err;
    *result = (struct bench_result){0};
    summarise(pairs, setup->pairs, setup->hsmd != 0, result);
    return ERR_OK;
}
