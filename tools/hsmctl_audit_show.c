// SPDX-License-Identifier: Apache-2.0
// hsmctl audit show, hsmctl audit export. They print what is there and check only that each line is
// one; whether it is true is for hsmctl audit verify.
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsmd/audit/audit_parse.h"
#include "tools/hsmctl.h"

enum format { FORMAT_TABLE, FORMAT_JSON_LINES, FORMAT_JSON, FORMAT_CSV };

struct view {
    enum format format;
    const char *key, *client, *since; // NULL: all
    bool has_event;
    enum audit_event event;
    uint64_t shown, unreadable;
};

static bool is_text(struct bytes field, const char *text)
{
    struct buf value;
    buf_init(&value, AUDIT_LINE_MAX);
    bool same = audit_field_text(field, &value) == ERR_OK &&
                bytes_equal(buf_bytes(&value), bytes_of_text(text));
    buf_clear(&value);
    return same;
}

static bool is_wanted(const struct view *view, const struct audit_line *line)
{
    const char *time = (const char *)line->fields[AUDIT_FIELD_TIME].data;
    return (!view->has_event || view->event == line->event) &&
           (!view->key || is_text(line->fields[AUDIT_FIELD_KEY], view->key)) &&
           (!view->client || is_text(line->fields[AUDIT_FIELD_CLIENT], view->client)) &&
           (!view->since || strncmp(time, view->since, strlen(view->since)) >= 0);
}

// Escaped as in the log, so that nothing of it can play tricks on a terminal.
static void print_cell(const struct audit_line *line, enum audit_field field, int width)
{
    struct bytes value = line->fields[field];
    if (value.len)
        printf(" %-*.*s", width, (int)value.len, (const char *)value.data);
    else
        printf(" %-*s", width, "-");
}

// A line of a client has the one, a line of an officer the other.
static void print_either(const struct audit_line *line, enum audit_field field,
                         enum audit_field other, int width)
{
    print_cell(line, line->fields[field].len ? field : other, width);
}

static void print_row(const struct audit_line *line)
{
    printf("%-24.24s", (const char *)line->fields[AUDIT_FIELD_TIME].data);
    print_cell(line, AUDIT_FIELD_SEQ, 8);
    print_cell(line, AUDIT_FIELD_EVENT, 10);
    print_either(line, AUDIT_FIELD_CLIENT, AUDIT_FIELD_OFFICER, 12);
    print_either(line, AUDIT_FIELD_KEY, AUDIT_FIELD_TOKEN, 16);
    print_either(line, AUDIT_FIELD_OPERATION, AUDIT_FIELD_ACT, 9);
    print_cell(line, AUDIT_FIELD_ALGORITHM, 12);
    struct bytes result = line->fields[AUDIT_FIELD_RESULT];
    struct bytes reason = line->fields[AUDIT_FIELD_REASON];
    struct bytes covers = line->fields[AUDIT_FIELD_COVERS];
    printf(" %.*s%s%.*s", result.len ? (int)result.len : 1,
           result.len   ? (const char *)result.data
           : covers.len ? ""
                        : "-",
           reason.len ? ": " : "", (int)reason.len, reason.len ? (const char *)reason.data : "");
    if (covers.len)
        printf("signs up to %.*s", (int)covers.len, (const char *)covers.data);
    struct bytes what = line->fields[AUDIT_FIELD_WHAT];
    if (what.len)
        printf(" (%.*s)", (int)what.len, (const char *)what.data);
    putchar('\n');
}

