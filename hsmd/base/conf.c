// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/conf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "hsmd/base/file.h"

#define FILE_SIZE_MAX ((size_t)4 * 1024 * 1024)

// libConfuse's error callback takes no context of ours, and the scanner under it is not
// re-entrant either: the file being read on this thread has its detail here.
static _Thread_local struct detail *current_detail;

static void report_first(cfg_t *cfg, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void report_first(cfg_t *cfg, const char *fmt, va_list ap)
{
    if (!current_detail || current_detail->text[0])
        return;
    int n = 0;
    if (cfg && cfg->filename)
        n = snprintf(current_detail->text, sizeof current_detail->text, "%s:%d: ", cfg->filename,
                     cfg->line);
    if (n >= 0 && (size_t)n < sizeof current_detail->text)
        vsnprintf(current_detail->text + n, sizeof current_detail->text - (size_t)n, fmt, ap);
}

// The scanner of libConfuse ends the process when it cannot read, of a directory, say.
static enum err check_readable(const char *path, struct detail *detail)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(detail, ERR_PERM, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(detail, ERR_PERM, "%s: not a regular file", path);
    return ERR_OK;
}

static void report_nothing(cfg_t *cfg, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

static void report_nothing(cfg_t *cfg, const char *fmt, va_list ap)
{
    (void)cfg;
    (void)fmt;
    (void)ap;
}

// libConfuse takes a file that ends inside a section, and what was cut off may have been a
// restriction. In such a file there is room for one more closing brace; in a whole one not.
static enum err check_end(const char *path, cfg_opt_t *opts, struct detail *detail)
{
    struct buf text;
    buf_init(&text, FILE_SIZE_MAX);
    enum err err = file_read(path, &text, detail);
    if (err == ERR_OK && buf_put_text(&text, "\n}") != ERR_OK)
        err = err_set(detail, ERR_TEMP, "%s: out of memory", path);
    cfg_t *parsed = err == ERR_OK ? cfg_init(opts, CFGF_NONE) : NULL;
    if (err == ERR_OK && !parsed)
        err = err_set(detail, ERR_TEMP, "%s: out of memory", path);
    if (parsed) {
        cfg_set_error_function(parsed, report_nothing);
        if (cfg_parse_buf(parsed, buf_text(&text)) == CFG_SUCCESS)
            err = err_set(detail, ERR_PERM, "%s: ends inside a section: } is missing", path);
        cfg_free(parsed);
    }
    buf_clear(&text);
    return err;
}

enum err conf_load(const char *path, cfg_opt_t *opts, cfg_t **cfg, struct detail *detail)
{
    struct detail scratch = {0};
    if (!detail)
        detail = &scratch;
    enum err err = check_readable(path, detail);
    if (err != ERR_OK)
        return err;
    cfg_t *parsed = cfg_init(opts, CFGF_NONE);
    if (!parsed)
        return err_set(detail, ERR_TEMP, "%s: out of memory", path);
    detail->text[0] = 0;
    current_detail = detail;
    cfg_set_error_function(parsed, report_first);
    errno = 0;
    int result = cfg_parse(parsed, path);
    current_detail = NULL;
    if (result == CFG_SUCCESS) {
        err = check_end(path, opts, detail);
        if (err == ERR_OK)
            *cfg = parsed;
        else
            cfg_free(parsed);
        return err;
    }
    cfg_free(parsed);
    if (result == CFG_FILE_ERROR)
        return err_errno(detail, ERR_PERM, "%s", path);
    if (!detail->text[0])
        return err_set(detail, ERR_PERM, "%s: cannot be parsed", path);
    // libConfuse knows no file for what it finds wrong inside of a section.
    if (strncmp(detail->text, path, strlen(path)) != 0)
        return err_prefix(detail, ERR_PERM, "%s", path);
    return ERR_PERM;
}
