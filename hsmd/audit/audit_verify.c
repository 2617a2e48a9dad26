// SPDX-License-Identifier: Apache-2.0
// Lines are looked at one at a time with their neighbours: what came before is known by number and
// hash; a line that does not fit is put aside until the next one tells more (judge).
#include "hsmd/audit/audit_verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/audit/audit_line.h"
#include "hsmd/audit/audit_parse.h"
#include "hsmd/audit/audit_signed.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/text.h"

// Where a line is, and what the chain needs of it.
struct place {
    const char *file;
    uint64_t line;
    bool is_whole; // else torn, or no line at all
    enum audit_event event;
    uint64_t seq;                  // 0 if it is not whole
    uint8_t prev[AUDIT_HASH_SIZE]; // of a whole one
    uint8_t hash[AUDIT_HASH_SIZE];
    struct detail reason; // why it is not whole
};

struct audit_verify {
    struct audit_expected expected;
    struct audit_signed *seals; // NULL: no key
    struct audit_report report;
    struct place before, last; // the last two that fit; line 0: none
    struct place odd;          // does not fit; waits for the line after it
    struct buf text;           // of the line that is being read
    bool is_overlong;
    bool has_expected_hash;
    bool has_former;      // the line of the former check, or the one after it as the first
    bool is_running;      // hsmd is, by the newest line
    bool is_stopped;      // the newest line that is no checkpoint is a stop
    bool is_stop_covered; // and the newest line a checkpoint of it
    uint64_t stop;        // its number
    const char *file;
    uint64_t line; // read so far in the file
};

enum err audit_verify_new(EVP_PKEY *key, const struct audit_expected *expected,
                          struct audit_verify **out, struct detail *detail)
{
    struct audit_verify *verify = mem_calloc(1, sizeof *verify);
    if (!verify)
        return err_set(detail, ERR_TEMP, "out of memory");
    buf_init(&verify->text, AUDIT_LINE_MAX);
    if (expected)
        verify->expected = *expected;
    enum err err = key ? audit_signed_new(key, &verify->seals, detail) : ERR_OK;
    if (err != ERR_OK) {
        audit_verify_free(verify);
        return err;
    }
    *out = verify;
    return ERR_OK;
}

enum err audit_verify_add_key(struct audit_verify *verify, EVP_PKEY *key, struct detail *detail)
{
    return audit_signed_add_key(verify->seals, key, detail);
}

void audit_verify_free(struct audit_verify *verify)
{
    if (!verify)
        return;
    audit_signed_free(verify->seals);
    buf_clear(&verify->text);
    mem_free(verify);
}

static void __attribute__((format(printf, 4, 5)))
blame(struct audit_verify *verify, const struct place *place, uint64_t seq, const char *fmt, ...)
{
    struct audit_report *report = &verify->report;
    va_list ap;
    if (report->is_bad)
        return;
    report->is_bad = true;
    report->bad_file = place ? place->file : NULL;
    report->bad_line = place ? place->line : 0;
    report->bad_seq = seq;
    va_start(ap, fmt);
    vsnprintf(report->reason.text, sizeof report->reason.text, fmt, ap);
    va_end(ap);
}

static bool same(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, AUDIT_HASH_SIZE) == 0;
}

// Is next what must come after line?
static bool follows(const struct place *next, const struct place *line)
{
    return next && next->is_whole && next->seq == line->seq + 1 && same(next->prev, line->hash);
}

static void judge_gap(struct audit_verify *verify, const struct place *odd)
{
    uint64_t seq = verify->last.seq;
    if (odd->seq > seq + 1)
        blame(verify, odd, odd->seq, "%" PRIu64 " line%s missing before it: removed, or moved",
              odd->seq - seq - 1, odd->seq - seq == 2 ? " is" : "s are");
    else
        blame(verify, odd, odd->seq,
              "it should be number %" PRIu64 ": inserted, repeated, or out of order", seq + 1);
}

// The odd line does not follow the last good one; next is the line after it, NULL: there is none.
static void judge(struct audit_verify *verify, const struct place *next)
{
    const struct place *odd = &verify->odd;
    const struct place *last = &verify->last;
    const struct place *before = &verify->before;
    if (same(odd->hash, last->hash))
        blame(verify, odd, odd->seq, "the same as the line before: repeated");
    else if (before->line && follows(odd, before))
        blame(verify, last, last->seq, "inserted: the line after it follows the one before it");
    else if (follows(next, last))
        blame(verify, odd, odd->seq,
              "inserted, or moved here: the line after it follows the one before it");
    else if (!odd->is_whole)
        blame(verify, odd, last->seq + 1, "%s", odd->reason.text);
    else if (odd->seq != last->seq + 1 &&
             !(same(odd->prev, last->hash) && next && next->is_whole && next->seq == last->seq + 2))
        judge_gap(verify, odd);
    else if (odd->seq != last->seq + 1)
        blame(verify, odd, last->seq + 1, "changed: its number is %" PRIu64, odd->seq);
    else if (next && next->is_whole && !same(next->prev, odd->hash))
        blame(verify, odd, odd->seq, "changed: neither neighbour's hash fits");
    else if (next)
        blame(verify, last, last->seq, "changed: it does not have the hash that the next line has");
    else
        blame(verify, last, last->seq,
              "changed, or the next line's \"prev\" was: its hash does not fit");
}

