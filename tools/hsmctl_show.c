// SPDX-License-Identifier: Apache-2.0
// Commands that read, and change nothing.
#include "tools/hsmctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hsmd/base/file.h"
#include "tools/hsmctl_channel.h"
#include "tools/hsmctl_print.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define WATCH_SECONDS 2

enum err output_write(const struct call *call, struct bytes data, struct detail *detail)
{
    const char *path = call->option[OPTION_OUT];
    if (path)
        return file_write(path, data, 0644, detail);
    return fwrite(data.data, 1, data.len, stdout) == data.len && fflush(stdout) == 0
               ? ERR_OK
               : err_errno(detail, ERR_TEMP, "standard output");
}

// Reads and shows it: as it came with --json, or else as print does.
static enum err show_read(struct call *call, enum message_read what, const char *argument,
                          enum err (*print)(const json_t *body), struct detail *detail)
{
    json_t *body = NULL;
    enum err err = session_read(call, what, argument, &body, detail);
    if (err == ERR_OK)
        err = call_has(call, OPTION_JSON) ? print_json(body, detail) : print(body);
    json_decref(body);
    return err;
}

static enum err print_keys(const json_t *keys)
{
    static const struct column columns[] = {
        {"NAME", "name"},
        {"STATE", "state"},
        {"TYPE", "type"},
        {"PURPOSE", "purpose"},
        {"TOKENS", "places.token"},
        {"CLIENTS", "grants.client"},
        {"CERTIFICATE UNTIL", "certificates.not_after"},
    };
    return print_table(stdout, keys, columns, COUNT(columns), "There are no keys.");
}

enum err run_key_list(struct call *call, struct detail *detail)
{
    return show_read(call, READ_KEYS, NULL, print_keys, detail);
}

static enum err print_key(const json_t *key)
{
    static const struct column columns[] = {
        {"name", "name"},
        {"state", "state"},
        {"type", "type"},
        {"purpose", "purpose"},
        {"algorithms", "algorithms"},
        {"created", "created"},
        {"SHA-256 of the public key", "public_key_sha256"},
        {"per minute", "limits.per_minute"},
        {"per hour", "limits.per_hour"},
        {"total", "limits.total"},
        {"failures per hour", "limits.failures_per_hour"},
        {"left this minute", "left.per_minute"},
        {"left this hour", "left.per_hour"},
        {"left in total", "left.total"},
        {"extractable", "extractable"},
        {"never extractable", "never_extractable"},
        {"sensitive", "sensitive"},
        {"always sensitive", "always_sensitive"},
    };
    static const struct column places[] = {
        {"TOKEN", "token"}, {"LABEL", "label"}, {"ID", "id"}, {"OPEN", "open"}};
    static const struct column grants[] = {
        {"CLIENT", "client"}, {"MAY", "operations"}, {"WITH", "algorithms"}};
    static const struct column certificates[] = {
        {"SUBJECT", "subject"}, {"ISSUER", "issuer"}, {"SERIAL", "serial"}, {"UNTIL", "not_after"}};
    enum err err = print_fields(stdout, key, columns, COUNT(columns));
    putchar('\n');
    if (err == ERR_OK)
        err = print_table(stdout, json_object_get(key, "places"), places, COUNT(places),
                          "It is in no token.");
    putchar('\n');
    if (err == ERR_OK)
        err = print_table(stdout, json_object_get(key, "grants"), grants, COUNT(grants),
                          "No client may use it.");
    putchar('\n');
    if (err == ERR_OK)
        err = print_table(stdout, json_object_get(key, "certificates"), certificates,
                          COUNT(certificates), "There is no certificate beside it.");
    return err;
}

// Certificates or the public half, as PEM. ERR_PERM: there is none.
static enum err print_pem(const struct call *call, const json_t *key, const char *field,
                          const char *what, struct detail *detail)
{
    const char *pem = json_string_value(json_object_get(key, field));
    if (!pem || !*pem)
        return err_set(detail, ERR_PERM, "there is no %s this key", what);
    if (call_has(call, OPTION_OUT))
        return output_write(call, bytes_of_text(pem), detail);
    print_text(stdout, pem, true);
    return ERR_OK;
}

