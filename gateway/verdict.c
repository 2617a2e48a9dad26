// SPDX-License-Identifier: Apache-2.0
#include "gateway/verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/text.h"

// sysexits.h has EX_TEMPFAIL 75; the others are ours.
static const struct {
    const char *name;
    int exit_status;
} kinds[] = {
    [VERDICT_DELIVER] = {"deliver", 0},
    [VERDICT_BOUNCE] = {"bounce", 10},
    [VERDICT_DROP] = {"drop", 11},
    [VERDICT_TEMP] = {"temporary", 75},
};

static const char *const replies[] = {
    [ERR_OK] = "250 2.0.0",     [ERR_TEMP] = "451 4.3.0", [ERR_PERM] = "554 5.6.0",
    [ERR_DENIED] = "451 4.7.0", [ERR_BUG] = "451 4.3.0",
};

// Indexed by cms_verdict; the first column where the signer is the From address.
static const enum authres_result results[][2] = {
    [CMS_GOOD] = {AUTHRES_PASS, AUTHRES_POLICY},
    [CMS_BAD_SIGNATURE] = {AUTHRES_FAIL, AUTHRES_FAIL},
    [CMS_UNTRUSTED] = {AUTHRES_POLICY, AUTHRES_POLICY},
    [CMS_EXPIRED] = {AUTHRES_POLICY, AUTHRES_POLICY},
    [CMS_NO_CERTIFICATE] = {AUTHRES_PERMERROR, AUTHRES_PERMERROR},
    [CMS_UNSUPPORTED] = {AUTHRES_NEUTRAL, AUTHRES_NEUTRAL},
};

const char *verdict_kind_name(enum verdict_kind kind)
{
    return kinds[kind].name;
}

int verdict_exit_status(enum verdict_kind kind)
{
    return kinds[kind].exit_status;
}

void verdict_deliver(struct verdict *verdict)
{
    *verdict = (struct verdict){.kind = VERDICT_DELIVER};
}

void verdict_drop(struct verdict *verdict, const char *why)
{
    *verdict = (struct verdict){.kind = VERDICT_DROP};
    text_quote(why, strlen(why), verdict->text, sizeof verdict->text);
}

void verdict_reply(struct verdict *verdict, const char *code, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    *verdict = (struct verdict){.kind = *code == '4' ? VERDICT_TEMP : VERDICT_BOUNCE};
    snprintf(verdict->code, sizeof verdict->code, "%.3s", code);
    snprintf(verdict->enhanced, sizeof verdict->enhanced, "%.7s", code + 4);
    text_quote(text, strlen(text), verdict->text, sizeof verdict->text);
}

void verdict_of_err(struct verdict *verdict, enum err class, const struct detail *detail)
{
    if (class == ERR_OK)
        verdict_deliver(verdict);
    else if (class == ERR_PERM)
        verdict_reply(verdict, replies[class], "S/MIME processing failed: %s", detail->text);
    else
        verdict_reply(verdict, replies[class], "S/MIME processing is not possible now");
}

enum authres_result verdict_of_signature(enum cms_verdict signature, bool covers_from)
{
    return results[signature][covers_from ? 0 : 1];
}