// The line after the one that a former check has seen last; false: it follows another one.
static bool follows_former(struct audit_verify *verify, const struct place *place)
{
    const struct audit_link *former = &verify->expected.former;
    verify->has_former = same(place->prev, former->hash);
    if (!verify->has_former)
        blame(verify, place, place->seq,
              "another log: the line before it is not the one that a former check has seen");
    return verify->has_former;
}

// The very first line: the chain begins with it, or goes on from a file that was not given.
static bool begins(struct audit_verify *verify, const struct place *place)
{
    static const uint8_t zeros[AUDIT_HASH_SIZE];
    verify->report.first_seq = place->seq;
    if (place->seq == 1 && same(place->prev, zeros))
        return true;
    if (place->seq == 1)
        blame(verify, place, 1, "the first line of all must not have a line before it");
    else if (place->event != AUDIT_ROTATE)
        blame(verify, place, place->seq,
              "the log begins here in the middle: lines before it are missing");
    return place->event == AUDIT_ROTATE && place->seq != 1 &&
           (place->seq - 1 != verify->expected.former.seq || follows_former(verify, place));
}

// Before a start, or while hsmd is down: by root, who founds with acts that nobody has proposed.
static bool is_of_running(const struct audit_line *line)
{
    switch (line->event) {
    case AUDIT_STOP:
    case AUDIT_CHECKPOINT:
    case AUDIT_TORN:
    case AUDIT_ROTATE:
    case AUDIT_ACT_LOST:
    case AUDIT_MIGRATE:
    case AUDIT_FOUND:
        return false;
    case AUDIT_ACT:
        return line->fields[AUDIT_FIELD_PROPOSAL].data != NULL;
    default:
        return true;
    }
}

static void note_event(struct audit_verify *verify, const struct place *place,
                       const struct audit_line *line)
{
    bool is_seal = place->event == AUDIT_CHECKPOINT;
    if (place->event == AUDIT_START && verify->is_running)
        verify->report.unclean++;
    verify->is_running = place->event != AUDIT_STOP && (verify->is_running || is_of_running(line));
    if (!is_seal) {
        verify->is_stopped = place->event == AUDIT_STOP;
        verify->stop = place->seq;
    }
    verify->is_stop_covered =
        is_seal && verify->is_stopped && verify->report.covered >= verify->stop;
}

// One that covers only lines of a file that was not given says nothing about these.
static void note_seal(struct audit_verify *verify, const struct audit_line *line)
{
    struct audit_report *report = &verify->report;
    uint64_t covered = audit_field_number(line->fields[AUDIT_FIELD_COVERS]);
    if (covered < report->first_seq)
        return;
    report->checkpoints++;
    if (covered < report->covered)
        return;
    report->covered = covered;
    memcpy(report->covered_time, line->fields[AUDIT_FIELD_TIME].data, CLOCK_STAMP_SIZE - 1);
}

// A line that fits.
static void accept(struct audit_verify *verify, const struct place *place,
                   const struct audit_line *line)
{
    struct audit_report *report = &verify->report;
    const struct audit_expected *expected = &verify->expected;
    struct detail detail = {0};
    const struct audit_link link = {.seq = place->seq};
    if (place->event == AUDIT_CHECKPOINT && verify->seals) {
        if (audit_signed_check(verify->seals, line, &detail) != ERR_OK) {
            blame(verify, place, place->seq, "%s", detail.text);
            return;
        }
        note_seal(verify, line);
    }
    if (place->seq == expected->former.seq) {
        verify->has_former = same(place->hash, expected->former.hash);
        if (!verify->has_former) {
            blame(verify, place, place->seq,
                  "another log: a former check has seen another line of this number");
            return;
        }
    }
    if (expected->has_hash && (!expected->seq || expected->seq == place->seq) &&
        same(expected->hash, place->hash))
        verify->has_expected_hash = true;
    note_event(verify, place, line);
    verify->before = verify->last;
    verify->last = *place;
    report->last = link;
    memcpy(report->last.hash, place->hash, sizeof place->hash);
    report->lines++;
    if (verify->seals)
        audit_signed_note(verify->seals, &report->last, place->event == AUDIT_CHECKPOINT);
}

// What was put aside may be a torn line, and this the line that says so.
static bool explains_torn(const struct audit_verify *verify, const struct place *place)
{
    const struct place *odd = &verify->odd;
    return odd->line && !odd->is_whole && place->event == AUDIT_TORN &&
           place->seq == verify->last.seq + 1 && same(place->prev, odd->hash);
}

