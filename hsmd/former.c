// SPDX-License-Identifier: Apache-2.0
// libConfuse's lexer takes the longest match: a '#' ends an unquoted text, slashes within one are
// part of it, and "//" begins a comment only if nothing but a blank or a special character follows
// it. What does not fit anywhere is left out, character by character.
#include "hsmd/former.h"

#include <string.h>

enum kind { END, WORD, OPEN, CLOSE, OTHER };

struct token {
    enum kind kind;
    size_t begin, end;
    unsigned line;
};

struct scanner {
    struct bytes text;
    size_t at;
    unsigned line;
};

static int peek(const struct scanner *scanner, size_t ahead)
{
    size_t at = scanner->at + ahead;
    return at < scanner->text.len ? scanner->text.data[at] : -1;
}

static void skip(struct scanner *scanner, size_t len)
{
    for (; len && scanner->at < scanner->text.len; len--)
        scanner->line += scanner->text.data[scanner->at++] == '\n';
}

// Bytes of "${...}" here; 0: none.
static size_t variable_size(const struct scanner *scanner)
{
    if (peek(scanner, 0) != '$' || peek(scanner, 1) != '{')
        return 0;
    const uint8_t *begin = scanner->text.data + scanner->at;
    const uint8_t *end = memchr(begin, '}', scanner->text.len - scanner->at);
    return end ? (size_t)(end - begin) + 1 : 0;
}

static size_t unquoted_size(const struct scanner *scanner)
{
    size_t len = 0;
    for (int c; (c = peek(scanner, len)) > 0 && !strchr(" #\"'\t\n\r={}()+,*", c);)
        len++;
    return len;
}

static void skip_quoted(struct scanner *scanner, int quote)
{
    skip(scanner, 1);
    for (int c; (c = peek(scanner, 0)) >= 0;) {
        size_t variable = quote == '"' ? variable_size(scanner) : 0;
        if (c == quote) {
            skip(scanner, 1);
            return;
        }
        skip(scanner, variable ? variable : c == '\\' ? 2 : 1);
    }
}

static void skip_line(struct scanner *scanner)
{
    for (int c; (c = peek(scanner, 0)) >= 0 && c != '\n';)
        skip(scanner, 1);
}

static void skip_comment(struct scanner *scanner)
{
    skip(scanner, 2);
    while (peek(scanner, 0) >= 0 && !(peek(scanner, 0) == '*' && peek(scanner, 1) == '/'))
        skip(scanner, 1);
    skip(scanner, 2);
}

static bool is_line_comment(const struct scanner *scanner)
{
    size_t slashes = 0;
    while (peek(scanner, slashes) == '/')
        slashes++;
    return peek(scanner, 0) == '#' || (slashes >= 2 && unquoted_size(scanner) <= slashes);
}

// Blanks, comments, and what the lexer leaves out.
static void skip_between(struct scanner *scanner)
{
    for (int c; (c = peek(scanner, 0)) >= 0;) {
        if (is_line_comment(scanner))
            skip_line(scanner);
        else if (c == '/' && peek(scanner, 1) == '*')
            skip_comment(scanner);
        else if (strchr("\"'={}()+,", c) ? c != 0 : unquoted_size(scanner) > 0)
            return;
        else
            skip(scanner, 1);
    }
}

static struct token next(struct scanner *scanner)
{
    skip_between(scanner);
    struct token token = {.begin = scanner->at, .line = scanner->line, .kind = OTHER};
    int c = peek(scanner, 0);
    size_t variable = variable_size(scanner);
    if (c < 0) {
        token.kind = END;
    } else if (c == '"' || c == '\'') {
        token.kind = WORD;
        skip_quoted(scanner, c);
    } else if (variable || !strchr("={}()+,", c)) {
        token.kind = WORD;
        skip(scanner, variable ? variable : unquoted_size(scanner));
    } else {
        token.kind = c == '{' ? OPEN : c == '}' ? CLOSE : OTHER;
        skip(scanner, 1);
    }
    token.end = scanner->at;
    return token;
}

// From behind an opening brace to behind the one that closes it.
static void skip_braces(struct scanner *scanner)
{
    for (unsigned depth = 1; depth;) {
        struct token token = next(scanner);
        if (token.kind == END)
            return;
        depth += token.kind == OPEN;
        depth -= token.kind == CLOSE;
    }
}

static bool is_former(struct bytes text, const struct token *token)
{
    static const char *const names[] = {"key", "audit-key", "client", "grant"};
    struct bytes name = bytes_of(text.data + token->begin, token->end - token->begin);
    if (name.len >= 2 && (name.data[0] == '"' || name.data[0] == '\''))
        name = bytes_of(name.data + 1, name.len - 2);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (bytes_equal(name, bytes_of_text(names[i])))
            return true;
    }
    return false;
}

bool former_next(struct bytes text, struct former *former)
{
    struct scanner scanner = {text, former->at, former->at ? former->at_line : 1};
    for (struct token name; (name = next(&scanner)).kind != END;) {
        struct token token = name.kind == WORD ? next(&scanner) : name;
        bool is_section = token.kind == WORD || token.kind == OPEN;
        if (token.kind == WORD) // its title
            token = next(&scanner);
        while (token.kind == OTHER) // "=" or "+=", then a value
            token = next(&scanner);
        if (token.kind == OPEN)
            skip_braces(&scanner);
        if (is_section && token.kind == OPEN && is_former(text, &name)) {
            *former = (struct former){name.begin, scanner.at, name.line, scanner.at, scanner.line};
            return true;
        }
    }
    return false;
}

// Is there nothing but blanks and a comment to the end of the line?
static bool is_rest_empty(struct bytes text, size_t at)
{
    while (at < text.len && strchr(" \t\r", text.data[at]) && text.data[at])
        at++;
    return at == text.len || text.data[at] == '\n' || text.data[at] == '#';
}

enum err former_comment_out(struct bytes text, struct buf *out)
{
    struct former former = {0};
    size_t done = 0;
    enum err err = ERR_OK;
    while (err == ERR_OK && former_next(text, &former)) {
        err = buf_put(out, text.data + done, former.begin - done);
        if (err == ERR_OK)
            err = buf_put_text(out, "# ");
        for (size_t i = former.begin; i < former.end && err == ERR_OK; i++) {
            err = buf_put(out, &text.data[i], 1);
            if (err == ERR_OK && text.data[i] == '\n')
                err = buf_put_text(out, "# ");
        }
        if (err == ERR_OK && !is_rest_empty(text, former.end))
            err = buf_put_text(out, "\n");
        done = former.end;
    }
    return err == ERR_OK ? buf_put(out, text.data + done, text.len - done) : err;
}
