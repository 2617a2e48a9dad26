// SPDX-License-Identifier: Apache-2.0
// Asking at a terminal: a child with a pseudo-terminal of its own asks, this process types. What
// the child found is its exit status.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/hsmctl_ask.h"

#define WAIT_MS 20000
#define SCREEN_MAX 8192

enum { SAID_SECRET = 40, SAID_YES, SAID_NO, SAID_LINE, SAID_ERROR, SAID_OTHER };

struct terminal {
    int fd;
    pid_t child;
    char screen[SCREEN_MAX];
    size_t len;
};

static int asks_secret(void)
{
    struct secret secret = {0};
    struct detail detail = {0};
    if (secret_init(&secret, ASK_SECRET_MAX + 1, &detail) != ERR_OK)
        return SAID_OTHER;
    enum err err = ask_secret("Passphrase", -1, &secret, &detail);
    int said = err != ERR_OK                                                   ? SAID_ERROR
               : secret.len == 6 && strcmp((char *)secret.data, "s3cret") == 0 ? SAID_SECRET
                                                                               : SAID_OTHER;
    secret_clear(&secret);
    return said;
}

static int asks_new_secret(void)
{
    struct secret secret = {0};
    struct detail detail = {0};
    if (secret_init(&secret, ASK_SECRET_MAX + 1, &detail) != ERR_OK)
        return SAID_OTHER;
    enum err err = ask_new_secret("New passphrase", -1, &secret, &detail);
    int said = err == ERR_OK && secret.len == 6   ? SAID_SECRET
               : err != ERR_OK && secret.len == 0 ? SAID_ERROR
                                                  : SAID_OTHER;
    secret_clear(&secret);
    return said;
}

static int asks_yes(void)
{
    bool is_yes = false;
    struct detail detail = {0};
    if (ask_yes("It will be done.\n", "Sign this?", &is_yes, &detail) != ERR_OK)
        return SAID_ERROR;
    return is_yes ? SAID_YES : SAID_NO;
}

// Not before SIGUSR1.
static int asks_yes_late(void)
{
    int number = 0;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (fd < 0 || write(fd, "Working.\n", 9) != 9 || sigwait(&set, &number) != 0)
        return SAID_OTHER;
    close(fd);
    return asks_yes();
}

static int asks_line(void)
{
    struct buf line;
    struct detail detail = {0};
    buf_init(&line, 10);
    enum err err = ask_line("Text\n", "Name: ", &line, &detail);
    int said = err == ERR_PERM                           ? SAID_ERROR
               : strcmp(buf_text(&line), "signing") == 0 ? SAID_LINE
                                                         : SAID_OTHER;
    buf_clear(&line);
    return said;
}

static void open_terminal(struct terminal *terminal, int (*asks)(void))
{
    *terminal = (struct terminal){.fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
    assert_true(terminal->fd >= 0);
    assert_int_equal(grantpt(terminal->fd), 0);
    assert_int_equal(unlockpt(terminal->fd), 0);
    terminal->child = fork();
    if (terminal->child == 0) {
        setsid();
        int fd = open(ptsname(terminal->fd), O_RDWR);
        ioctl(fd, TIOCSCTTY, 0);
        _exit(asks());
    }
}

// Reads what is shown until text is there.
static void await(struct terminal *terminal, const char *text)
{
    while (!strstr(terminal->screen, text)) {
        struct pollfd item = {.fd = terminal->fd, .events = POLLIN};
        if (poll(&item, 1, WAIT_MS) != 1)
            fail_msg("\"%s\" did not come: %s", text, terminal->screen);
        ssize_t n = read(terminal->fd, terminal->screen + terminal->len,
                         sizeof terminal->screen - 1 - terminal->len);
        if (n <= 0)
            fail_msg("the terminal ended before \"%s\": %s", text, terminal->screen);
        terminal->len += (size_t)n;
    }
}

static bool has_echo(const struct terminal *terminal)
{
    struct termios attributes;
    assert_int_equal(tcgetattr(terminal->fd, &attributes), 0);
    return (attributes.c_lflag & ECHO) != 0;
}

static void type(const struct terminal *terminal, const char *text)
{
    assert_int_equal(write(terminal->fd, text, strlen(text)), (ssize_t)strlen(text));
}

// The wait status. Shown meanwhile: taken, too.
static int close_terminal(struct terminal *terminal)
{
    int status = 0;
    assert_int_equal(waitpid(terminal->child, &status, 0), terminal->child);
    ssize_t n = read(terminal->fd, terminal->screen + terminal->len,
                     sizeof terminal->screen - 1 - terminal->len);
    if (n > 0)
        terminal->len += (size_t)n;
    return status;
}

static void assert_said(struct terminal *terminal, int said)
{
    int status = close_terminal(terminal);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != said)
        fail_msg("status %x, wanted %d: %s", (unsigned)status, said, terminal->screen);
    close(terminal->fd);
}

static void test_secret(void **state)
{
    (void)state;
    struct terminal terminal;
    open_terminal(&terminal, asks_secret);
    await(&terminal, "Passphrase: ");
    assert_false(has_echo(&terminal));
    type(&terminal, "s3cret\n");
    int status = close_terminal(&terminal);
    assert_int_equal(WEXITSTATUS(status), SAID_SECRET);
    assert_null(strstr(terminal.screen, "s3cret"));
    close(terminal.fd);
}

