// SPDX-License-Identifier: Apache-2.0
// Failure, as all of Sealgate's code reports it.
//
// The class alone decides what the outside sees (SMTP reply, wire status, exit code), in one table
// each. The detail is for the log and the person at the terminal: it says which limit, file, key.
#pragma once

#include <stdbool.h>

enum [[nodiscard]] err{
    ERR_OK = 0,
    ERR_TEMP,   // may work later: token gone, daemon down, disk full, deadline passed
    ERR_PERM,   // will not work with this input: malformed, unsupported, too large
    ERR_DENIED, // not allowed
    ERR_BUG,    // our own mistake
};

// What went wrong, one line without a full stop. Zero-initialise; holds "" until something failed.
struct detail {
    char text[480];
};

// "ok", "temp", "perm", "denied", "bug".
const char *err_name(enum err class);

// Writes the text into detail (NULL: nowhere) and returns class, so that a failure is one line:
//     return err_set(detail, ERR_PERM, "%s: key too short", name);
enum err err_set(struct detail *detail, enum err class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "prefix: " before what detail already says; returns class.
enum err err_prefix(struct detail *detail, enum err class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// As err_set, with the newest reason on this thread's OpenSSL error queue appended; empties the
// queue.
enum err err_openssl(struct detail *detail, enum err class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// As err_set, with strerror(errno) appended. ENOSPC, EDQUOT, ENOMEM, EMFILE, ENFILE, EAGAIN, EIO
// and EINTR make it ERR_TEMP whatever the class given.
enum err err_errno(struct detail *detail, enum err class, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