// RFC 4180. A value that a spreadsheet would take for a formula gets an apostrophe before it.
static void print_csv(const struct audit_line *line)
{
    for (unsigned i = 0; i < AUDIT_FIELD_COUNT; i++) {
        struct buf value;
        buf_init(&value, AUDIT_LINE_MAX);
        bool is_plain = audit_field_kind((enum audit_field)i) != AUDIT_KIND_TEXT;
        if (is_plain)
            (void)buf_put_bytes(&value, line->fields[i]);
        else
            (void)audit_field_text(line->fields[i], &value);
        if (i)
            putchar(',');
        if (value.len)
            putchar('"');
        if (value.len && !is_plain && strchr("=+-@\t\r", value.data[0]))
            putchar('\'');
        for (size_t n = 0; n < value.len; n++) {
            uint8_t c = value.data[n];
            if (c == '"')
                putchar('"');
            if (c >= 0x80) // in the log it is a character of Latin 1; here UTF-8
                putchar(0xc0 | c >> 6);
            putchar(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
        }
        if (value.len)
            putchar('"');
        buf_clear(&value);
    }
    fputs("\r\n", stdout);
}

static void print_header(enum format format)
{
    if (format == FORMAT_TABLE)
        printf("%-24s %-8s %-10s %-12s %-16s %-9s %-12s %s\n", "TIME", "SEQ", "EVENT", "WHO", "KEY",
               "OPERATION", "ALGORITHM", "RESULT");
    for (unsigned i = 0; i < AUDIT_FIELD_COUNT && format == FORMAT_CSV; i++)
        printf("%s%s", i ? "," : "", audit_field_name((enum audit_field)i));
    if (format == FORMAT_CSV)
        fputs("\r\n", stdout);
    if (format == FORMAT_JSON)
        putchar('[');
}

static void print_line(struct view *view, const char *text, const struct audit_line *line)
{
    if (view->format == FORMAT_TABLE)
        print_row(line);
    else if (view->format == FORMAT_CSV)
        print_csv(line);
    else if (view->format == FORMAT_JSON)
        printf("%s\n%s", view->shown ? "," : "", text);
    else
        printf("%s\n", text);
    view->shown++;
}

static enum err print_file(struct view *view, const char *path, struct detail *detail)
{
    char *text = NULL;
    size_t room = 0;
    uint64_t number = 0;
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "re");
    if (!file)
        return err_errno(detail, ERR_PERM, "%s", path);
    for (ssize_t len; (len = getline(&text, &room, file)) >= 0;) {
        struct audit_line line;
        struct detail reason = {0};
        number++;
        if (len && text[len - 1] == '\n')
            text[--len] = 0;
        if (audit_parse(bytes_of(text, (size_t)len), &line, &reason) != ERR_OK) {
            fprintf(stderr, "hsmctl: %s, line %" PRIu64 ": %s\n", path, number, reason.text);
            view->unreadable++;
        } else if (is_wanted(view, &line)) {
            print_line(view, text, &line);
        }
    }
    enum err err = ferror(file) ? err_errno(detail, ERR_PERM, "%s", path) : ERR_OK;
    free(text);
    if (!is_stdin)
        fclose(file);
    return err;
}

static int print_files(struct view *view, char **files)
{
    struct detail detail = {0};
    enum err err = ERR_OK;
    print_header(view->format);
    for (; err == ERR_OK && *files; files++)
        err = print_file(view, *files, &detail);
    if (view->format == FORMAT_JSON)
        puts("\n]");
    if (err == ERR_OK && (fflush(stdout) != 0 || ferror(stdout)))
        err = err_errno(&detail, ERR_TEMP, "standard output");
    if (err != ERR_OK)
        return hsmctl_trouble(&detail);
    return view->unreadable ? HSMCTL_EXIT_BAD : HSMCTL_EXIT_GOOD;
}

// The begin of a time stamp: to the day, the minute, the second or finer; as lines have it.
static bool is_time(const char *text)
{
    static const char shape[] = "0000-00-00T00:00:00.000";
    size_t len = strlen(text);
    if (len != 10 && len != 16 && len != 19 && len != 23)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (shape[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != shape[i])
            return false;
    }
    return true;
}

int hsmctl_audit_show(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"key-name", required_argument, NULL, 'k'}, {"client", required_argument, NULL, 'c'},
        {"event", required_argument, NULL, 'e'},    {"since", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},           {0},
    };
    struct view view = {.format = FORMAT_TABLE};
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c == 'k') {
            view.key = optarg;
        } else if (c == 'c') {
            view.client = optarg;
        } else if (c == 'j') {
            view.format = FORMAT_JSON_LINES;
        } else if (c == 'e') {
            view.has_event = audit_event_by_name(bytes_of_text(optarg), &view.event);
            if (!view.has_event)
                return hsmctl_usage_error("--event: there is no \"%s\"", optarg);
        } else if (c == 's') {
            size_t len = strlen(optarg);
            if (len > 10 && optarg[len - 1] == 'Z')
                optarg[len - 1] = 0;
            if (!is_time(optarg))
                return hsmctl_usage_error("--since: \"%s\" is not like 2026-11-21 or "
                                          "2026-11-21T22:54:14Z",
                                          optarg);
            view.since = optarg;
        } else {
            return hsmctl_usage_error("wrong option");
        }
    }
    if (optind == argc)
        return hsmctl_usage_error("no file given");
    return print_files(&view, argv + optind);
}

int hsmctl_audit_export(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"format", required_argument, NULL, 'f'},
        {0},
    };
    struct view view = {.format = FORMAT_CSV};
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c != 'f')
            return hsmctl_usage_error("wrong option");
        if (strcmp(optarg, "csv") != 0 && strcmp(optarg, "json") != 0)
            return hsmctl_usage_error("--format: \"%s\" is neither csv nor json", optarg);
        view.format = *optarg == 'c' ? FORMAT_CSV : FORMAT_JSON;
    }
    if (optind == argc)
        return hsmctl_usage_error("no file given");
    return print_files(&view, argv + optind);
}
