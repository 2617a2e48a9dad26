// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <syslog.h>
#include <unistd.h>

#include <systemd/sd-journal.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/text.h"

#define LINE_MAX_SIZE 2048
#define PAIRS_MAX 16

static struct {
    const char *ident;
    enum log_sink sink;
    enum log_level level;
} sink_state = {.ident = "sealgate", .sink = LOG_SINK_STDERR, .level = LOG_LEVEL_NOTICE};

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};
static const int level_priorities[] = {LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG};

void log_open(const char *ident, enum log_sink sink, enum log_level level)
{
    sink_state.ident = ident;
    sink_state.sink = sink;
    sink_state.level = level;
    if (sink == LOG_SINK_SYSLOG)
        openlog(ident, LOG_PID | LOG_NDELAY, LOG_MAIL);
}

bool log_is_on(enum log_level level)
{
    return level <= sink_state.level;
}

// systemd names the device and inode of the journal's stream in JOURNAL_STREAM.
static bool is_stderr_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    char mine[64];
    if (!stream || fstat(STDERR_FILENO, &st) != 0)
        return false;
    snprintf(mine, sizeof mine, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(stream, mine) == 0;
}

bool log_sink_by_name(const char *name, enum log_sink *sink)
{
    if (strcmp(name, "auto") == 0)
        *sink = is_stderr_journal() ? LOG_SINK_JOURNAL : LOG_SINK_STDERR;
    else if (strcmp(name, "stderr") == 0)
        *sink = LOG_SINK_STDERR;
    else if (strcmp(name, "syslog") == 0)
        *sink = LOG_SINK_SYSLOG;
    else if (strcmp(name, "journal") == 0)
        *sink = LOG_SINK_JOURNAL;
    else
        return false;
    return true;
}

bool log_level_by_name(const char *name, enum log_level *level)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(level_names[i], name) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

struct line {
    char text[LINE_MAX_SIZE];
    size_t len;
};

static void line_printf(struct line *line, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void line_printf(struct line *line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line->text + line->len, sizeof line->text - line->len, fmt, ap);
    va_end(ap);
    if (n > 0)
        line->len += (size_t)n;
    if (line->len >= sizeof line->text)
        line->len = sizeof line->text - 1;
}

static void emit_stderr(enum log_level level, const char *event, const char *text)
{
    char stamp[CLOCK_STAMP_SIZE];
    struct line line = {.len = 0};
    clock_stamp(stamp);
    line_printf(&line, "%s %s: %s event=%s%s", stamp, sink_state.ident, level_names[level], event,
                text);
    line.text[line.len] = '\n'; // over the final 0: write(2) needs none
    if (write(STDERR_FILENO, line.text, line.len + 1) < 0)
        return; // nowhere left to say it
}

static void emit_journal(enum log_level level, const char *event, const char *text,
                         char fields[][TEXT_QUOTED_SIZE + 40], size_t count)
{
    char message[LINE_MAX_SIZE + 40];
    char priority[16];
    char identifier[80];
    char named[100];
    struct iovec parts[PAIRS_MAX + 4];
    size_t n = 0;
    snprintf(message, sizeof message, "MESSAGE=%s event=%s%s", level_names[level], event, text);
    snprintf(priority, sizeof priority, "PRIORITY=%d", level_priorities[level]);
    snprintf(identifier, sizeof identifier, "SYSLOG_IDENTIFIER=%s", sink_state.ident);
    snprintf(named, sizeof named, "SEALGATE_EVENT=%s", event);
    char *const fixed[] = {message, priority, identifier, named};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        parts[n++] = (struct iovec){fixed[i], strlen(fixed[i])};
    for (size_t i = 0; i < count; i++)
        parts[n++] = (struct iovec){fields[i], strlen(fields[i])};
    sd_journal_sendv(parts, (int)n);
}

// A value fit for between double quotes. Those of our own details would become \x22, which nobody
// likes to read at night.
static void quote_value(const char *value, char quoted[TEXT_QUOTED_SIZE])
{
    char plain[TEXT_QUOTED_SIZE];
    size_t len = strnlen(value, sizeof plain); // text_quote cuts what is longer
    for (size_t i = 0; i < len; i++)
        plain[i] = value[i] == '"' ? '\'' : value[i];
    text_quote(plain, len, quoted, TEXT_QUOTED_SIZE);
}

void log_event(enum log_level level, const char *event, ...)
{
    if (level > sink_state.level)
        return;
    struct line line = {.len = 0};
    char fields[PAIRS_MAX][TEXT_QUOTED_SIZE + 40];
    size_t count = 0;
    va_list ap;
    va_start(ap, event);
    for (const char *name; (name = va_arg(ap, const char *)) != NULL;) {
        const char *value = va_arg(ap, const char *);
        char quoted[TEXT_QUOTED_SIZE];
        if (!value)
            continue;
        quote_value(value, quoted);
        line_printf(&line, " %s=\"%s\"", name, quoted);
        if (count < PAIRS_MAX) {
            char *field = fields[count++];
            snprintf(field, sizeof fields[0], "SEALGATE_%s=%s", name, quoted);
            for (char *c = field; *c != '='; c++) // the journal takes no other characters
                *c = (char)(isalnum((unsigned char)*c) ? toupper((unsigned char)*c) : '_');
        }
    }
    va_end(ap);
    switch (sink_state.sink) {
    case LOG_SINK_STDERR:
        emit_stderr(level, event, line.text);
        break;
    case LOG_SINK_SYSLOG:
        syslog(level_priorities[level], "%s event=%s%s", level_names[level], event, line.text);
        break;
    case LOG_SINK_JOURNAL:
        emit_journal(level, event, line.text, fields, count);
        break;
    }
}
