// SPDX-License-Identifier: Apache-2.0
// A log as a whole: good ones, another in its place, cut, torn by a crash, in several files, and
// every byte of it.
#include "tests/support/audit_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/log.h"

static const struct audit_expected whole = {.seq = AUDIT_LOG_LINES};
static const struct audit_expected closed = {.is_closed = true};

static void test_good(void **state)
{
    (void)state;
    static struct lines good;
    struct audit_report report;
    lines_make(&good, "P-256");
    EVP_PKEY *key = audit_log_public("P-256");
    lines_verify(&good, key, &closed, &report);
    assert_string_equal(report.reason.text, "");
    assert_false(report.is_bad);
    assert_int_equal(report.lines, AUDIT_LOG_LINES);
    assert_int_equal(report.checkpoints, 3);
    assert_int_equal(report.covered, 11);
    assert_int_equal(report.uncovered, 0);
    assert_true(report.is_closed);
    struct audit_expected expected = {.seq = 12, .has_hash = true};
    memcpy(expected.hash, report.last.hash, sizeof expected.hash);
    lines_verify(&good, key, &expected, &report);
    assert_false(report.is_bad);
    expected.seq = 11;
    lines_verify(&good, key, &expected, &report);
    assert_true(report.is_bad);
    lines_verify(&good, NULL, NULL, &report);
    assert_false(report.is_bad);
    assert_int_equal(report.checkpoints, 0);
    // What is not covered yet is said, not called wrong.
    good.count = 10;
    lines_verify(&good, key, NULL, &report);
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
    lines_make(&first, "P-256");
    uint8_t hash[HASH_SIZE_MAX];
    assert_int_equal(hash_digest(HASH_SHA256, bytes_of_text(first.text[4]), hash), ERR_OK);
    memcpy(expected.hash, hash, sizeof expected.hash);
    usleep(2000); // another time, so another chain
    lines_make(&second, "P-256");
    lines_verify(&second, audit_log_public("P-256"), &expected, &report);
    assert_true(report.is_bad);
    assert_non_null(strstr(report.reason.text, "another log"));
    lines_make(&second, "RSA-2048");
    lines_verify(&second, audit_log_public("P-256"), NULL, &report);
    assert_true(report.is_bad);
    assert_int_equal(report.bad_line, 2);
    assert_non_null(strstr(report.reason.text, "another key"));
    // The second half of another log behind the first half of this one.
    memcpy(second.text, first.text, 6 * sizeof *first.text);
    lines_verify(&second, audit_log_public("P-256"), NULL, &report);
    assert_true(report.is_bad);
}

// One bit of every byte of a closed log.
static void test_every_byte(void **state)
{
    (void)state;
    static struct lines good;
    struct buf text;
    lines_make(&good, "P-256");
    lines_join(&good, &text);
    for (size_t i = 0; i < text.len; i++) {
        struct audit_report report;
        text.data[i] ^= (uint8_t)(1u << i % 8);
        lines_verify_text(buf_bytes(&text), audit_log_public("P-256"), &closed, &report);
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
    lines_make(&good, "P-256");
    lines_join(&good, &text);
    for (size_t len = 0; len < text.len; len++) {
        struct audit_report report;
        lines_verify_text(bytes_of(text.data, len), NULL, &whole, &report);
        assert_true(report.is_bad);
        lines_verify_text(bytes_of(text.data, len), audit_log_public("P-256"), NULL, &report);
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
    lines_make(&good, "P-256");
    lines_join(&good, &text);
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
    lines_make(&good, "P-256");
    good.count = 5;
    lines_join(&good, &text);
    // Steps that no field's length is a multiple of; each costs an fsync.
    for (size_t len = 1; len <= text.len; len += 11) {
        struct audit *audit = NULL;
        struct audit_report report;
        assert_int_equal(file_write(lines_path, bytes_of(text.data, len), 0600, NULL), ERR_OK);
        log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
        assert_int_equal(audit_open(lines_path, &audit, NULL), ERR_OK);
        audit_log_use(audit, 9);
        audit_log_seal(audit, "P-256");
        audit_close(audit);
        lines_read(&lines);
        lines_verify(&lines, audit_log_public("P-256"), NULL, &report);
        if (report.is_bad)
            fail_msg("torn after %zu bytes: line %u: %s", len, (unsigned)report.bad_line,
                     report.reason.text);
        if (report.torn == 0)
            continue;
        lines.text[lines.count - 4][0] ^= 1;
        lines_verify(&lines, audit_log_public("P-256"), NULL, &report);
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
    unlink(lines_path);
    assert_int_equal(audit_open(lines_path, &audit, NULL), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        audit_log_use(audit, i);
        audit_log_seal(audit, "P-256");
        lines_read(&files[i]);
        unlink(lines_path);
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
            lines_join(&files[*at - '0'], &text);
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

// Which starts come without a stop before them.
static void test_unclean(void **state)
{
    (void)state;
    static const struct {
        enum audit_event events[4];
        unsigned count, proposal, unclean;
    } rows[] = {
        {{AUDIT_START, AUDIT_START}, 2, 0, 1},
        {{AUDIT_START, AUDIT_STOP, AUDIT_START}, 3, 0, 0},
        {{AUDIT_START, AUDIT_STOP, AUDIT_ROTATE, AUDIT_START}, 4, 0, 0},
        {{AUDIT_START, AUDIT_STOP, AUDIT_TORN, AUDIT_START}, 4, 0, 0},
        {{AUDIT_START, AUDIT_STOP, AUDIT_ACT_LOST, AUDIT_START}, 4, 3, 0},
        {{AUDIT_START, AUDIT_STOP, AUDIT_MIGRATE, AUDIT_START}, 4, 0, 0},
        {{AUDIT_FOUND, AUDIT_ACT, AUDIT_START}, 3, 0, 0},
        {{AUDIT_START, AUDIT_ROTATE, AUDIT_ACT_LOST, AUDIT_START}, 4, 3, 1},
        {{AUDIT_USE, AUDIT_START}, 2, 0, 1}, // the begin of it is in another file
        {{AUDIT_ACT, AUDIT_START}, 2, 3, 1},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        static struct lines lines;
        struct audit_report report;
        struct audit *audit = NULL;
        unlink(lines_path);
        assert_int_equal(audit_open(lines_path, &audit, NULL), ERR_OK);
        for (unsigned k = 0; k < rows[i].count; k++) {
            const struct audit_record record = {.event = rows[i].events[k],
                                                .proposal = rows[i].proposal};
            assert_int_equal(audit_write(audit, &record, NULL), ERR_OK);
        }
        audit_close(audit);
        lines_read(&lines);
        lines_verify(&lines, NULL, NULL, &report);
        assert_false(report.is_bad);
        if (report.unclean != rows[i].unclean)
            fail_msg("row %u: %u", i, (unsigned)report.unclean);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, lines_setup, lines_teardown),
        cmocka_unit_test_setup_teardown(test_swapped_file, lines_setup, lines_teardown),
        cmocka_unit_test_setup_teardown(test_every_byte, lines_setup, lines_teardown),
        cmocka_unit_test_setup_teardown(test_every_cut, lines_setup, lines_teardown),
        cmocka_unit_test_setup_teardown(test_pieces, lines_setup, lines_teardown),
        cmocka_unit_test_setup_teardown(test_torn, lines_setup, lines_teardown),
        cmocka_unit_test_setup_teardown(test_files, lines_setup, lines_teardown),
        cmocka_unit_test_setup_teardown(test_unclean, lines_setup, lines_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
