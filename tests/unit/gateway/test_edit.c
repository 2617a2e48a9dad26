// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <strings.h>

#include "gateway/edit.h"
#include "hsmd/base/alloc.h"
#include "mime_util.h"

// An MTA's header while a milter edits it. The first field is the MTA's own Received, which the
// milter is not shown: changes do not count it, insertions do. Deleted fields of Postfix are gone,
// those of Sendmail go on being counted.
struct mta {
    struct {
        const char *name, *value;
        bool is_deleted;
    } fields[3000];
    size_t count;
    bool is_sendmail;
};

static void mta_insert(struct mta *mta, size_t at, const char *name, const char *value)
{
    if (at > mta->count)
        at = mta->count;
    memmove(&mta->fields[at + 1], &mta->fields[at], (mta->count - at) * sizeof mta->fields[0]);
    mta->fields[at].name = name;
    mta->fields[at].value = value;
    mta->fields[at].is_deleted = false;
    mta->count++;
}

static void mta_change(struct mta *mta, const struct edit *edit)
{
    unsigned index = edit->index;
    for (size_t i = 1; i < mta->count; i++) {
        if (strcasecmp(mta->fields[i].name, edit->name) != 0 || --index > 0)
            continue;
        if (edit->value && *edit->value) {
            mta->fields[i].name = edit->name;
            mta->fields[i].value = edit->value;
        } else if (mta->is_sendmail) {
            mta->fields[i].is_deleted = true;
        } else {
            mta->count--;
            memmove(&mta->fields[i], &mta->fields[i + 1], (mta->count - i) * sizeof mta->fields[0]);
        }
        return;
    }
    fail_msg("no field %s number %u", edit->name, edit->index);
}

// Sendmail's insertions do not count deleted fields' places here: it drops a field's text at once
// and the position is of fields that are there.
static size_t mta_position(const struct mta *mta, size_t index)
{
    size_t at = 0;
    for (; at < mta->count; at++)
        if (!mta->fields[at].is_deleted && index-- == 0)
            break;
    return at;
}

static void mta_apply(struct mta *mta, const struct edits *edits)
{
    for (size_t i = 0; i < edits->count; i++) {
        const struct edit *edit = &edits->items[i];
        switch (edit->kind) {
        case EDIT_CHANGE_HEADER:
            assert_true(edit->index > 0);
            mta_change(mta, edit);
            break;
        case EDIT_INSERT_HEADER:
            assert_true(edit->index > 0);
            mta_insert(mta, mta_position(mta, edit->index), edit->name, edit->value);
            break;
        case EDIT_ADD_HEADER:
            mta_insert(mta, mta->count, edit->name, edit->value);
            break;
        }
    }
}

static size_t check(const struct message *old, const struct message *new)
{
    struct edits edits = {0};
    static struct mta mta;
    assert_int_equal(edits_compute(old, new, &edits, NULL), ERR_OK);
    for (int sendmail = 0; sendmail < 2; sendmail++) {
        mta.count = 0;
        mta.is_sendmail = sendmail;
        mta_insert(&mta, 0, "Received", " by mta");
        for (size_t i = 0; i < old->header_count; i++)
            mta_insert(&mta, mta.count, old->headers[i].name, old->headers[i].value);
        mta_apply(&mta, &edits);
        assert_string_equal(mta.fields[0].value, " by mta");
        size_t n = 0;
        for (size_t i = 1; i < mta.count; i++) {
            if (mta.fields[i].is_deleted)
                continue;
            assert_true(n < new->header_count);
            assert_string_equal(mta.fields[i].name, new->headers[n].name);
            assert_string_equal(mta.fields[i].value, new->headers[n].value);
            n++;
        }
        assert_int_equal(n, new->header_count);
    }
    assert_int_equal(edits.has_new_body, !bytes_equal(view_of(old->body), view_of(new->body)));
    size_t count = edits.count;
    edits_clear(&edits);
    return count;
}

