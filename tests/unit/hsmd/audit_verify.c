// SPDX-License-Identifier: Apache-2.0
// Every way to bend a log that hsmd wrote, and which line is named for it.
#include "hsmd/audit/audit_verify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/audit/audit_checkpoint.h"
#include "hsmd/audit/audit_line.h"
#include "hsmd/audit/audit_parse.h"
#include "hsmd/base/file.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/log.h"
#include "hsmd/base/text.h"
#include "tests/support/audit_log.h"

#define LINES_MAX 64

static char dir[64];
static char path[96];

// A log as lines, to be bent.
struct lines {
    char text[LINES_MAX][AUDIT_LINE_MAX];
    unsigned count;
};

static int setup(void **state)
{
    (void)state;
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(dir, sizeof dir, "/tmp/audit-verify-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/audit.log", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void read_lines(struct lines *lines)
{
    struct buf text;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(path, &text, NULL), ERR_OK);
    lines->count = 0;
    char *rest = (char *)text.data;
    for (char *line; (line = strsep(&rest, "\n")) && rest;)
        snprintf(lines->text[lines->count++], AUDIT_LINE_MAX, "%s", line);
    buf_clear(&text);
}

static void make(struct lines *lines, const char *kind)
{
    unlink(path);
    audit_log_make(path, kind);
    read_lines(lines);
    assert_int_equal(lines->count, AUDIT_LOG_LINES);
}

static void verify_bytes(struct bytes text, EVP_PKEY *key, const struct audit_expected *expected,
                         struct audit_report *report)
{
    struct audit_verify *verify = NULL;
    assert_int_equal(audit_verify_new(key, expected, &verify, NULL), ERR_OK);
    audit_verify_file(verify, "log");
    audit_verify_put(verify, text);
    *report = *audit_verify_end(verify);
    audit_verify_free(verify);
}

static void join(const struct lines *lines, struct buf *text)
{
    buf_init(text, 1 << 20);
    for (unsigned i = 0; i < lines->count; i++)
        assert_int_equal(buf_printf(text, "%s\n", lines->text[i]), ERR_OK);
}

static void verify_lines(const struct lines *lines, EVP_PKEY *key,
                         const struct audit_expected *expected, struct audit_report *report)
{
    struct buf text;
    join(lines, &text);
    verify_bytes(buf_bytes(&text), key, expected, report);
    buf_clear(&text);
}

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
        make(&good, kinds[k]);
        for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct audit_report report;
            bent = good;
            cases[i].bend(&bent);
            verify_lines(&bent, audit_log_public(kinds[k]), cases[i].expected, &report);
            if (!report.is_bad || report.bad_line != cases[i].line ||
                !strstr(report.reason.text, cases[i].reason))
                fail_msg("%s: bad %d, line %u: %s", cases[i].name, report.is_bad,
                         (unsigned)report.bad_line, report.reason.text);
            assert_int_equal(report.bad_file != NULL, cases[i].line != 0);
        }
    }
}

static void test_good(void **state)
{
    (void)state;
    static struct lines good;
    struct audit_report report;
    make(&good, "P-256");
    EVP_PKEY *key = audit_log_public("P-256");
    verify_lines(&good, key, &closed, &report);
    assert_string_equal(report.reason.text, "");
    assert_false(report.is_bad);
    assert_int_equal(report.lines, AUDIT_LOG_LINES);
    assert_int_equal(report.checkpoints, 3);
    assert_int_equal(report.covered, 11);
    assert_int_equal(report.uncovered, 0);
    assert_true(report.is_closed);
    struct audit_expected expected = {.seq = 12, .has_hash = true};
    memcpy(expected.hash, report.last.hash, sizeof expected.hash);
    verify_lines(&good, key, &expected, &report);
    assert_false(report.is_bad);
    expected.seq = 11;
    verify_lines(&good, key, &expected, &report);
    assert_true(report.is_bad);
    verify_lines(&good, NULL, NULL, &report);
    assert_false(report.is_bad);
    assert_int_equal(report.checkpoints, 0);
    // What is not covered yet is said, not called wrong.
    good.count = 10;
    verify_lines(&good, key, NULL, &report);
    assert_false(report.is_bad);
    assert_int_equal(report.covered, 5);
    assert_int_equal(report.uncovered, 4);
    assert_false(report.is_closed);
}

// Another chain, or this chain signed with another key.
static void test_swapped_file(void **state)
{
    (void)state;
    static struct lines first;
    static struct lines second;
    struct audit_report report;
    struct audit_expected expected = {.seq = 5, .has_hash = true};
    make(&first, "P-256");
    uint8_t hash[HASH_SIZE_MAX];
    assert_int_equal(hash_digest(HASH_SHA256, bytes_of_text(first.text[4]), hash), ERR_OK);
    memcpy(expected.hash, hash, sizeof expected.hash);
    usleep(2000); // another time, so another chain
    make(&second, "P-256");
    verify_lines(&second, audit_log_public("P-256"), &expected, &report);
    assert_true(report.is_bad);
    assert_non_null(strstr(report.reason.text, "another log"));
    make(&second, "RSA-2048");
    verify_lines(&second, audit_log_public("P-256"), NULL, &report);
    assert_true(report.is_bad);
    assert_int_equal(report.bad_line, 2);
    assert_non_null(strstr(report.reason.text, "another key"));
    // The second half of another log behind the first half of this one.
    memcpy(second.text, first.text, 6 * sizeof *first.text);
    verify_lines(&second, audit_log_public("P-256"), NULL, &report);
    assert_true(report.is_bad);
}

