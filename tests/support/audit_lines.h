// SPDX-License-Identifier: Apache-2.0
// An audit log (audit_log.h) as lines, to be bent and verified by cmocka tests.
#pragma once

#include "hsmd/audit/audit_line.h"
#include "hsmd/audit/audit_verify.h"
#include "tests/support/audit_log.h"

#define LINES_MAX 64

struct lines {
    char text[LINES_MAX][AUDIT_LINE_MAX];
    unsigned count;
};

extern char lines_path[96]; // of the log, in a folder that a test has of its own

int lines_setup(void **state);
int lines_teardown(void **state);

void lines_read(struct lines *lines);                   // the log
void lines_make(struct lines *lines, const char *kind); // a new one
void lines_join(const struct lines *lines, struct buf *text);

void lines_verify(const struct lines *lines, EVP_PKEY *key, const struct audit_expected *expected,
                  struct audit_report *report);
void lines_verify_text(struct bytes text, EVP_PKEY *key, const struct audit_expected *expected,
                       struct audit_report *report);
