// SPDX-License-Identifier: Apache-2.0
#include "gateway/address.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <gmime/gmime.h>
#include <idn2.h>

#include "gateway/field.h"
#include "hsmd/base/text.h"

static enum err not_an_address(const char *text, struct detail *detail)
{
    char quoted[TEXT_QUOTED_SIZE];
    return err_set(detail, ERR_PERM, "not a mail address: \"%s\"",
                   text_quote(text, strlen(text), quoted, sizeof quoted));
}

static void lower(char *text)
{
    for (; *text; text++)
        *text = g_ascii_tolower(*text);
}

// Labels of letters, digits, '-' and '_', none empty.
static bool is_host_name(const char *domain)
{
    size_t label = 0;
    for (const char *c = domain; *c; c++) {
        if (*c == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (g_ascii_isalnum(*c) || *c == '-' || *c == '_') {
            label++;
        } else {
            return false;
        }
    }
    return label > 0;
}

static bool is_literal(const char *text)
{
    size_t n = strlen(text);
    return n > 2 && text[0] == '[' && text[n - 1] == ']' &&
           strspn(text + 1, "0123456789abcdefABCDEFIPVipv.:-") == n - 2;
}

enum err address_normalise_domain(const char *text, char domain[ADDRESS_MAX], struct detail *detail)
{
    char copy[ADDRESS_MAX];
    size_t n = strlen(text);
    if (n >= sizeof copy || n == 0)
        return not_an_address(text, detail);
    memcpy(copy, text, n + 1);
    if (copy[n - 1] == '.')
        copy[n - 1] = 0;
    char *ascii = NULL;
    if (!is_host_name(copy) && !is_literal(copy)) {
        if (!g_utf8_validate(copy, -1, NULL) ||
            idn2_to_ascii_8z(copy, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
            return not_an_address(text, detail);
        bool fits = strlen(ascii) < sizeof copy && is_host_name(ascii);
        if (fits)
            strcpy(copy, ascii); // NOLINT(clang-analyzer-security.insecureAPI.strcpy): it fits
        idn2_free(ascii);
        if (!fits)
            return not_an_address(text, detail);
    }
    lower(copy);
    memcpy(domain, copy, strlen(copy) + 1);
    return ERR_OK;
}

static bool is_atom_char(unsigned char c)
{
    return c > ' ' && c != 127 && !strchr("<>()[]\\,;:@\"", c);
}

static bool is_atoms(const char *text)
{
    for (; *text; text++)
        if (!is_atom_char((unsigned char)*text))
            return false;
    return true;
}

struct text {
    char text[ADDRESS_MAX];
    size_t len;
};

static bool put(struct text *out, char c)
{
    if (out->len + 1 >= sizeof out->text)
        return false;
    out->text[out->len++] = c;
    out->text[out->len] = 0;
    return true;
}

// The local part at the front of *at, quotes and escapes undone; *at behind it.
static bool take_local(const char **at, struct text *local)
{
    const char *c = *at;
    if (*c != '"') {
        for (; is_atom_char((unsigned char)*c) && *c; c++)
            if (!put(local, *c))
                return false;
        *at = c;
        return local->len > 0;
    }
    for (c++; *c && *c != '"'; c++) {
        if (*c == '\\' && c[1])
            c++;
        if ((unsigned char)*c < ' ' || *c == 127 || !put(local, *c))
            return false;
    }
    *at = c + 1;
    return *c == '"' && local->len > 0;
}

static bool put_local(struct text *out, const char *local)
{
    if (is_atoms(local)) {
        for (; *local; local++)
            if (!put(out, *local))
                return false;
        return true;
    }
    bool ok = put(out, '"');
    for (; ok && *local; local++) {
        if (*local == '"' || *local == '\\')
            ok = put(out, '\\');
        ok = ok && put(out, *local);
    }
    return ok && put(out, '"');
}

// text: without brackets, route and outer white space.
static enum err normalise_spec(const char *text, char address[ADDRESS_MAX], struct detail *detail)
{
    struct text local = {{0}, 0};
    struct text made = {{0}, 0};
    const char *at = text;
    if (!g_utf8_validate(text, -1, NULL) || !take_local(&at, &local))
        return not_an_address(text, detail);
    lower(local.text);
    if (!put_local(&made, local.text))
        return not_an_address(text, detail);
    if (*at) {
        char domain[ADDRESS_MAX];
        if (*at != '@' || address_normalise_domain(at + 1, domain, NULL) != ERR_OK ||
            !put(&made, '@') || made.len + strlen(domain) >= sizeof made.text)
            return not_an_address(text, detail);
        memcpy(made.text + made.len, domain, strlen(domain) + 1);
    }
    memcpy(address, made.text, sizeof made.text);
    return ERR_OK;
}

enum err address_normalise(const char *text, char address[ADDRESS_MAX], struct detail *detail)
{
    char copy[2 * ADDRESS_MAX];
    struct bytes rest = bytes_of_text(text);
    while (rest.len && strchr(" \t\r\n", rest.data[0]))
        rest = bytes_skip(rest, 1);
    while (rest.len && strchr(" \t\r\n", rest.data[rest.len - 1]))
        rest.len--;
    if (rest.len && rest.data[0] == '<') {
        if (rest.data[rest.len - 1] != '>')
            return not_an_address(text, detail);
        rest = bytes_of(rest.data + 1, rest.len - 2);
    }
    if (rest.len >= sizeof copy)
        return not_an_address(text, detail);
    if (rest.len)
        memcpy(copy, rest.data, rest.len);
    copy[rest.len] = 0;
    const char *spec = copy;
    if (*spec == '@') { // a source route (RFC 5321, 4.1.1.3)
        spec = strchr(spec, ':');
        if (!spec)
            return not_an_address(text, detail);
        spec++;
    }
    if (rest.len == 0) {
        address[0] = 0;
        return ERR_OK;
    }
    return normalise_spec(spec, address, detail);
}

const char *address_domain(const char *address)
{
    const char *at = strrchr(address, '@');
    // In a quoted local part, and no domain behind it.
    return at && !strchr(at, '"') ? at + 1 : "";
}

bool address_is_equal(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

bool address_is_in_domain(const char *address, const char *pattern)
{
    bool is_wild = strncmp(pattern, "*.", 2) == 0;
    char wanted[ADDRESS_MAX];
    if (address_normalise_domain(pattern + (is_wild ? 2 : 0), wanted, NULL) != ERR_OK)
        return false;
    const char *domain = address_domain(address);
    if (!is_wild)
        return strcasecmp(domain, wanted) == 0;
    size_t n = strlen(domain);
    size_t k = strlen(wanted);
    return n > k + 1 && domain[n - k - 1] == '.' && strcasecmp(domain + n - k, wanted) == 0;
}

// GMime takes the first of what it can read. Whoever reads the field otherwise must not find a
// second address in it: outside of quotes and comments there is one @, in one <> or in none, no
// list, and nothing follows the <>. It also keeps GMime 3.2 from what makes it leak.
struct scan {
    int ats;
    int opened;
    int closed;
    bool is_odd;
};

static void scan_char(struct scan *scan, char c)
{
    bool is_behind = scan->closed && c != ' ' && c != '\t';
    bool is_stray = c == ',' || c == ';' || c == ':' || (c == '>' && !scan->opened) ||
                    (c == '<' && scan->ats) || (c == '@' && scan->opened > 1);
    if (is_behind || is_stray)
        scan->is_odd = true;
    scan->ats += c == '@';
    scan->opened += c == '<';
    scan->closed += c == '>';
}

static bool has_one_mailbox(const char *text)
{
    struct scan scan = {0};
    int depth = 0;
    bool is_quoted = false;
    for (; *text; text++) {
        if (*text == '\\' && (is_quoted || depth)) {
            if (!*++text)
                return false;
        } else if (is_quoted) {
            is_quoted = *text != '"';
        } else if (*text == '(') {
            depth++;
        } else if (*text == ')') {
            if (depth-- == 0)
                return false;
        } else if (depth == 0) {
            is_quoted = *text == '"';
            scan_char(&scan, *text);
        }
    }
    return !is_quoted && depth == 0 && !scan.is_odd && scan.ats == 1 && scan.opened <= 1 &&
           scan.opened == scan.closed;
}

static enum err mailbox_of(const char *text, char from[ADDRESS_MAX], struct detail *detail)
{
    GMimeParserOptions *options = g_mime_parser_options_new();
    g_mime_parser_options_set_address_compliance_mode(options, GMIME_RFC_COMPLIANCE_STRICT);
    InternetAddressList *list = internet_address_list_parse(options, text);
    g_mime_parser_options_free(options);
    enum err err = err_set(detail, ERR_PERM, "From is not exactly one address");
    if (list && internet_address_list_length(list) == 1) {
        InternetAddress *one = internet_address_list_get_address(list, 0);
        if (INTERNET_ADDRESS_IS_MAILBOX(one))
            err = normalise_spec(internet_address_mailbox_get_addr(INTERNET_ADDRESS_MAILBOX(one)),
                                 from, detail);
    }
    if (list)
        g_object_unref(list);
    return err;
}

enum err address_from(const struct message *message, char from[ADDRESS_MAX], struct detail *detail)
{
    const char *value = NULL;
    for (size_t i = 0; i < message->header_count; i++) {
        if (!header_is(&message->headers[i], "From"))
            continue;
        if (value)
            return err_set(detail, ERR_PERM, "more than one From field");
        value = message->headers[i].value;
    }
    if (!value)
        return err_set(detail, ERR_PERM, "no From field");
    struct buf text;
    buf_init(&text, MESSAGE_HEADER_BYTES_MAX);
    char address[ADDRESS_MAX];
    enum err err = field_unfold(bytes_of_text(value), &text);
    if (err != ERR_OK)
        err = err_set(detail, err, "From: out of memory");
    else if (!has_one_mailbox(buf_text(&text)))
        err = err_set(detail, ERR_PERM, "From is not exactly one address");
    else
        err = mailbox_of(buf_text(&text), address, detail);
    buf_clear(&text);
    if (err == ERR_OK && !*address_domain(address))
        err = err_set(detail, ERR_PERM, "From has no domain");
    if (err == ERR_OK)
        memcpy(from, address, strlen(address) + 1);
    return err;
}
