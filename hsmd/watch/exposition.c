// SPDX-License-Identifier: Apache-2.0
#include "hsmd/watch/exposition.h"

#include <stdarg.h>
#include <string.h>

void exposition_begin(struct exposition *exposition, const char *metric, const char *type,
                      const char *help)
{
    exposition->metric = metric;
    if (exposition->err == ERR_OK)
        exposition->err =
            buf_printf(exposition->out, "# HELP %s %s\n# TYPE %s %s\n", metric, help, metric, type);
}

static enum err put_value(struct buf *out, const char *value)
{
    enum err err = ERR_OK;
    for (; *value && err == ERR_OK; value++) {
        if (*value == '\n')
            err = buf_put_text(out, "\\n");
        else if (*value == '"' || *value == '\\')
            err = buf_printf(out, "\\%c", *value);
        else
            err = buf_put(out, value, 1);
    }
    return err;
}

static enum err put_labels(struct buf *out, va_list ap)
{
    enum err err = ERR_OK;
    const char *separator = "{";
    for (const char *name; (name = va_arg(ap, const char *)) != NULL && err == ERR_OK;) {
        const char *value = va_arg(ap, const char *);
        err = buf_printf(out, "%s%s=\"", separator, name);
        if (err == ERR_OK)
            err = put_value(out, value);
        if (err == ERR_OK)
            err = buf_put_text(out, "\"");
        separator = ",";
    }
    return err == ERR_OK && *separator == ',' ? buf_put_text(out, "}") : err;
}

void exposition_put(struct exposition *exposition, const char *suffix, double value, ...)
{
    va_list ap;
    if (exposition->err != ERR_OK)
        return;
    enum err err = buf_printf(exposition->out, "%s%s", exposition->metric, suffix);
    va_start(ap, value);
    if (err == ERR_OK)
        err = put_labels(exposition->out, ap);
    va_end(ap);
    // 17 digits give back every double, and every count below 2^53.
    if (err == ERR_OK)
        err = buf_printf(exposition->out, " %.17g\n", value);
    exposition->err = err;
}
