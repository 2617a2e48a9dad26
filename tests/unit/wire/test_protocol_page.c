// SPDX-License-Identifier: Apache-2.0
// hsmd-protocol(7) documents every operation, field, number and limit there is, and no other, and
// its examples are what the encoder makes.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/text.h"
#include "hsmd/wire/table.h"

#define PAGE TEST_DATA "/../../hsmd/wire/hsmd-protocol.7"
#define HEADER TEST_DATA "/../../hsmd/wire/wire.h"
#define TEXT_MAX 65536

static struct buf page;

static int read_page(void **state)
{
    struct detail detail = {0};
    (void)state;
    buf_init(&page, TEXT_MAX);
    if (file_read(PAGE, &page, &detail) == ERR_OK)
        return 0;
    fprintf(stderr, "%s\n", detail.text);
    return -1;
}

static int free_page(void **state)
{
    (void)state;
    buf_clear(&page);
    return 0;
}

// The lines of the section of that name that begin with the prefix, without it.
static void put_lines(struct buf *out, const char *section, const char *prefix)
{
    char heading[100];
    snprintf(heading, sizeof heading, "\n.Ss %s\n", section);
    const char *at = strstr(buf_text(&page), heading);
    if (!at)
        fail_msg("no section \"%s\"", section);
    at += strlen(heading);
    while (*at && strncmp(at, ".Ss ", 4) != 0 && strncmp(at, ".Sh ", 4) != 0) {
        size_t len = strcspn(at, "\n");
        size_t skip = strlen(prefix);
        if (strncmp(at, prefix, skip) == 0)
            assert_int_equal(buf_printf(out, "%.*s\n", (int)(len - skip), at + skip), ERR_OK);
        at += len + (at[len] == '\n');
    }
}

// Compares the items of a section with what they should be, and clears that.
static void assert_items(const char *section, const char *prefix, struct buf *want)
{
    struct buf got;
    buf_init(&got, TEXT_MAX);
    put_lines(&got, section, ".It ");
    for (const char *at = buf_text(&got); *at; at += strcspn(at, "\n") + 1)
        assert_int_equal(strncmp(at, prefix, strlen(prefix)), 0);
    if (strcmp(buf_text(&got), buf_text(want)) != 0)
        fail_msg("section \"%s\" says\n%sand should say\n%s", section, buf_text(&got),
                 buf_text(want));
    buf_clear(&got);
    buf_clear(want);
}

static void put_item(struct buf *want, const char *name, unsigned number, const char *more)
{
    assert_int_equal(buf_printf(want, "Cm %s Pq %u%s%s\n", name, number, *more ? " , " : "", more),
                     ERR_OK);
}

static void test_numbers(void **state)
{
    static const enum err classes[] = {ERR_OK, ERR_TEMP, ERR_PERM, ERR_DENIED, ERR_BUG};
    struct buf want;
    (void)state;
    buf_init(&want, TEXT_MAX);
#define X(symbol, number, name, rest) put_item(&want, name, number, "");
    WIRE_OPERATIONS(X)
    assert_items("Operations", "Cm ", &want);
    HASH_TABLE(X)
    assert_items("Hashes", "Cm ", &want);
    WIRE_FORMS(X)
    assert_items("Forms", "Cm ", &want);
    WIRE_KEY_TYPES(X)
    assert_items("Key types", "Cm ", &want);
    WIRE_PURPOSES(X)
    assert_items("Purposes", "Cm ", &want);
    WIRE_STATES(X)
    assert_items("States", "Cm ", &want);
#undef X
#define X(symbol, number, name, operation) \
    put_item(&want, name, number, wire_operation_name(operation));
    WIRE_ALGORITHMS(X)
    assert_items("Algorithms", "Cm ", &want);
#undef X
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        put_item(&want, err_name(classes[i]), classes[i], "");
    assert_items("Classes", "Cm ", &want);
}

// The section with the numbers of a field.
static const char *section_of(const char *field)
{
    static const char *const sections[][2] = {
        {"algorithm", "Algorithms"}, {"hash", "Hashes"},    {"mgf-hash", "Hashes"},
        {"form", "Forms"},           {"type", "Key types"}, {"purpose", "Purposes"},
        {"state", "States"},
    };
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        if (strcmp(sections[i][0], field) == 0)
            return sections[i][1];
    }
    fail_msg("no section for the numbers of %s", field);
    return NULL;
}