static const struct {
    const char *name, *old, *new;
    size_t count;
} cases[] = {
    {"nothing", "A: 1\nB: 2\n\nx", "A: 1\nB: 2\n\nx", 0},
    {"body", "A: 1\n\nx", "A: 1\n\ny", 0},
    {"empty", "\n", "\n", 0},
    {"to nothing", "A: 1\nA: 2\nB: 3\n\n", "\n", 3},
    {"from nothing", "\n", "A: 1\nA: 2\n\n", 2},
    {"prepend", "A: 1\n\n", "R: x\nA: 1\n\n", 1},
    {"append", "A: 1\n\n", "A: 1\nR: x\n\n", 1},
    {"between", "A: 1\nB: 2\n\n", "A: 1\nR: x\nB: 2\n\n", 1},
    {"change in place", "A: 1\nB: 2\nC: 3\n\n", "A: 1\nB: x\nC: 3\n\n", 1},
    {"change the second of a name", "B: 1\nb: 2\nB: 3\n\n", "B: 1\nb: x\nB: 3\n\n", 1},
    {"another case of the name", "A: 1\n\n", "a: 1\n\n", 2},
    {"delete all of a name", "A: 1\nB: 2\na: 3\nA: 4\n\n", "B: 2\n\n", 3},
    {"delete the middle", "A: 1\nA: 2\nA: 1\n\n", "A: 1\nA: 1\n\n", 1},
    {"value becomes empty", "A: 1\nB: 2\n\n", "A:\nB: 2\n\n", 2},
    {"swap", "A: 1\nB: 2\n\n", "B: 2\nA: 1\n\n", 2},
    {"what signing does",
     "From: a\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Language: de\nTo: b\n\nx",
     "From: a\nMIME-Version: 1.0\nTo: b\nContent-Type: multipart/signed\n\ny", 3},
    {"what verifying does",
     "Authentication-Results: us; smime=pass\nFrom: a\nAuthentication-Results: us; x\nTo: b\n"
     "Content-Type: multipart/signed\n\nx",
     "Authentication-Results: us; smime=fail\nFrom: a\nTo: b\nContent-Type: text/plain\n\ny", 3},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s\n", cases[i].name);
        struct message *old = parse(bytes_of_text(cases[i].old));
        struct message *new = parse(bytes_of_text(cases[i].new));
        assert_int_equal(check(old, new), cases[i].count);
        message_free(old);
        message_free(new);
    }
}

static struct message *random_message(unsigned *seed, int max)
{
    static const char *const names[] = {"A", "a", "B", "Received", "X-Y"};
    static const char *const values[] = {" 1", " 2", "", " x\n y"};
    struct message *message = message_new(&test_conf);
    for (int n = (int)(rand_r(seed) % (unsigned)(max + 1)); n > 0; n--)
        assert_int_equal(
            message_add_header(message, names[rand_r(seed) % 5], values[rand_r(seed) % 4], NULL),
            ERR_OK);
    if (rand_r(seed) % 2)
        assert_int_equal(spool_put(message->body, BYTES_LITERAL("body"), NULL), ERR_OK);
    return message;
}

static void test_random(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int i = 0; i < 20000; i++) {
        struct message *old = random_message(&seed, 12);
        struct message *new = random_message(&seed, 12);
        check(old, new);
        message_free(old);
        message_free(new);
    }
    for (int i = 0; i < 10; i++) {
        struct message *old = random_message(&seed, MESSAGE_HEADERS_MAX);
        struct message *new = random_message(&seed, MESSAGE_HEADERS_MAX);
        check(old, new);
        message_free(old);
        message_free(new);
    }
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct message *old = parse(BYTES_LITERAL("A: 1\nB: 2\nC: 3\n\nx"));
    struct message *new = parse(BYTES_LITERAL("R: 0\nA: x\nC: 3\nD: 4\n\ny"));
    bool is_done = false;
    for (unsigned n = 1; !is_done; n++) {
        struct edits edits = {0};
        mem_fail_at(n);
        enum err err = edits_compute(old, new, &edits, NULL);
        mem_fail_at(0);
        is_done = err == ERR_OK;
        assert_true(is_done || (err == ERR_TEMP && !edits.items && n < 50));
        edits_clear(&edits);
    }
    message_free(old);
    message_free(new);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
