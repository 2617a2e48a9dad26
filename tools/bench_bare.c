// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_bare.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// As long as a digest with its key's name, and as an RSA-2048 signature.
#define REQUEST_SIZE 64
#define REPLY_SIZE 256
#define SPKI_MAX 8192 // in hexadecimal

// The first byte of a reply: whether it was done.
struct line {
    int fds[2]; // the caller's end, the answerer's
    const struct bench_half *half;
    void *state; // the answerer's caller
    pthread_t thread;
    bool is_running;
};

static struct line lines[BENCH_CALLERS_MAX];
static unsigned callers_open;
static int hello[2]; // a pipe: the public key, once the answerer's callers are open

static bool send_all(int fd, const void *data, size_t len)
{
    return send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool receive_all(int fd, void *data, size_t len)
{
    return recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

static void close_lines(const struct bench_half *half, int which)
{
    for (unsigned i = 0; i < half->callers; i++)
        close(lines[i].fds[which]);
}

pid_t bare_split(const struct bench_half *half)
{
    bool ok = pipe2(hello, O_CLOEXEC) == 0;
    for (unsigned i = 0; i < half->callers && ok; i++)
        ok = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, lines[i].fds) == 0;
    pid_t pid = ok ? fork() : -1;
    if (pid < 0) {
        fprintf(stderr, "hsmbench-direct: no second process: %s\n", strerror(errno));
        return pid;
    }
    close(hello[pid > 0]);
    close_lines(half, pid > 0);
    return pid;
}

static void *open_line(const struct bench_half *half)
{
    (void)half;
    return &lines[callers_open++];
}

static bool ask_once(void *argument)
{
    const struct line *line = argument;
    unsigned char request[REQUEST_SIZE] = {0}, reply[REPLY_SIZE];
    return send_all(line->fds[0], request, sizeof request) &&
           receive_all(line->fds[0], reply, sizeof reply) && reply[0];
}

static bool close_line(void *argument)
{
    (void)argument; // bare_call closes it
    return true;
}

int bare_call(const struct bench_half *half, pid_t answerer)
{
    char spki[SPKI_MAX];
    struct bench_half calling = *half;
    FILE *file = fdopen(hello[0], "r");
    int status = 1, theirs = 1;
    calling.spki = spki;
    calling.open = open_line;
    calling.once = ask_once;
    calling.close = close_line;
    if (file && fscanf(file, "%8191[0-9A-Fa-f]", spki) == 1)
        status = bench_half_serve(&calling);
    if (file)
        fclose(file);
    close_lines(half, 0); // which ends the other
    while (waitpid(answerer, &theirs, 0) < 0 && errno == EINTR)
        ;
    return status || theirs;
}

static void *answer_line(void *argument)
{
    const struct line *line = argument;
    unsigned char request[REQUEST_SIZE], reply[REPLY_SIZE] = {0};
    do {
        if (!receive_all(line->fds[1], request, sizeof request))
            return NULL;
        reply[0] = line->half->once(line->state);
    } while (send_all(line->fds[1], reply, sizeof reply));
    return NULL;
}

int bare_answer(const struct bench_half *half)
{
    int status = 0;
    unsigned count = 0;
    while (count < half->callers && (lines[count].state = half->open(half)) != NULL)
        lines[count++].half = half;
    for (unsigned i = 0; i < count; i++)
        lines[i].is_running = pthread_create(&lines[i].thread, NULL, answer_line, &lines[i]) == 0;
    for (unsigned i = 0; i < half->callers; i++)
        status |= !lines[i].is_running;
    if (!status)
        dprintf(hello[1], "%s\n", half->spki);
    close(hello[1]);
    for (unsigned i = 0; i < count; i++) {
        if (lines[i].is_running)
            pthread_join(lines[i].thread, NULL);
        status |= !half->close(lines[i].state);
    }
    return status;
}
