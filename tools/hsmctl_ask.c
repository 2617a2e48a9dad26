// SPDX-License-Identifier: Apache-2.0
// Echo is off only while a secret is typed. A signal that comes meanwhile is kept until the
// terminal is as it was, then it is sent to this process again, with what it does by default. Who
// was stopped and comes back is asked again.
#include "tools/hsmctl_ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};
#define CAUGHT_COUNT (sizeof caught / sizeof *caught)

static volatile sig_atomic_t signal_seen;

static void see_signal(int number)
{
    signal_seen = number;
}

struct terminal {
    int fd;
    bool is_quiet;
    struct termios before;
    struct sigaction actions[CAUGHT_COUNT];
};

static void terminal_close(struct terminal *terminal)
{
    if (terminal->is_quiet) {
        while (tcsetattr(terminal->fd, TCSAFLUSH, &terminal->before) != 0 && errno == EINTR)
            ;
        (void)!write(terminal->fd, "\n", 1); // the one that was not echoed
    }
    for (size_t i = 0; i < CAUGHT_COUNT; i++)
        sigaction(caught[i], &terminal->actions[i], NULL);
    close(terminal->fd);
    if (signal_seen)
        raise(signal_seen);
}

static enum err terminal_open(struct terminal *terminal, bool is_quiet, struct detail *detail)
{
    struct sigaction action = {.sa_handler = see_signal}; // no SA_RESTART: read(2) ends
    *terminal = (struct terminal){.fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)};
    if (terminal->fd < 0)
        return err_set(detail, ERR_PERM,
                       "there is no terminal to ask at (see the -fd options and --yes)");
    signal_seen = 0;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < CAUGHT_COUNT; i++)
        sigaction(caught[i], &action, &terminal->actions[i]);
    if (!is_quiet)
        return ERR_OK;
    struct termios quiet;
    if (tcgetattr(terminal->fd, &terminal->before) == 0) {
        quiet = terminal->before;
        quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
        quiet.c_lflag |= ICANON;
        terminal->is_quiet = tcsetattr(terminal->fd, TCSAFLUSH, &quiet) == 0;
    }
    if (terminal->is_quiet)
        return ERR_OK;
    enum err err = err_errno(detail, ERR_PERM, "cannot switch off the terminal's echo");
    terminal_close(terminal);
    return err;
}

static bool was_stopped(void)
{
    return signal_seen == SIGTSTP || signal_seen == SIGTTIN || signal_seen == SIGTTOU;
}

static enum err show(int fd, const char *text, struct detail *detail)
{
    for (size_t left = strlen(text); left;) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && (errno != EINTR || signal_seen))
            return err_errno(detail, ERR_TEMP, "the terminal");
        text += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
    return ERR_OK;
}

// A signal may come between a look at signal_seen and the wait, so no wait is long.
static ssize_t read_byte(int fd, uint8_t *byte)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    while (!signal_seen) {
        if (poll(&item, 1, 200) > 0)
            return read(fd, byte, 1);
    }
    errno = EINTR;
    return -1;
}

// A line into place, byte by byte: what follows it belongs to others. room counts the final 0.
static enum err read_line(int fd, uint8_t *place, size_t room, size_t *len, struct detail *detail)
{
    bool is_over = false;
    uint8_t byte = 0;
    enum err err = ERR_OK;
    ssize_t n = 0;
    *len = 0;
    while ((n = read_byte(fd, &byte)) == 1 || (n < 0 && errno == EINTR && !signal_seen)) {
        if (n < 0)
            continue;
        if (byte == '\n')
            break;
        is_over = is_over || *len + 1 >= room;
        if (!is_over)
            place[(*len)++] = byte;
    }
    byte = 0;
    place[*len] = 0;
    if (n < 0)
        err = signal_seen ? err_set(detail, ERR_TEMP, "interrupted")
                          : err_errno(detail, ERR_PERM, "descriptor %d", fd);
    else if (is_over)
        err = err_set(detail, ERR_PERM, "the line is longer than %zu bytes", room - 1);
    else if (n == 0 && *len == 0)
        err = err_set(detail, ERR_PERM, "nothing to read");
    return err;
}

static enum err check_secret(struct secret *out, enum err err, size_t len)
{
    if (err == ERR_OK && len && out->data[len - 1] == '\r')
        out->data[--len] = 0;
    if (err != ERR_OK)
        secret_wipe(out);
    else
        out->len = len;
    return err;
}

