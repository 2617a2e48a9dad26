// SPDX-License-Identifier: Apache-2.0
// The log: one line an event, for the mail operator at two in the morning.
//
//     level event=sign key="gw-sign" peer="gw1" err="temp: token gone"
//
// error: an operator must act; warning: a message or request failed; notice: state changed;
// info: one line a message; debug: off by default. Values are quoted and cut here, double quotes in
// them become single ones, so untrusted text may be passed as it is. Never pass a key, a PIN or a
// body.
#pragma once

#include <stdbool.h>

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG
};

enum log_sink {
    LOG_SINK_STDERR,  // lines, with a time stamp
    LOG_SINK_SYSLOG,  // syslog(3), facility mail
    LOG_SINK_JOURNAL, // sd_journal, one field a key (EVENT=, KEY=, ...)
};

// Once at start; before that, and without it, lines of notice and above go to standard error.
// ident must outlive the process's use of the log.
void log_open(const char *ident, enum log_sink sink, enum log_level level);

// Is an event of this level written? For callers to whom it costs something to say it.
bool log_is_on(enum log_level level);

// "auto" is the journal if standard error is connected to it, else standard error. False: no such
// name.
bool log_sink_by_name(const char *name, enum log_sink *sink);
bool log_level_by_name(const char *name, enum log_level *level);

// Name, value pairs of strings, ended by a NULL name; a NULL value leaves its pair out.
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));

#define log_error(...) log_event(LOG_LEVEL_ERROR, __VA_ARGS__, NULL)
#define log_warning(...) log_event(LOG_LEVEL_WARNING, __VA_ARGS__, NULL)
#define log_notice(...) log_event(LOG_LEVEL_NOTICE, __VA_ARGS__, NULL)
#define log_info(...) log_event(LOG_LEVEL_INFO, __VA_ARGS__, NULL)
#define log_debug(...) log_event(LOG_LEVEL_DEBUG, __VA_ARGS__, NULL)