enum err run_key_show(struct call *call, struct detail *detail)
{
    json_t *body = NULL;
    if (call_has(call, OPTION_PEM) && call_has(call, OPTION_PUBLIC))
        return err_set(detail, ERR_PERM, "--pem and --public: one at a time");
    if (call_has(call, OPTION_OUT) && !call_has(call, OPTION_PEM) && !call_has(call, OPTION_PUBLIC))
        return err_set(detail, ERR_PERM, "--out is for --pem and --public");
    enum err err = session_read(call, READ_KEYS, call->argument[0], &body, detail);
    if (err != ERR_OK)
        return err;
    const json_t *key = json_array_get(body, 0);
    call->failure = HSMCTL_EXIT_BAD;
    if (!key)
        err = err_set(detail, ERR_PERM, "there is no such key");
    else if (call_has(call, OPTION_JSON))
        err = print_json(key, detail);
    else if (call_has(call, OPTION_PEM))
        err = print_pem(call, key, "certificate_pem", "certificate beside", detail);
    else if (call_has(call, OPTION_PUBLIC))
        err = print_pem(call, key, "public_key_pem", "public half known of", detail);
    else
        err = print_key(key);
    json_decref(body);
    return err;
}

static enum err print_clients(const json_t *clients)
{
    static const struct column columns[] = {{"NAME", "name"},
                                            {"PUBLIC KEY", "public_key"},
                                            {"CREATED", "created"},
                                            {"KEYS", "grants.key"}};
    static const struct column grants[] = {{"KEY", "key"},
                                           {"MAY", "operations"},
                                           {"WITH", "algorithms"},
                                           {"PER MINUTE", "limits.per_minute"},
                                           {"PER HOUR", "limits.per_hour"},
                                           {"TOTAL", "limits.total"},
                                           {"FAILURES", "limits.failures_per_hour"}};
    const json_t *client = NULL;
    size_t i = 0;
    enum err err = print_table(stdout, clients, columns, COUNT(columns), "There are no clients.");
    json_array_foreach(clients, i, client)
    {
        const json_t *given = json_object_get(client, "grants");
        if (err != ERR_OK || json_array_size(given) == 0)
            continue;
        fputs("\nGrants of ", stdout);
        print_text(stdout, json_string_value(json_object_get(client, "name")), false);
        puts(":");
        err = print_table(stdout, given, grants, COUNT(grants), "");
    }
    return err;
}

enum err run_client_list(struct call *call, struct detail *detail)
{
    return show_read(call, READ_CLIENTS, NULL, print_clients, detail);
}

static enum err print_officers(const json_t *body)
{
    static const struct column columns[] = {{"NAME", "name"},
                                            {"ROLE", "role"},
                                            {"THIS IS ME", "self"},
                                            {"CREATED", "created"},
                                            {"SIGNING KEY", "signing_key"}};
    static const struct column quorum[] = {{"quorum", "quorum"}};
    enum err err = print_fields(stdout, body, quorum, COUNT(quorum));
    if (err == ERR_OK)
        err = print_table(stdout, json_object_get(body, "officers"), columns, COUNT(columns),
                          "There are no officers.");
    return err;
}

enum err run_officer_list(struct call *call, struct detail *detail)
{
    return show_read(call, READ_OFFICERS, NULL, print_officers, detail);
}

static const struct column token_columns[] = {
    {"TOKEN", "name"},        {"STATE", "state"}, {"FINAL TRY", "final_try"},
    {"BREAKER", "breaking"},  {"KEYS", "keys"},   {"MISSING", "keys_missing"},
    {"SESSIONS", "sessions"}, {"CALLS", "calls"}, {"FAILED", "calls_failed"},
    {"WHY", "error"},
};

