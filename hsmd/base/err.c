// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

const char *err_name(enum err class)
{
    switch (class) {
    case ERR_OK:
        return "ok";
    case ERR_TEMP:
        return "temp";
    case ERR_PERM:
        return "perm";
    case ERR_DENIED:
        return "denied";
    case ERR_BUG:
        return "bug";
    }
    return "bug";
}

enum err err_set(struct detail *detail, enum err class, const char *fmt, ...)
{
    if (detail) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(detail->text, sizeof detail->text, fmt, ap);
        va_end(ap);
    }
    return class;
}

enum err err_prefix(struct detail *detail, enum err class, const char *fmt, ...)
{
    if (detail) {
        struct detail old = *detail;
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(detail->text, sizeof detail->text, fmt, ap);
        va_end(ap);
        size_t n = strlen(detail->text);
        snprintf(detail->text + n, sizeof detail->text - n, ": %s", old.text);
    }
    return class;
}

static void append_reason(struct detail *detail, const char *reason)
{
    size_t n = strlen(detail->text);
    snprintf(detail->text + n, sizeof detail->text - n, ": %s", reason);
}

enum err err_openssl(struct detail *detail, enum err class, const char *fmt, ...)
{
    const char *data = NULL;
    int flags = 0;
    unsigned long code = ERR_peek_last_error_all(NULL, NULL, NULL, &data, &flags);
    if (detail) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(detail->text, sizeof detail->text, fmt, ap);
        va_end(ap);
        if (code) {
            char line[200];
            const char *reason = ERR_reason_error_string(code);
            bool has_data = data && (flags & ERR_TXT_STRING) && *data;
            snprintf(line, sizeof line, "%s%s%s", reason ? reason : "unknown reason",
                     has_data ? ": " : "", has_data ? data : "");
            append_reason(detail, line);
        }
    }
    ERR_clear_error();
    return class;
}

enum err err_errno(struct detail *detail, enum err class, const char *fmt, ...)
{
    int saved = errno;
    if (detail) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(detail->text, sizeof detail->text, fmt, ap);
        va_end(ap);
        append_reason(detail, strerror(saved));
    }
    switch (saved) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case EIO:
    case EINTR:
        return ERR_TEMP;
    default:
        return class;
    }
}
