// SPDX-License-Identifier: Apache-2.0
#include "gateway/cms_failure.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

#include "providers/reasons.h"

static const struct {
    enum reason reason;
    enum err class;
} classes[] = {
    {REASON_TEMP, ERR_TEMP},   {REASON_PERM, ERR_PERM},          {REASON_DENIED, ERR_DENIED},
    {REASON_BUG, ERR_BUG},     {REASON_CONFIGURATION, ERR_TEMP}, // it can be mended while mail
                                                                 // waits
    {REASON_MEMORY, ERR_TEMP}, {REASON_REPLY, ERR_TEMP},
};

// ERR_OK: not hsmd's.
static enum err class_of(unsigned long code)
{
    const char *library = ERR_lib_error_string(code);
    if (!library || strcmp(library, PROVIDER_LIBRARY) != 0)
        return ERR_OK;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if ((int)classes[i].reason == ERR_GET_REASON(code))
            return classes[i].class;
    }
    return ERR_PERM;
}

enum err cms_failure(struct detail *detail, enum err class, const char *what)
{
    char cause[300] = "", last[300] = "";
    enum err hsmd = ERR_OK;
    const char *data = NULL;
    int flags = 0;
    unsigned long code;
    while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags))) {
        const char *reason = ERR_reason_error_string(code);
        bool has_text = data && (flags & ERR_TXT_STRING) && *data;
        snprintf(last, sizeof last, ": %s%s%s", reason ? reason : "unknown reason",
                 has_text ? ": " : "", has_text ? data : "");
        enum err this = class_of(code);
        if (this != ERR_OK && hsmd == ERR_OK) {
            hsmd = this;
            memcpy(cause, last, sizeof cause);
        }
    }
    return err_set(detail, hsmd != ERR_OK ? hsmd : class, "%s%s", what, *cause ? cause : last);
}