// One bit of every byte of a closed log.
static void test_every_byte(void **state)
{
    (void)state;
    static struct lines good;
    struct buf text;
    make(&good, "P-256");
    join(&good, &text);
    for (size_t i = 0; i < text.len; i++) {
        struct audit_report report;
        text.data[i] ^= (uint8_t)(1u << i % 8);
        verify_bytes(buf_bytes(&text), audit_log_public("P-256"), &closed, &report);
        if (!report.is_bad)
            fail_msg("byte %zu (%c) is not noticed", i, text.data[i]);
        text.data[i] ^= (uint8_t)(1u << i % 8);
    }
    buf_clear(&text);
}

// Cut at every byte: with the newest number known it is always seen; without, only where a whole
// line is gone is it not, and the end is called open.
static void test_every_cut(void **state)
{
    (void)state;
    static struct lines good;
    struct buf text;
    make(&good, "P-256");
    join(&good, &text);
    for (size_t len = 0; len < text.len; len++) {
        struct audit_report report;
        verify_bytes(bytes_of(text.data, len), NULL, &whole, &report);
        assert_true(report.is_bad);
        verify_bytes(bytes_of(text.data, len), audit_log_public("P-256"), NULL, &report);
        assert_false(report.is_closed);
        assert_int_equal(report.has_torn_end, len && text.data[len - 1] != '\n');
    }
    buf_clear(&text);
}

// Pieces of every size give the same.
static void test_pieces(void **state)
{
    (void)state;
    static struct lines good;
    struct buf text;
    make(&good, "P-256");
    join(&good, &text);
    for (size_t size = 1; size < 3000; size += 1 + size / 7) {
        struct audit_verify *verify = NULL;
        assert_int_equal(audit_verify_new(audit_log_public("P-256"), &closed, &verify, NULL),
                         ERR_OK);
        audit_verify_file(verify, "log");
        for (size_t at = 0; at < text.len; at += size)
            audit_verify_put(verify,
                             bytes_of(text.data + at, text.len - at < size ? text.len - at : size));
        assert_false(audit_verify_end(verify)->is_bad);
        audit_verify_free(verify);
    }
    buf_clear(&text);
}

// A crash in the middle of any line, and a new start: good; bent, bad.
static void test_torn(void **state)
{
    (void)state;
    static struct lines good;
    static struct lines lines;
    struct buf text;
    make(&good, "P-256");
    good.count = 5;
    join(&good, &text);
    // Steps that no field's length is a multiple of; each costs an fsync.
    for (size_t len = 1; len <= text.len; len += 11) {
        struct audit *audit = NULL;
        struct audit_report report;
        assert_int_equal(file_write(path, bytes_of(text.data, len), 0600, NULL), ERR_OK);
        log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
        assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
        audit_log_use(audit, 9);
        audit_log_seal(audit, "P-256");
        audit_close(audit);
        read_lines(&lines);
        verify_lines(&lines, audit_log_public("P-256"), NULL, &report);
        if (report.is_bad)
            fail_msg("torn after %zu bytes: line %u: %s", len, (unsigned)report.bad_line,
                     report.reason.text);
        if (report.torn == 0)
            continue;
        lines.text[lines.count - 4][0] ^= 1;
        verify_lines(&lines, audit_log_public("P-256"), NULL, &report);
        assert_true(report.is_bad);
        assert_int_equal(report.bad_line, lines.count - 3);
    }
    buf_clear(&text);
}

// A log in several files, one missing, in a wrong order, the first ones not there any more.
static void test_files(void **state)
{
    (void)state;
    static struct lines files[3];
    struct audit *audit = NULL;
    unlink(path);
    assert_int_equal(audit_open(path, &audit, NULL), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        audit_log_use(audit, i);
        audit_log_seal(audit, "P-256");
        read_lines(&files[i]);
        unlink(path);
        if (i < 2)
            assert_int_equal(audit_reopen(audit, NULL), ERR_OK);
    }
    audit_close(audit);
    static const struct {
        const char *order;
        bool is_bad;
        unsigned line;
        const char *file;
    } orders[] = {{"012", false, 0, ""}, {"12", false, 0, ""},  {"2", false, 0, ""},
                  {"02", true, 1, "2"},  {"021", true, 1, "2"}, {"001", true, 1, "0"}};
    for (unsigned i = 0; i < sizeof orders / sizeof *orders; i++) {
        static const char *const names[] = {"0", "1", "2"};
        struct audit_verify *verify = NULL;
        assert_int_equal(audit_verify_new(audit_log_public("P-256"), NULL, &verify, NULL), ERR_OK);
        for (const char *at = orders[i].order; *at; at++) {
            struct buf text;
            join(&files[*at - '0'], &text);
            audit_verify_file(verify, names[*at - '0']);
            audit_verify_put(verify, buf_bytes(&text));
            buf_clear(&text);
        }
        const struct audit_report *report = audit_verify_end(verify);
        if (report->is_bad != orders[i].is_bad || report->bad_line != orders[i].line)
            fail_msg("%s: %d, line %u: %s", orders[i].order, report->is_bad,
                     (unsigned)report->bad_line, report->reason.text);
        if (report->is_bad)
            assert_string_equal(report->bad_file, orders[i].file);
        audit_verify_free(verify);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tampering, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swapped_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
