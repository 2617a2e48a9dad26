// SPDX-License-Identifier: Apache-2.0
#include "gateway/cms_failure.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>

// providers/provider.h, PROVIDER_REASONS.
static const struct {
    int reason;
    enum err class;
} classes[] = {
    {1, ERR_TEMP},   // hsmd cannot do it now
    {2, ERR_PERM},   // hsmd rejects the request
    {3, ERR_DENIED}, // hsmd denies it
    {4, ERR_BUG},    // internal error
    {5, ERR_TEMP},   // the provider's configuration, which can be mended while mail waits
    {17, ERR_TEMP},  // out of memory
    {19, ERR_TEMP},  // hsmd's reply makes no sense
};

// ERR_OK: not hsmd's.
static enum err class_of(unsigned long code)
{
    const char *library = ERR_lib_error_string(code);
    if (!library || strcmp(library, "hsmd") != 0)
        return ERR_OK;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (classes[i].reason == ERR_GET_REASON(code))
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
