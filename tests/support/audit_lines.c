// SPDX-License-Identifier: Apache-2.0
#include "tests/support/audit_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/base/log.h"

char lines_path[96];
static char dir[64];

int lines_setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(dir, sizeof dir, "/tmp/audit-verify-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(lines_path, sizeof lines_path, "%s/audit.log", dir);
    return 0;
}

int lines_teardown(void **state)
{
    (void)state;
    unlink(lines_path);
    return rmdir(dir);
}

void lines_read(struct lines *lines)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(lines_path, &text, NULL), ERR_OK);
    lines->count = 0;
    char *rest = (char *)text.data;
    for (char *line; (line = strsep(&rest, "\n")) && rest;)
        snprintf(lines->text[lines->count++], AUDIT_LINE_MAX, "%s", line);
    buf_clear(&text);
}

void lines_make(struct lines *lines, const char *kind)
{
    unlink(lines_path);
    audit_log_make(lines_path, kind);
    lines_read(lines);
    assert_int_equal(lines->count, AUDIT_LOG_LINES);
}

void lines_join(const struct lines *lines, struct buf *text)
{
    buf_init(text, 1 << 20);
    for (unsigned i = 0; i < lines->count; i++)
        assert_int_equal(buf_printf(text, "%s\n", lines->text[i]), ERR_OK);
}

void lines_verify(const struct lines *lines, EVP_PKEY *key, const struct audit_expected *expected,
                  struct audit_report *report)
{
    struct buf text;
    lines_join(lines, &text);
    lines_verify_text(buf_bytes(&text), key, expected, report);
    buf_clear(&text);
}

void lines_verify_text(struct bytes text, EVP_PKEY *key, const struct audit_expected *expected,
                       struct audit_report *report)
{
    struct audit_verify *verify = NULL;
    assert_int_equal(audit_verify_new(key, expected, &verify, NULL), ERR_OK);
    audit_verify_file(verify, "log");
    audit_verify_put(verify, text);
    *report = *audit_verify_end(verify);
    audit_verify_free(verify);
}
