// SPDX-License-Identifier: Apache-2.0
#include "gateway/authres.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <glib.h>

#include "gateway/address.h"
#include "hsmd/base/buf.h"

#define FIELD "Authentication-Results"
#define VALUE_MAX 4000 // of what we write
#define FOLD_AT 76     // where we fold

const char *authres_result_name(enum authres_result result)
{
    static const char *const names[] = {
        [AUTHRES_NONE] = "none",           [AUTHRES_PASS] = "pass",
        [AUTHRES_FAIL] = "fail",           [AUTHRES_POLICY] = "policy",
        [AUTHRES_NEUTRAL] = "neutral",     [AUTHRES_TEMPERROR] = "temperror",
        [AUTHRES_PERMERROR] = "permerror",
    };
    return names[result];
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// Behind comments and white space; NULL: a comment does not end.
static const char *skip_cfws(const char *c)
{
    int depth = 0;
    for (; *c; c++) {
        if (*c == '(')
            depth++;
        else if (depth && *c == ')')
            depth--;
        else if (depth && *c == '\\' && c[1])
            c++;
        else if (depth == 0 && !is_space(*c))
            return c;
    }
    return depth ? NULL : c;
}

// The authserv-id of a field: a token or a quoted-string. False: none can be read.
static bool read_id(const char *value, char id[ADDRESS_MAX])
{
    const char *c = skip_cfws(value);
    if (!c)
        return false;
    bool is_quoted = *c == '"';
    if (is_quoted)
        c++;
    size_t n = 0;
    for (; *c; c++) {
        if (is_quoted && *c == '"')
            break;
        if (is_quoted && *c == '\\' && c[1])
            c++;
        else if (!is_quoted && ((unsigned char)*c <= ' ' || strchr("()<>@,;:\\\"/[]?=", *c)))
            break;
        if (is_quoted && is_space(*c))
            continue;
        if (n + 1 >= ADDRESS_MAX)
            return false;
        id[n++] = *c;
    }
    id[n] = 0;
    return n > 0 && (!is_quoted || *c == '"');
}

static bool mentions(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (; *text; text++)
        if (strncasecmp(text, word, n) == 0)
            return true;
    return false;
}

// One segment of the value, up to a ';' outside comments and quotes, without comments, spaces,
// quotes and whatever is not visible ASCII. Returns where the next one begins; NULL: this is the
// last.
static const char *squeeze(const char *c, char *out, size_t size)
{
    int depth = 0;
    bool is_quoted = false;
    size_t n = 0;
    for (; *c; c++) {
        if (*c == '\\' && c[1] && (depth || is_quoted))
            c++;
        else if (is_quoted || (depth == 0 && *c == '"')) {
            is_quoted = is_quoted != (*c == '"');
            if (*c == '"')
                continue;
        } else if (*c == '(' || (depth && *c == ')')) {
            depth += *c == '(' ? 1 : -1;
            continue;
        } else if (depth == 0 && *c == ';') {
            break;
        }
        if (depth == 0 && *c > ' ' && *c <= '~' && n + 1 < size)
            out[n++] = *c;
    }
    out[n] = 0;
    return *c ? c + 1 : NULL;
}

// Some segment is nothing but the id, and perhaps a version: read_id found another one, or none.
static bool claims_squeezed(const char *value, const char *authserv_id)
{
    char id[ADDRESS_MAX], segment[ADDRESS_MAX];
    squeeze(authserv_id, id, sizeof id);
    size_t n = strlen(id);
    while (value) {
        value = squeeze(value, segment, sizeof segment);
        if (n == 0 || strncasecmp(segment, id, n) != 0)
            continue;
        const char *rest = segment + n + (segment[n] == '.' ? 1 : 0);
        rest += *rest == '/' ? 1 : 0;
        if (rest[strspn(rest, "0123456789")] == 0)
            return true;
    }
    return false;
}

// In doubt yes: a reader may be less strict than we are.
static bool claims(const char *value, const char *authserv_id)
{
    if (claims_squeezed(value, authserv_id))
        return true;
    char id[ADDRESS_MAX];
    if (!read_id(value, id))
        return mentions(value, authserv_id);
    size_t n = strlen(id);
    if (id[n - 1] == '.')
        id[n - 1] = 0;
    char a[ADDRESS_MAX];
    char b[ADDRESS_MAX];
    if (strcasecmp(id, authserv_id) == 0)
        return true;
    return address_normalise_domain(id, a, NULL) == ERR_OK &&
           address_normalise_domain(authserv_id, b, NULL) == ERR_OK && strcmp(a, b) == 0;
}

bool authres_has_forged(const struct message *message, const char *authserv_id)
{
    for (size_t i = 0; i < message->header_count; i++) {
        if (header_is(&message->headers[i], FIELD) &&
            claims(message->headers[i].value, authserv_id))
            return true;
    }
    return false;
}

size_t authres_remove_forged(struct message *message, const char *authserv_id)
{
    size_t count = 0;
    for (size_t i = message->header_count; i-- > 0;) {
        const struct header *header = &message->headers[i];
        if (header_is(header, FIELD) && claims(header->value, authserv_id)) {
            message_remove_header_at(message, i);
            count++;
        }
    }
    return count;
}

// One printable ASCII character of text that may be anything.
static char printable(char c)
{
    if (is_space(c))
        return ' ';
    return c < ' ' || c > '~' ? '?' : c;
}

// The text with a backslash before each of the specials.
static enum err put_escaped(struct buf *out, const char *text, const char *specials)
{
    enum err err = ERR_OK;
    for (; err == ERR_OK && *text; text++) {
        char c = printable(*text);
        if (strchr(specials, c))
            err = buf_put(out, "\\", 1);
        if (err == ERR_OK)
            err = buf_put(out, &c, 1);
    }
    return err;
}

// RFC 8601, 2.2: a value, or [local-part] "@" domain-name; whatever else has to be quoted.
static bool is_plain(const char *text)
{
    int ats = 0;
    const char *start = text;
    for (; *text; text++) {
        if (*text == '@' && ats++ == 0 && text[1])
            continue;
        if (!g_ascii_isalnum(*text) && !strchr("!#$%&'*+-^_`{|}~.", *text))
            return false;
    }
    return text > start;
}

static enum err put_value(struct buf *out, const char *text)
{
    if (is_plain(text))
        return buf_put_text(out, text);
    enum err err = buf_put(out, "\"", 1);
    if (err == ERR_OK)
        err = put_escaped(out, text, "\"\\");
    return err == ERR_OK ? buf_put(out, "\"", 1) : err;
}

struct folder {
    struct buf value;
    size_t line_start;
    size_t name; // of the field, on the first line
};

// Puts the item on this line, or on a new one if this would get too long.
static enum err put_item(struct folder *folder, struct bytes item)
{
    size_t column = folder->value.len - folder->line_start + folder->name;
    enum err err = ERR_OK;
    if (column + 1 + item.len > FOLD_AT) {
        err = buf_put(&folder->value, "\n", 1);
        folder->line_start = folder->value.len;
        folder->name = 0;
    }
    if (err == ERR_OK)
        err = buf_put(&folder->value, " ", 1);
    return err == ERR_OK ? buf_put_bytes(&folder->value, item) : err;
}

static enum err put_comment(struct folder *folder, const struct authres *authres)
{
    struct buf text;
    buf_init(&text, VALUE_MAX);
    const char *state = !authres->was_encrypted  ? ""
                        : authres->was_decrypted ? "decrypted"
                                                 : "encrypted, not decrypted";
    bool has_both = authres->reason[0] && *state;
    enum err err = ERR_OK;
    if (!authres->reason[0] && !*state)
        return ERR_OK;
    err = buf_put(&text, "(", 1);
    if (err == ERR_OK)
        err = put_escaped(&text, authres->reason, "()\\");
    if (err == ERR_OK)
        err = buf_printf(&text, "%s%s)", has_both ? "; " : "", state);
    if (err == ERR_OK)
        err = put_item(folder, buf_bytes(&text));
    buf_clear(&text);
    return err;
}

static enum err put_pair(struct folder *folder, const char *name, const char *value)
{
    if (!*value)
        return ERR_OK;
    struct buf text;
    buf_init(&text, VALUE_MAX);
    enum err err = buf_printf(&text, "%s=", name);
    if (err == ERR_OK)
        err = put_value(&text, value);
    if (err == ERR_OK)
        err = put_item(folder, buf_bytes(&text));
    buf_clear(&text);
    return err;
}

// A reader that looks for words in the whole field must find none of a result in free text.
static void defuse(char *text)
{
    for (; *text; text++) {
        if (*text == '=')
            *text = ':';
        else if (*text == ';')
            *text = ',';
    }
}

enum err authres_add(struct message *message, const char *authserv_id, const struct authres *given,
                     struct detail *detail)
{
    struct authres copy = *given;
    const struct authres *authres = &copy;
    defuse(copy.reason);
    struct folder folder = {.name = sizeof FIELD};
    buf_init(&folder.value, VALUE_MAX);
    char method[40];
    snprintf(method, sizeof method, "smime=%s", authres_result_name(authres->result));
    bool is_good = authres->result == AUTHRES_PASS || authres->result == AUTHRES_NONE;
    enum err err = buf_put(&folder.value, " ", 1);
    if (err == ERR_OK)
        err = put_value(&folder.value, authserv_id);
    if (err == ERR_OK)
        err = buf_put(&folder.value, ";", 1);
    if (err == ERR_OK)
        err = put_item(&folder, bytes_of_text(method));
    if (err == ERR_OK)
        err = put_comment(&folder, authres);
    if (err == ERR_OK && !is_good)
        err = put_pair(&folder, "reason", authres->reason);
    if (err == ERR_OK)
        err = put_pair(&folder, "body.smime-identifier", authres->identifier);
    if (err == ERR_OK)
        err = put_pair(&folder, "body.smime-serial", authres->serial);
    if (err == ERR_OK)
        err = put_pair(&folder, "body.smime-issuer", authres->issuer);
    if (err == ERR_OK)
        err = message_prepend_header(message, FIELD, buf_text(&folder.value), detail);
    else
        err = err_set(detail, err, "%s: %s", FIELD, err_name(err));
    buf_clear(&folder.value);
    return err;
}
