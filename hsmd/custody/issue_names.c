// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/issue_names.h"

#include <string.h>

#include <openssl/asn1.h>

// ISO 3166-1 alpha-2 as of 2026, officially assigned codes.
static const char countries[] =
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR "
    "BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ "
    "EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW "
    "GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY "
    "KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV "
    "MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY "
    "QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG "
    "TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM "
    "ZW ";

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] >= 0x80)
            return false;
    }
    return true;
}

static const char *label_flaw(struct bytes label)
{
    if (label.len == 0)
        return "has an empty label (two dots, or one at an end)";
    if (label.len > ISSUE_LABEL_MAX)
        return "has a label of more than 63 characters";
    if (label.data[0] == '-' || label.data[label.len - 1] == '-')
        return "has a label that begins or ends with a hyphen";
    for (size_t i = 0; i < label.len; i++) {
        uint8_t c = label.data[i];
        if (c == '*')
            return "has a wildcard elsewhere than in the domains, as their whole first label";
        if (!is_letter(c) && !is_digit(c) && c != '-')
            return "has a character other than letters, digits, hyphens and dots";
    }
    return NULL;
}

static bool is_number(struct bytes label)
{
    for (size_t i = 0; i < label.len; i++) {
        if (!is_digit(label.data[i]))
            return false;
    }
    return true;
}

const char *issue_domain_flaw(struct bytes name, enum issue_domain_kind kind)
{
    unsigned labels = 0;
    bool is_full = kind == ISSUE_FQDN || kind == ISSUE_WILDCARD;
    bool may_be_wild = kind == ISSUE_WILDCARD || kind == ISSUE_WILDCARD_HOST;
    struct bytes rest = name;
    struct bytes label = {0};
    if (name.len == 0)
        return "is empty";
    if (name.len > ISSUE_DOMAIN_MAX)
        return "is longer than 253 characters";
    if (!is_ascii(name))
        return "is not ASCII: write it as A-labels (xn--...)";
    if (may_be_wild && rest.len > 2 && memcmp(rest.data, "*.", 2) == 0)
        rest = bytes_of(rest.data + 2, rest.len - 2);
    for (bool is_last = false; !is_last; labels++) {
        const uint8_t *dot = memchr(rest.data, '.', rest.len);
        is_last = !dot;
        label = bytes_of(rest.data, dot ? (size_t)(dot - rest.data) : rest.len);
        const char *flaw = label_flaw(label);
        if (flaw)
            return flaw;
        if (dot)
            rest = bytes_of(dot + 1, rest.len - label.len - 1);
    }
    if (is_full && labels < 2)
        return "is no fully qualified domain name: it has one label only";
    if (is_full && is_number(label))
        return "is no fully qualified domain name: it ends in a number";
    return NULL;
}

// atext of RFC 5322, 3.2.3.
static bool is_atext(uint8_t c)
{
    return is_letter(c) || is_digit(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static const char *local_flaw(struct bytes local)
{
    if (local.len == 0)
        return "has nothing before the @";
    if (local.len > ISSUE_LOCAL_MAX)
        return "has more than 64 characters before the @";
    for (size_t i = 0; i < local.len; i++) {
        uint8_t c = local.data[i];
        bool is_dot = c == '.' && i > 0 && i + 1 < local.len && local.data[i - 1] != '.';
        if (!is_dot && !is_atext(c))
            return "has a character before the @ that needs quoting, which few programs read";
    }
    return NULL;
}

const char *issue_address_flaw(struct bytes address, enum issue_domain_kind kind)
{
    const uint8_t *at = address.len ? memrchr(address.data, '@', address.len) : NULL;
    if (!at)
        return "is no mail address: it has no @";
    if (address.len > ISSUE_ADDRESS_MAX)
        return "is longer than 254 characters";
    struct bytes local = bytes_of(address.data, (size_t)(at - address.data));
    if (!is_ascii(local))
        return "is not ASCII before the @, which an rfc822Name cannot hold";
    const char *flaw = local_flaw(local);
    return flaw ? flaw : issue_domain_flaw(bytes_of(at + 1, address.len - local.len - 1), kind);
}

static bool is_control(unsigned long c)
{
    // With those that turn the direction of the text around.
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

const char *issue_text_flaw(struct bytes text, unsigned max)
{
    unsigned count = 0;
    if (text.len && (text.data[0] == ' ' || text.data[text.len - 1] == ' '))
        return "begins or ends with a space";
    for (size_t at = 0; at < text.len; count++) {
        unsigned long c = 0;
        int len = UTF8_getc(text.data + at, (int)(text.len - at), &c);
        if (len <= 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
            return "is not UTF-8";
        if (is_control(c))
            return "has a control character";
        at += (size_t)len;
    }
    return count > max ? "is too long" : NULL;
}

const char *issue_country_flaw(struct bytes country)
{
    for (const char *at = countries; *at; at += 3) {
        if (bytes_equal(country, bytes_of(at, 2)))
            return NULL;
    }
    return "is no country code of ISO 3166: two capital letters, as DE";
}