static enum err print_status(const json_t *status)
{
    static const struct column columns[] = {
        {"state", "state"},
        {"version", "version"},
        {"instance", "instance"},
        {"started", "started"},
        {"quorum", "quorum"},
        {"officers", "officers"},
        {"auditors", "auditors"},
        {"proposals waiting", "pending"},
        {"keys enabled", "keys.enabled"},
        {"keys disabled", "keys.disabled"},
        {"keys retired", "keys.retired"},
        {"clients", "clients"},
        {"audit log, line", "audit.seq"},
        {"audit log fails", "audit.failing"},
        {"signed up to line", "audit.checkpoint.seq"},
        {"signed by", "audit.key"},
        {"sync", "audit.sync"},
    };
    const json_t *problem = NULL;
    size_t i = 0;
    enum err err = print_fields(stdout, status, columns, COUNT(columns));
    putchar('\n');
    if (err == ERR_OK)
        err = print_table(stdout, json_object_get(status, "tokens"), token_columns,
                          COUNT(token_columns), "There are no tokens.");
    json_array_foreach(json_object_get(status, "problems"), i, problem)
    {
        const char *text = json_string_value(problem);
        fputs(i ? "! " : "\n! ", stdout);
        print_text(stdout, text ? text : "", false);
        putchar('\n');
    }
    return err;
}

// For people, until they have seen enough. That hsmd is away for a while is what they look for.
static enum err watch(struct call *call, struct detail *detail)
{
    for (;;) {
        json_t *status = NULL;
        call->failure = HSMCTL_EXIT_TROUBLE;
        enum err err = session_read(call, READ_STATUS, NULL, &status, detail);
        bool is_away = err != ERR_OK && call->failure == HSMCTL_EXIT_AWAY;
        if (err != ERR_OK && !is_away)
            return err;
        if (isatty(STDOUT_FILENO))
            fputs("\033[H\033[2J", stdout);
        if (is_away) {
            print_text(stdout, detail->text, false);
            putchar('\n');
            channel_close(call->session.channel);
            call->session.channel = NULL;
        } else {
            err = print_status(status);
        }
        json_decref(status);
        if (fflush(stdout) != 0)
            return err_errno(detail, ERR_TEMP, "standard output");
        sleep(WATCH_SECONDS);
    }
}

enum err run_status(struct call *call, struct detail *detail)
{
    if (call_has(call, OPTION_WATCH) && call_has(call, OPTION_JSON))
        return err_set(detail, ERR_PERM, "--watch is for people, --json for programs");
    if (call_has(call, OPTION_WATCH))
        return watch(call, detail);
    return show_read(call, READ_STATUS, NULL, print_status, detail);
}

enum err run_token_list(struct call *call, struct detail *detail)
{
    json_t *status = NULL;
    enum err err = session_read(call, READ_STATUS, NULL, &status, detail);
    const json_t *tokens = json_object_get(status, "tokens");
    if (err == ERR_OK && call_has(call, OPTION_JSON))
        err = print_json(tokens, detail);
    else if (err == ERR_OK)
        err = print_table(stdout, tokens, token_columns, COUNT(token_columns),
                          "There are no tokens.");
    json_decref(status);
    return err;
}

static enum err print_objects(const json_t *objects)
{
    static const struct column columns[] = {{"LABEL", "label"},
                                            {"ID", "id"},
                                            {"TYPE", "type"},
                                            {"KNOWN AS", "known_as"},
                                            {"EXTRACTABLE", "extractable"},
                                            {"SENSITIVE", "sensitive"},
                                            {"SHA-256 OF THE PUBLIC KEY", "public_key_sha256"}};
    return print_table(stdout, objects, columns, COUNT(columns),
                       "There are no private keys in this token.");
}

enum err run_token_show(struct call *call, struct detail *detail)
{
    return show_read(call, READ_OBJECTS, call->argument[0], print_objects, detail);
}