static enum err ask_quietly(const char *prompt, struct secret *out, size_t room,
                            struct detail *detail)
{
    struct terminal terminal;
    size_t len = 0;
    enum err err = terminal_open(&terminal, true, detail);
    if (err != ERR_OK)
        return err_prefix(detail, err, "%s", prompt);
    err = show(terminal.fd, prompt, detail);
    if (err == ERR_OK)
        err = show(terminal.fd, ": ", detail);
    if (err == ERR_OK)
        err = read_line(terminal.fd, out->data, room, &len, detail);
    err = check_secret(out, err, len); // wiped, if so, before the signal may end us
    terminal_close(&terminal);
    return err;
}

enum err ask_secret(const char *prompt, int fd, struct secret *out, struct detail *detail)
{
    size_t len = 0;
    size_t room = out->room > ASK_SECRET_MAX ? ASK_SECRET_MAX + 1 : out->room;
    enum err err = ERR_OK;
    secret_wipe(out);
    if (fd >= 0) {
        signal_seen = 0;
        err = read_line(fd, out->data, room, &len, detail);
        if (err != ERR_OK)
            err = err_prefix(detail, err, "%s", prompt);
        return check_secret(out, err, len);
    }
    do {
        signal_seen = 0;
        err = ask_quietly(prompt, out, room, detail);
    } while (err != ERR_OK && was_stopped());
    return err;
}

enum err ask_new_secret(const char *prompt, int fd, struct secret *out, struct detail *detail)
{
    struct secret again = {0};
    char second[120];
    enum err err = ask_secret(prompt, fd, out, detail);
    if (err != ERR_OK || fd >= 0)
        return err;
    snprintf(second, sizeof second, "%s, again", prompt);
    err = secret_init(&again, ASK_SECRET_MAX + 1, detail);
    if (err == ERR_OK)
        err = ask_secret(second, -1, &again, detail);
    if (err == ERR_OK && (again.len != out->len || memcmp(again.data, out->data, out->len) != 0))
        err = err_set(detail, ERR_PERM, "that was not the same twice");
    secret_clear(&again);
    if (err != ERR_OK)
        secret_wipe(out);
    return err;
}

static enum err ask_aloud(const char *text, const char *prompt, uint8_t *line, size_t room,
                          size_t *len, struct detail *detail)
{
    struct terminal terminal;
    enum err err = terminal_open(&terminal, false, detail);
    if (err != ERR_OK)
        return err;
    err = show(terminal.fd, text, detail);
    (void)tcflush(terminal.fd, TCIFLUSH); // typed ahead is no answer to what was not read yet
    if (err == ERR_OK)
        err = show(terminal.fd, prompt, detail);
    if (err == ERR_OK)
        err = read_line(terminal.fd, line, room, len, detail);
    terminal_close(&terminal);
    return err;
}

enum err ask_line(const char *text, const char *prompt, struct buf *out, struct detail *detail)
{
    uint8_t line[ASK_SECRET_MAX + 1];
    size_t len = 0;
    enum err err = ERR_OK;
    do {
        signal_seen = 0;
        err = ask_aloud(text, prompt, line, sizeof line, &len, detail);
    } while (err != ERR_OK && was_stopped());
    buf_reset(out);
    if (err == ERR_OK && (err = buf_put(out, line, len)) != ERR_OK)
        err = err_set(detail, err, "the answer is too long");
    return err;
}

enum err ask_yes(const char *text, const char *question, bool *is_yes, struct detail *detail)
{
    struct buf answer;
    char prompt[160];
    enum err err = ERR_OK;
    buf_init(&answer, ASK_SECRET_MAX);
    snprintf(prompt, sizeof prompt, "%s [yes/no] ", question);
    // "y" is typed without having read; who means it can spell it.
    for (bool is_clear = false; err == ERR_OK && !is_clear; text = "Please say yes or no.\n") {
        err = ask_line(text, prompt, &answer, detail);
        *is_yes = err == ERR_OK && strcmp(buf_text(&answer), "yes") == 0;
        is_clear = *is_yes || strcmp(buf_text(&answer), "no") == 0;
    }
    buf_clear(&answer);
    return err;
}
