// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/hsmd/exposition_parse.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_MAX 256

struct reader {
    const char *text;
    char metric[128];
    char type[16];
    char seen[METRICS_MAX][128];
    unsigned count;
    double last_le, last_bucket; // of the histogram that is being read
    bool is_open;                // buckets seen that have not come to +Inf and _count
};

static char problem[400];

static const char *wrong(const char *line, const char *what)
{
    snprintf(problem, sizeof problem, "%s: %.*s", what, (int)strcspn(line, "\n"), line);
    return problem;
}

static size_t name_length(const char *text)
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '_' || text[n] == ':')
        n++;
    return n && !isdigit((unsigned char)text[0]) ? n : 0;
}

static const char *read_head(struct reader *reader, const char *line)
{
    char help[128];
    char type[16];
    char name[128];
    int n = 0;
    if (sscanf(line, "# HELP %127[a-z0-9_] %*[^\n]%n", help, &n) != 1 || line[n] != '\n')
        return wrong(line, "no HELP line");
    const char *next = line + n + 1;
    n = 0;
    if (sscanf(next, "# TYPE %127[a-z0-9_] %15[a-z]%n", name, type, &n) != 2 || next[n] != '\n')
        return wrong(next, "no TYPE line");
    if (strcmp(help, name) != 0)
        return wrong(next, "HELP and TYPE of different metrics");
    for (unsigned i = 0; i < reader->count; i++) {
        if (strcmp(reader->seen[i], name) == 0)
            return wrong(next, "a metric twice");
    }
    bool is_counter = strcmp(type, "counter") == 0;
    size_t len = strlen(name);
    if (!is_counter && strcmp(type, "gauge") != 0 && strcmp(type, "histogram") != 0)
        return wrong(next, "unknown type");
    if (is_counter != (len > 6 && strcmp(name + len - 6, "_total") == 0))
        return wrong(next, "counters are called _total, and they alone");
    if (reader->is_open)
        return wrong(line, "histogram without its count");
    snprintf(reader->metric, sizeof reader->metric, "%s", name);
    snprintf(reader->type, sizeof reader->type, "%s", type);
    if (reader->count < METRICS_MAX)
        snprintf(reader->seen[reader->count++], sizeof reader->seen[0], "%s", name);
    reader->text = next + n + 1;
    return NULL;
}

// Past the labels; NULL: they are wrong. le goes there if it is one of them.
static const char *read_labels(const char *at, double *le)
{
    do {
        size_t len = name_length(++at);
        bool is_le = len == 2 && strncmp(at, "le", 2) == 0;
        at += len;
        if (!len || strncmp(at, "=\"", 2) != 0)
            return NULL;
        at += 2;
        if (is_le)
            *le = strncmp(at, "+Inf", 4) == 0 ? __builtin_inf() : atof(at); // NOLINT: checked below
        for (; *at != '"'; at++) {
            if (*at == '\\' && !strchr("\\\"n", *++at))
                return NULL;
            if (!*at || *at == '\n')
                return NULL;
        }
        at++;
    } while (*at == ',');
    return *at == '}' ? at + 1 : NULL;
}

static const char *check_histogram(struct reader *reader, const char *line, const char *suffix,
                                   double le, double value)
{
    if (strncmp(suffix, "_bucket", 7) == 0) {
        if (le <= reader->last_le || value < reader->last_bucket)
            return wrong(line, "buckets that do not ascend");
        reader->is_open = true;
        reader->last_le = le;
        reader->last_bucket = value;
        return NULL;
    }
    if (strncmp(suffix, "_sum", 4) == 0)
        return reader->last_le == __builtin_inf() ? NULL : wrong(line, "no bucket +Inf");
    if (strncmp(suffix, "_count", 6) != 0)
        return wrong(line, "no sample of a histogram");
    if (value != reader->last_bucket || reader->last_le != __builtin_inf())
        return wrong(line, "not the count of +Inf");
    reader->is_open = false;
    reader->last_le = -1;
    reader->last_bucket = 0;
    return NULL;
}

static bool is_repeated(const char *line, size_t len)
{
    for (const char *next = strchr(line, '\n') + 1; *next && *next != '#';
         next = strchr(next, '\n') + 1) {
        if (strncmp(next, line, len) == 0 && next[len] == ' ')
            return true;
    }
    return false;
}

static const char *read_sample(struct reader *reader)
{
    const char *line = reader->text;
    size_t len = strlen(reader->metric);
    double le = -1;
    char *end = NULL;
    if (!len || strncmp(line, reader->metric, len) != 0)
        return wrong(line, "not a sample of the metric before");
    const char *at = line + name_length(line);
    bool is_histogram = strcmp(reader->type, "histogram") == 0;
    if (!is_histogram && at != line + len)
        return wrong(line, "a suffix");
    if (*at == '{')
        at = read_labels(at, &le);
    if (!at || *at != ' ')
        return wrong(line, "labels");
    double value = strtod(at + 1, &end);
    if (end == at + 1 || *end != '\n')
        return wrong(line, "no value");
    if (value < 0 && strcmp(reader->type, "gauge") != 0)
        return wrong(line, "less than nothing");
    if (is_repeated(line, (size_t)(at - line)))
        return wrong(line, "a sample twice");
    reader->text = end + 1;
    return is_histogram ? check_histogram(reader, line, line + len, le, value) : NULL;
}

const char *exposition_parse(const char *text)
{
    static struct reader reader;
    memset(&reader, 0, sizeof reader);
    reader.text = text;
    reader.last_le = -1;
    if (!*text || text[strlen(text) - 1] != '\n')
        return "empty, or without its last line end";
    while (*reader.text) {
        const char *error =
            *reader.text == '#' ? read_head(&reader, reader.text) : read_sample(&reader);
        if (error)
            return error;
    }
    return reader.is_open ? "histogram without its count" : NULL;
}

bool exposition_find(const char *text, const char *sample, double *value)
{
    size_t len = strlen(sample);
    for (const char *at = text; (at = strstr(at, sample)) != NULL; at += len) {
        if ((at == text || at[-1] == '\n') && at[len] == ' ') {
            *value = strtod(at + len + 1, NULL);
            return true;
        }
    }
    return false;
}