static enum err print_usage(const json_t *body)
{
    static const struct column uses[] = {{"CLIENT", "client"},       {"KEY", "key"},
                                         {"OPERATION", "operation"}, {"DONE", "ok"},
                                         {"FAILED", "failed"},       {"DENIED", "denied"}};
    static const struct column budgets[] = {
        {"BUDGET", "identity"},
        {"LEFT THIS MINUTE", "left.per_minute"},
        {"THIS HOUR", "left.per_hour"},
        {"IN TOTAL", "left.total"},
        {"FAILURES LEFT", "left.failures_per_hour"},
        {"REFUSED", "refused"},
    };
    static const struct column since[] = {{"since", "since"}};
    enum err err = print_fields(stdout, body, since, COUNT(since));
    if (err == ERR_OK)
        err = print_table(stdout, json_object_get(body, "uses"), uses, COUNT(uses),
                          "Nobody has used a key.");
    putchar('\n');
    if (err == ERR_OK)
        err = print_table(stdout, json_object_get(body, "budgets"), budgets, COUNT(budgets),
                          "There are no limits.");
    return err;
}

enum err run_usage(struct call *call, struct detail *detail)
{
    return show_read(call, READ_USAGE, NULL, print_usage, detail);
}

// The next piece, up to the end of its last line: what is behind that may still be written.
static enum err fetch_piece(struct call *call, uint64_t offset, struct buf *piece,
                            struct detail *detail)
{
    struct message_request request = {
        .operation = MESSAGE_READ,
        .read = {.what = READ_AUDIT_LOG, .offset = offset},
    };
    buf_reset(piece);
    enum err err = session_ask(call, &request, piece, detail);
    while (err == ERR_OK && piece->len && piece->data[piece->len - 1] != '\n')
        piece->len--;
    return err;
}

static struct bytes first_line(const struct buf *piece)
{
    const uint8_t *end = piece->len ? memchr(piece->data, '\n', piece->len) : NULL;
    return bytes_of(piece->data, end ? (size_t)(end - piece->data) : 0);
}

// A log that was rotated meanwhile begins with another line: what was fetched may be of two files.
static enum err check_start(struct call *call, const struct buf *start, struct buf *piece,
                            struct detail *detail)
{
    enum err err = fetch_piece(call, 0, piece, detail);
    if (err == ERR_OK && !bytes_equal(first_line(piece), buf_bytes(start))) {
        call->failure = HSMCTL_EXIT_AWAY;
        err = err_set(detail, ERR_TEMP,
                      "the log was rotated while it was fetched: what is there is not whole; fetch "
                      "it again");
    }
    return err;
}

enum err run_audit_fetch(struct call *call, struct detail *detail)
{
    const char *path = call->option[OPTION_OUT];
    struct buf piece, start;
    uint64_t offset = 0;
    if (!path && call_has(call, OPTION_JSON))
        return err_set(detail, ERR_PERM, "audit fetch --json needs --out");
    FILE *out = path ? fopen(path, "we") : stdout;
    if (!out)
        return err_errno(detail, ERR_PERM, "%s", path);
    buf_init(&piece, MESSAGE_REPLY_MAX);
    buf_init(&start, MESSAGE_REPLY_MAX);
    enum err err = fetch_piece(call, 0, &piece, detail);
    if (err == ERR_OK && buf_put_bytes(&start, first_line(&piece)) != ERR_OK)
        err = err_set(detail, ERR_TEMP, "out of memory");
    while (err == ERR_OK && piece.len) {
        if (fwrite(piece.data, 1, piece.len, out) != piece.len)
            err = err_errno(detail, ERR_TEMP, "%s", path ? path : "standard output");
        offset += piece.len;
        if (err == ERR_OK)
            err = fetch_piece(call, offset, &piece, detail);
    }
    if (err == ERR_OK)
        err = check_start(call, &start, &piece, detail);
    buf_clear(&start);
    buf_clear(&piece);
    if (path && fclose(out) != 0 && err == ERR_OK)
        err = err_errno(detail, ERR_TEMP, "%s", path);
    if (err != ERR_OK || !call_has(call, OPTION_JSON))
        return err;
    json_t *json = json_pack("{s:s, s:I}", "file", path, "bytes", (json_int_t)offset);
    err = print_json(json, detail);
    json_decref(json);
    return err;
}