// The echo is back after each signal, and the process ends of it.
static void test_signals(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct terminal terminal;
        open_terminal(&terminal, asks_secret);
        // Somebody must hold the other end, or its attributes are gone with the child.
        int other = open(ptsname(terminal.fd), O_RDWR | O_NOCTTY);
        await(&terminal, "Passphrase: ");
        assert_false(has_echo(&terminal));
        type(&terminal, "s3c");
        if (signals[i] == SIGINT)
            type(&terminal, "\003");
        else
            kill(terminal.child, signals[i]);
        int status = close_terminal(&terminal);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]);
        assert_true(has_echo(&terminal));
        close(other);
        close(terminal.fd);
    }
}

// Stopped and gone on with: asked again, quietly. (Without a shell nothing really stops it.)
static void test_stop(void **state)
{
    (void)state;
    struct terminal terminal;
    open_terminal(&terminal, asks_secret);
    await(&terminal, "Passphrase: ");
    kill(terminal.child, SIGTSTP);
    await(&terminal, "Passphrase: \r\nPassphrase: ");
    assert_false(has_echo(&terminal));
    type(&terminal, "s3cret\n");
    assert_said(&terminal, SAID_SECRET);
}

static void test_new_secret(void **state)
{
    (void)state;
    struct terminal terminal;
    open_terminal(&terminal, asks_new_secret);
    await(&terminal, "New passphrase: ");
    type(&terminal, "s3cret\n");
    await(&terminal, "New passphrase, again: ");
    type(&terminal, "s3cret\n");
    assert_said(&terminal, SAID_SECRET);
    open_terminal(&terminal, asks_new_secret);
    await(&terminal, "New passphrase: ");
    type(&terminal, "s3cret\n");
    await(&terminal, "New passphrase, again: ");
    type(&terminal, "s3creT\n");
    assert_said(&terminal, SAID_ERROR);
}

static void test_yes(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second;
        int said;
    } rows[] = {{"yes\n", NULL, SAID_YES}, {"no\n", NULL, SAID_NO},    {"y\n", "no\n", SAID_NO},
                {"\n", "yes\n", SAID_YES}, {"YES\n", "no\n", SAID_NO}, {"\004", NULL, SAID_ERROR}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct terminal terminal;
        open_terminal(&terminal, asks_yes);
        await(&terminal, "It will be done.");
        await(&terminal, "Sign this? [yes/no] ");
        assert_true(has_echo(&terminal));
        type(&terminal, rows[i].first);
        if (rows[i].second) {
            await(&terminal, "Please say yes or no.\r\nSign this? [yes/no] ");
            type(&terminal, rows[i].second);
        }
        assert_said(&terminal, rows[i].said);
    }
}

// "yes" that was typed before the question came is no answer to it.
static void test_typed_ahead(void **state)
{
    (void)state;
    struct terminal terminal;
    open_terminal(&terminal, asks_yes_late);
    await(&terminal, "Working.");
    type(&terminal, "yes\n");
    await(&terminal, "yes\r\n"); // the echo: the terminal has it
    assert_int_equal(kill(terminal.child, SIGUSR1), 0);
    await(&terminal, "Sign this? [yes/no] ");
    type(&terminal, "no\n");
    assert_said(&terminal, SAID_NO);
}

static void test_line(void **state)
{
    (void)state;
    struct terminal terminal;
    open_terminal(&terminal, asks_line);
    await(&terminal, "Name: ");
    type(&terminal, "signing\n");
    assert_said(&terminal, SAID_LINE);
    open_terminal(&terminal, asks_line);
    await(&terminal, "Name: ");
    type(&terminal, "signing and much more\n");
    assert_said(&terminal, SAID_ERROR);
}

// One descriptor gives several, a line each.
static void test_descriptor(void **state)
{
    (void)state;
    static const struct {
        enum err err;
        const char *text;
    } rows[] = {{ERR_OK, "one"},  {ERR_OK, "two"}, {ERR_OK, ""},
                {ERR_PERM, NULL}, {ERR_OK, "end"}, {ERR_PERM, NULL}};
    static char lines[3000] = "one\ntwo\r\n\n";
    struct secret secret = {0};
    struct detail detail = {0};
    int ends[2];
    size_t len = strlen(lines);
    memset(lines + len, 'x', ASK_SECRET_MAX + 1);
    strcat(lines, "\nend"); // no line end
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], lines, strlen(lines)), (ssize_t)strlen(lines));
    close(ends[1]);
    assert_int_equal(secret_init(&secret, ASK_SECRET_MAX + 1, &detail), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(ask_secret("It", ends[0], &secret, &detail), rows[i].err);
        assert_int_equal(secret.len, rows[i].text ? strlen(rows[i].text) : 0);
        assert_string_equal((char *)secret.data, rows[i].text ? rows[i].text : "");
    }
    close(ends[0]);
    assert_int_equal(ask_secret("It", 999, &secret, &detail), ERR_PERM);
    secret_clear(&secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_secret), cmocka_unit_test(test_signals),
        cmocka_unit_test(test_stop),   cmocka_unit_test(test_new_secret),
        cmocka_unit_test(test_yes),    cmocka_unit_test(test_typed_ahead),
        cmocka_unit_test(test_line),   cmocka_unit_test(test_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
