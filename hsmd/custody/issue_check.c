// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/text.h"
#include "hsmd/custody/issue.h"
#include "hsmd/custody/issue_names.h"

#include <string.h>

// Says which field, quoted and cut, what is wrong with it, and what to do.
static enum err refuse(struct detail *detail, const char *field, struct bytes value,
                       const char *flaw, const char *advice)
{
    char quoted[TEXT_QUOTED_SIZE];
    const char *text = value.len ? (const char *)value.data : "";
    return err_set(detail, ERR_PERM, "%s: \"%s\" %s%s", field,
                   text_quote(text, value.len, quoted, sizeof quoted), flaw, advice);
}

static enum err check_texts(const struct act *act, struct detail *detail)
{
    // Upper bounds of RFC 5280, appendix A.1.
    const struct {
        const char *name;
        struct bytes value;
        unsigned max;
        const char *advice;
    } rows[] = {
        {"common name", act->common_name, 64, " (at most 64 characters)"},
        {"organization", act->organization, 64, " (at most 64 characters)"},
        {"organizational unit", act->unit, 64, " (at most 64 characters)"},
        {"city", act->city, 128, " (at most 128 characters)"},
        {"state", act->state, 128, " (at most 128 characters)"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *flaw = issue_text_flaw(rows[i].value, rows[i].max);
        bool is_long = flaw && strcmp(flaw, "is too long") == 0;
        if (flaw)
            return refuse(detail, rows[i].name, rows[i].value, flaw, is_long ? rows[i].advice : "");
    }
    return ERR_OK;
}

static const char *advice_of(const char *flaw)
{
    return strstr(flaw, "qualified") ? "; give the full name, or ask for no check of names" : "";
}

static enum err check_common_name(const struct act *act, struct detail *detail)
{
    struct bytes name = act->common_name;
    const char *flaw = NULL;
    if (name.len == 0)
        return err_set(detail, ERR_PERM, "common name: there must be one");
    if (act->any_name)
        return ERR_OK;
    if (memchr(name.data, '@', name.len))
        flaw = issue_address_flaw(name, ISSUE_FQDN);
    else
        flaw = issue_domain_flaw(name, ISSUE_FQDN);
    if (flaw)
        return refuse(detail, "common name", name, flaw,
                      "; it must be a fully qualified domain name or a mail address, unless no "
                      "check of names is asked for");
    return ERR_OK;
}

static enum err check_list(const char *field, struct bytes list,
                           const char *(*flaw_of)(struct bytes, enum issue_domain_kind),
                           enum issue_domain_kind kind, struct detail *detail)
{
    struct bytes name;
    struct bytes rest = list;
    size_t len = 0; // of the list, were it written anew
    if (list.len > ACT_LIST_MAX)
        return err_set(detail, ERR_PERM, "%s: more than %u bytes", field, ACT_LIST_MAX);
    while (act_list_next(&rest, &name)) {
        len += name.len + (len > 0);
        const char *flaw = flaw_of(name, kind);
        if (flaw)
            return refuse(detail, field, name, flaw, advice_of(flaw));
    }
    if (len != list.len)
        return refuse(detail, field, list, "has an empty name between its commas", "");
    return ERR_OK;
}

enum err issue_check(const struct act *act, struct detail *detail)
{
    if (act->kind != ACT_KEY_REQUEST && act->kind != ACT_KEY_SELF_SIGN)
        return err_set(detail, ERR_BUG, "an act without a certificate");
    enum err err = check_texts(act, detail);
    if (err == ERR_OK)
        err = check_common_name(act, detail);
    if (err != ERR_OK)
        return err;
    const char *flaw = act->country.len ? issue_country_flaw(act->country) : NULL;
    if (flaw)
        return refuse(detail, "country", act->country, flaw, "");
    err = check_list("domains", act->domains, issue_domain_flaw,
                     act->any_name ? ISSUE_WILDCARD_HOST : ISSUE_WILDCARD, detail);
    if (err == ERR_OK)
        err = check_list("emails", act->emails, issue_address_flaw,
                         act->any_name ? ISSUE_HOST : ISSUE_FQDN, detail);
    if (err != ERR_OK)
        return err;
    if (act->hash != HASH_SHA256 && act->hash != HASH_SHA384 && act->hash != HASH_SHA512)
        return err_set(detail, ERR_PERM, "hash: it must be sha256, sha384 or sha512");
    if (act->kind == ACT_KEY_SELF_SIGN && (act->days < 1 || act->days > ACT_DAYS_MAX))
        return err_set(detail, ERR_PERM, "days: the certificate must be valid for 1 to %u days",
                       ACT_DAYS_MAX);
    return ERR_OK;
}
