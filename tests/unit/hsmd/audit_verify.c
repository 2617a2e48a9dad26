// SPDX-License-Identifier: Apache-2.0
// Every way to bend a log that hsmd wrote, and which line is named for it.
#include "tests/support/audit_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/hash.h"

static void drop(struct lines *lines, unsigned at)
{
    memmove(lines->text[at], lines->text[at + 1], (lines->count - at - 1) * sizeof *lines->text);
    lines->count--;
}

static void insert(struct lines *lines, unsigned at, const char *line)
{
    char copy[AUDIT_LINE_MAX];
    snprintf(copy, sizeof copy, "%s", line);
    memmove(lines->text[at + 1], lines->text[at], (lines->count - at) * sizeof *lines->text);
    memcpy(lines->text[at], copy, sizeof copy);
    lines->count++;
}

static void change(struct lines *lines, unsigned at, const char *from, const char *to)
{
    char *found = strstr(lines->text[at], from);
    assert_non_null(found);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(found, to, strlen(to));
}

// A line as hsmd would write it after the one before.
static void forge(struct lines *lines, unsigned at)
{
    char *line = lines->text[at];
    uint8_t hash[HASH_SIZE_MAX];
    char hex[65];
    assert_int_equal(hash_digest(HASH_SHA256, bytes_of_text(lines->text[at - 1]), hash), ERR_OK);
    for (unsigned i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    memcpy(strstr(line, "\"prev\":\"") + 8, hex, 64);
}

static void set_seq(struct lines *lines, unsigned at, unsigned seq)
{
    char line[AUDIT_LINE_MAX];
    snprintf(line, sizeof line, "{\"seq\":%u%s", seq, strchr(lines->text[at], ','));
    memcpy(lines->text[at], line, sizeof line);
}

// Lines are counted from 0 here, and are what audit_log_make makes.
static void changed_byte(struct lines *lines)
{
    change(lines, 3, "\"id\":2", "\"id\":7");
}
static void changed_time(struct lines *lines)
{
    change(lines, 3, "\"time\":\"2", "\"time\":\"3");
}
static void changed_number(struct lines *lines)
{
    change(lines, 3, "\"seq\":4", "\"seq\":8");
}
static void changed_prev(struct lines *lines)
{
    char *prev = strstr(lines->text[3], "\"prev\":\"") + 8;
    *prev = *prev == '0' ? '1' : '0';
}
static void changed_syntax(struct lines *lines)
{
    change(lines, 3, "\"id\":2", "\"id\";2");
}
static void changed_name(struct lines *lines)
{
    change(lines, 3, "\"client\"", "\"CLIENT\"");
}
static void changed_first(struct lines *lines)
{
    change(lines, 0, "start", "stops");
}
static void changed_first_prev(struct lines *lines)
{
    change(lines, 0, "\"prev\":\"0", "\"prev\":\"1");
}
static void changed_signature(struct lines *lines)
{
    char *at = strstr(lines->text[11], "\"signature\":\"") + 20;
    *at = *at == 'A' ? 'B' : 'A';
}
static void changed_and_rehashed(struct lines *lines)
{
    changed_byte(lines);
    for (unsigned i = 4; i < lines->count; i++)
        forge(lines, i);
}
static void removed(struct lines *lines)
{
    drop(lines, 3);
}
static void removed_first(struct lines *lines)
{
    drop(lines, 0);
}
static void removed_and_renumbered(struct lines *lines)
{
    drop(lines, 3);
    for (unsigned i = 3; i < lines->count; i++) {
        set_seq(lines, i, i + 1);
        forge(lines, i);
    }
}
static void removed_checkpoint(struct lines *lines)
{
    drop(lines, 5);
}
static void duplicated(struct lines *lines)
{
    insert(lines, 4, lines->text[3]);
}
static void repeated_later(struct lines *lines)
{
    insert(lines, 7, lines->text[3]);
}
static void swapped(struct lines *lines)
{
    insert(lines, 3, lines->text[4]);
    drop(lines, 5);
}
static void inserted_garbage(struct lines *lines)
{
    insert(lines, 3, "hello");
}
static void inserted_empty(struct lines *lines)
{
    insert(lines, 3, "");
}
static void inserted_torn(struct lines *lines)
{
    insert(lines, 3, "{\"seq\":4,\"time");
}
static void inserted_forged(struct lines *lines)
{
    insert(lines, 3, lines->text[6]);
    set_seq(lines, 3, 4);
    forge(lines, 3);
}
static void inserted_half_forged(struct lines *lines)
{
    insert(lines, 3, lines->text[6]);
    set_seq(lines, 3, 4);
}
static void inserted_and_renumbered(struct lines *lines)
{
    inserted_forged(lines);
    for (unsigned i = 4; i < lines->count; i++) {
        set_seq(lines, i, i + 1);
        forge(lines, i);
    }
}
static void cut_with_expectation(struct lines *lines)
{
    lines->count = 6; // behind a checkpoint
}
static void cut_end(struct lines *lines)
{
    lines->count = 11; // the last checkpoint
}
static void without_checkpoints(struct lines *lines)
{
    lines->count = 1;
}
static void unknown_event(struct lines *lines)
{
    change(lines, 10, "stop", "stab");
}
static void unknown_field(struct lines *lines)
{
    change(lines, 3, "\"hash\"", "\"hush\"");
}
static void twice_a_field(struct lines *lines)
{
    change(lines, 3, "\"hash\":", "\"id\":1,");
}

static const struct audit_expected whole = {.seq = AUDIT_LOG_LINES};
static const struct audit_expected closed = {.is_closed = true};

static const struct {
    const char *name;
    void (*bend)(struct lines *lines);
    const struct audit_expected *expected;
    unsigned line; // named, from 1; 0: the log as a whole
    const char *reason;
} cases[] = {
    {"changed byte", changed_byte, NULL, 4, "changed"},
    {"changed time", changed_time, NULL, 4, "changed"},
    {"changed number", changed_number, NULL, 4, "its number is 8"},
    {"changed prev", changed_prev, NULL, 4, "changed"},
    {"changed syntax", changed_syntax, NULL, 4, "not as hsmd writes it"},
    {"changed name of a field", changed_name, NULL, 4, "unknown field \"CLIENT\""},
    {"changed first line", changed_first, NULL, 1, "unknown event"},
    {"changed prev of the first line", changed_first_prev, NULL, 1, "first line of all"},
    {"changed signature", changed_signature, NULL, 12, "signature is wrong"},
    {"changed, all hashes made anew", changed_and_rehashed, NULL, 6, "is not the one that was"},
    {"removed", removed, NULL, 4, "1 line is missing"},
    {"removed first line", removed_first, NULL, 1, "begins here in the middle"},
    {"removed, numbers and hashes made anew", removed_and_renumbered, NULL, 5, "covers line 5"},
    {"removed checkpoint", removed_checkpoint, NULL, 6, "1 line is missing"},
    {"duplicated", duplicated, NULL, 5, "repeated"},
    {"repeated later", repeated_later, NULL, 8, "inserted"},
    {"reordered", swapped, NULL, 4, "moved here"},
    {"inserted garbage", inserted_garbage, NULL, 4, "inserted"},
    {"inserted empty line", inserted_empty, NULL, 4, "inserted"},
    {"inserted torn line", inserted_torn, NULL, 4, "inserted"},
    {"inserted line with right hash", inserted_forged, NULL, 4, "inserted"},
    {"inserted line with wrong hash", inserted_half_forged, NULL, 4, "inserted"},
    {"inserted, all made anew", inserted_and_renumbered, NULL, 7, "is not the one that was"},
    {"cut behind a checkpoint, newest number known", cut_with_expectation, &whole, 0, "cut"},
    {"cut behind a checkpoint, known to be closed", cut_with_expectation, &closed, 0, "cut"},
    {"last checkpoint cut off", cut_end, &closed, 0, "cut"},
    {"no checkpoint left", without_checkpoints, NULL, 0, "nothing vouches"},
    {"unknown event", unknown_event, NULL, 11, "unknown event \"stab\""},
    {"unknown field", unknown_field, NULL, 4, "unknown field \"hush\""},
    {"a field twice", twice_a_field, NULL, 4, ""},
};

static void test_tampering(void **state)
{
    (void)state;
    static struct lines good;
    static struct lines bent;
    static const char *const kinds[] = {"P-256", "RSA-2048"};
    for (unsigned k = 0; k < 2; k++) {
        lines_make(&good, kinds[k]);
        for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct audit_report report;
            bent = good;
            cases[i].bend(&bent);
            lines_verify(&bent, audit_log_public(kinds[k]), cases[i].expected, &report);
            if (!report.is_bad || report.bad_line != cases[i].line ||
                !strstr(report.reason.text, cases[i].reason))
                fail_msg("%s: bad %d, line %u: %s", cases[i].name, report.is_bad,
                         (unsigned)report.bad_line, report.reason.text);
            assert_int_equal(report.bad_file != NULL, cases[i].line != 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_tampering, lines_setup, lines_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