static void take_place(struct audit_verify *verify, const struct place *place,
                       const struct audit_line *line)
{
    bool is_first = !verify->last.line;
    if (explains_torn(verify, place)) {
        if (is_first)
            verify->report.first_seq = place->seq;
        verify->report.torn++;
        verify->odd = (struct place){0};
        accept(verify, place, line);
    } else if (verify->odd.line) {
        judge(verify, place);
    } else if (place->is_whole &&
               (is_first ? begins(verify, place) : follows(place, &verify->last))) {
        accept(verify, place, line);
    } else if (!verify->report.is_bad) {
        verify->odd = *place;
    }
}

static void take_line(struct audit_verify *verify)
{
    struct bytes text = buf_bytes(&verify->text);
    struct place place = {.file = verify->file, .line = ++verify->line};
    struct audit_line line = {0};
    struct buf prev;
    uint64_t seq = 0;
    if (verify->report.is_bad)
        return;
    if (verify->is_overlong) {
        blame(verify, &place, verify->last.seq + 1, "longer than any line of hsmd's");
        return;
    }
    enum err err = audit_parse(text, &line, &place.reason);
    // Torn lines are known as the writer knows them; a whole one has no excuse.
    if (err != ERR_OK && audit_line_seq(text, &seq)) {
        blame(verify, &place, verify->last.seq + 1, "%s", place.reason.text);
        return;
    }
    if (hash_digest(HASH_SHA256, text, place.hash) != ERR_OK) {
        blame(verify, &place, 0, "cannot be hashed");
        return;
    }
    if (err == ERR_OK) {
        place.is_whole = true;
        place.event = line.event;
        place.seq = line.seq;
        buf_init(&prev, AUDIT_HASH_SIZE);
        if (audit_field_hex(line.fields[AUDIT_FIELD_PREV], &prev) == ERR_OK)
            memcpy(place.prev, prev.data, AUDIT_HASH_SIZE);
        buf_clear(&prev);
    }
    take_place(verify, &place, &line);
}

void audit_verify_put(struct audit_verify *verify, struct bytes bytes)
{
    while (bytes.len && !verify->report.is_bad) {
        const uint8_t *end = memchr(bytes.data, '\n', bytes.len);
        size_t len = end ? (size_t)(end - bytes.data) : bytes.len;
        if (buf_put(&verify->text, bytes.data, len) != ERR_OK)
            verify->is_overlong = true;
        if (!end)
            return;
        take_line(verify);
        buf_reset(&verify->text);
        verify->is_overlong = false;
        bytes = bytes_of(end + 1, bytes.len - len - 1);
    }
}

// A file may end without a line end only where the log does.
void audit_verify_file(struct audit_verify *verify, const char *name)
{
    if (verify->text.len || verify->is_overlong) {
        struct place place = {.file = verify->file, .line = verify->line + 1};
        blame(verify, &place, verify->last.seq + 1, "the file ends within it, but the log goes on");
    }
    verify->file = name;
    verify->line = 0;
    verify->report.files++;
}

static void check_expected(struct audit_verify *verify)
{
    const struct audit_expected *expected = &verify->expected;
    const struct audit_report *report = &verify->report;
    if (expected->seq > report->last.seq)
        blame(verify, NULL, report->last.seq + 1,
              "cut: it ends with line %" PRIu64 ", but line %" PRIu64 " was written",
              report->last.seq, expected->seq);
    else if (expected->former.seq > report->last.seq)
        blame(verify, NULL, report->last.seq + 1,
              "cut: it ends with line %" PRIu64 ", but a former check has seen line %" PRIu64,
              report->last.seq, expected->former.seq);
    else if (expected->former.seq && !verify->has_former)
        blame(verify, NULL, expected->former.seq,
              "line %" PRIu64 ", which a former check has seen, is not in the files given: give "
              "those from it on",
              expected->former.seq);
    else if (expected->seq && expected->seq < report->first_seq)
        blame(verify, NULL, expected->seq, "line %" PRIu64 " is not in the files given",
              expected->seq);
    else if (expected->has_hash && !verify->has_expected_hash)
        blame(verify, NULL, expected->seq, "another log: %s does not have the hash expected",
              expected->seq ? "that line" : "a line in it");
    else if (expected->is_closed && !report->is_closed)
        blame(verify, NULL, report->last.seq + 1, "cut: it does not end with hsmd's stop%s",
              verify->seals ? " and the checkpoint over it" : "");
}

const struct audit_report *audit_verify_end(struct audit_verify *verify)
{
    struct audit_report *report = &verify->report;
    if (verify->odd.line)
        judge(verify, NULL);
    report->has_torn_end = verify->text.len > 0 || verify->is_overlong;
    if (verify->seals)
        report->uncovered = audit_signed_uncovered(verify->seals, report->covered);
    report->is_closed = !report->has_torn_end && verify->is_stopped &&
                        (verify->seals ? verify->is_stop_covered : report->lines > 0);
    if (!report->lines)
        blame(verify, NULL, 1, "there is no line in it");
    else if (verify->seals && !report->checkpoints)
        blame(verify, NULL, 0,
              "no checkpoint of a key given is in it: nothing vouches for any line");
    check_expected(verify);
    return report;
}