static void put_field(struct buf *want, const struct wire_field *field)
{
    enum err err = ERR_BUG;
    switch (field->type) {
    case WIRE_FIELD_UINT:
        if (field->name_of)
            err =
                buf_printf(want, "Va %s Pq uint , see %s\n", field->name, section_of(field->name));
        else
            err =
                buf_printf(want, "Va %s Pq uint , %u to %u\n", field->name, field->min, field->max);
        break;
    case WIRE_FIELD_BOOL:
        err = buf_printf(want, "Va %s Pq uint , 0 or 1\n", field->name);
        break;
    case WIRE_FIELD_NAME:
        err =
            buf_printf(want, "Va %s Pq str , name%s\n", field->name, field->min ? "" : " or empty");
        break;
    case WIRE_FIELD_BIN:
        err = buf_printf(want, "Va %s Pq bin , %u to %u bytes\n", field->name, field->min,
                         field->max);
        break;
    case WIRE_FIELD_UNWRAPPED:
        err = buf_printf(want, "Va %s Pq bin , %u to %u bytes\n", field->name,
                         field->min + WIRE_LENGTH_SIZE, field->max + WIRE_LENGTH_SIZE);
        break;
    }
    assert_int_equal(err, ERR_OK);
}

static void assert_fields(const char *of, enum wire_operation operation, struct wire_fields fields)
{
    char section[100];
    struct buf want;
    buf_init(&want, TEXT_MAX);
    assert_true(fields.count > 0);
    for (size_t i = 0; i < fields.count; i++)
        put_field(&want, &fields.rows[i]);
    snprintf(section, sizeof section, "%s %s", of, wire_operation_name(operation));
    assert_items(section, "Va ", &want);
}

static void test_fields(void **state)
{
    (void)state;
#define X(symbol, number, name, rest)                                 \
    assert_fields("Request of", symbol, wire_request_fields(symbol)); \
    assert_fields("Reply to", symbol, wire_reply_fields(symbol));
    WIRE_OPERATIONS(X)
#undef X
}

static void test_limits(void **state)
{
    struct buf header;
    struct buf want;
    (void)state;
    buf_init(&header, TEXT_MAX);
    buf_init(&want, TEXT_MAX);
    assert_int_equal(file_read(HEADER, &header, NULL), ERR_OK);
    for (const char *at = buf_text(&header); (at = strstr(at, "#define WIRE_")) != NULL; at++) {
        char name[60];
        unsigned number = 0;
        if (sscanf(at, "#define %59[A-Z_] %u", name, &number) == 2)
            assert_int_equal(buf_printf(&want, "Dv %s Pq %u\n", name, number), ERR_OK);
    }
    assert_items("Limits", "Dv ", &want);
    buf_clear(&header);
}

// The bytes of an example: the hexadecimal digits before the first two spaces of each line.
static void assert_example(const char *section, struct buf *frame)
{
    struct buf lines;
    struct buf digits;
    struct buf want;
    buf_init(&lines, TEXT_MAX);
    buf_init(&digits, TEXT_MAX);
    buf_init(&want, TEXT_MAX);
    put_lines(&lines, section, "");
    const char *at = strstr(buf_text(&lines), ".Bd -literal\n");
    assert_non_null(at);
    at += strlen(".Bd -literal\n");
    for (; *at && *at != '.'; at += strcspn(at, "\n") + 1) {
        for (const char *c = at; *c != '\n' && strncmp(c, "  ", 2) != 0; c++) {
            if (*c != ' ')
                assert_int_equal(buf_put(&digits, c, 1), ERR_OK);
        }
    }
    assert_int_equal(text_put_hex(&want, buf_bytes(frame)), ERR_OK);
    assert_string_equal(buf_text(&digits), buf_text(&want));
    buf_clear(&lines);
    buf_clear(&digits);
    buf_clear(&want);
    buf_clear(frame);
}

static void test_examples(void **state)
{
    uint8_t digest[HASH_SIZE_MAX];
    struct buf frame;
    (void)state;
    buf_init(&frame, WIRE_FRAME_MAX);
    assert_int_equal(hash_digest(HASH_SHA256, BYTES_LITERAL("abc"), digest), ERR_OK);
    struct wire_request request = {
        .operation = WIRE_SIGN,
        .id = 0x0123456789abcdef,
        .sign =
            {
                .key = BYTES_LITERAL("general-ec"),
                .algorithm = WIRE_ECDSA,
                .hash = HASH_SHA256,
                .form = WIRE_DIGEST,
                .data = bytes_of(digest, hash_size(HASH_SHA256)),
            },
    };
    struct wire_reply reply = {
        .id = request.id,
        .signature = BYTES_LITERAL("\x30\x06\x02\x01\x01\x02\x01\x02"),
    };
    assert_int_equal(wire_encode_request(&request, &frame), ERR_OK);
    assert_example("Example request", &frame);
    assert_int_equal(wire_encode_reply(WIRE_SIGN, &reply, &frame), ERR_OK);
    assert_example("Example reply", &frame);
    reply.class = ERR_DENIED;
    assert_int_equal(wire_encode_reply(WIRE_SIGN, &reply, &frame), ERR_OK);
    assert_example("Example refusal", &frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_examples),
    };
    return cmocka_run_group_tests(tests, read_page, free_page);
}
