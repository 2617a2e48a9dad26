// SPDX-License-Identifier: Apache-2.0
// audit_parse and audit_verify with anything. A line that is parsed is the line that hsmd would
// write, so its parts put together are the line again; a report is the same whatever the pieces; a
// log that is good goes on from its own last line.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hsmd/audit/audit_parse.h"
#include "hsmd/audit/audit_verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void put_again(const struct audit_line *line, struct buf *out)
{
    const char *before = "{";
    for (unsigned i = 0; i < AUDIT_FIELD_COUNT; i++) {
        struct bytes value = line->fields[i];
        const char *quote = audit_field_kind((enum audit_field)i) == AUDIT_KIND_NUMBER ? "" : "\"";
        if (!value.data)
            continue;
        require(buf_printf(out, "%s\"%s\":%s%.*s%s", before, audit_field_name((enum audit_field)i),
                           quote, (int)value.len, (const char *)value.data, quote) == ERR_OK);
        before = ",";
    }
    require(buf_put_text(out, "}") == ERR_OK);
}

static void parse_lines(struct bytes text)
{
    while (text.len) {
        const uint8_t *end = memchr(text.data, '\n', text.len);
        size_t len = end ? (size_t)(end - text.data) : text.len;
        struct audit_line line;
        if (audit_parse(bytes_of(text.data, len), &line, NULL) == ERR_OK) {
            struct buf again;
            buf_init(&again, AUDIT_LINE_MAX);
            put_again(&line, &again);
            require(bytes_equal(buf_bytes(&again), bytes_of(text.data, len)));
            buf_clear(&again);
        }
        text = bytes_of(text.data + len + (end != NULL), text.len - len - (end != NULL));
    }
}

static struct audit_report verify(struct bytes text, size_t piece, const struct audit_link *former)
{
    const struct audit_expected expected = {.former = *former};
    struct audit_verify *verify = NULL;
    require(audit_verify_new(NULL, &expected, &verify, NULL) == ERR_OK);
    audit_verify_file(verify, "log");
    for (size_t at = 0; at < text.len; at += piece)
        audit_verify_put(verify,
                         bytes_of(text.data + at, text.len - at < piece ? text.len - at : piece));
    struct audit_report report = *audit_verify_end(verify);
    audit_verify_free(verify);
    return report;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct audit_link none;
    struct bytes text = bytes_of(data, size);
    parse_lines(text);
    struct audit_report whole = verify(text, size + 1, &none);
    struct audit_report pieces = verify(text, 7, &none);
    require(whole.is_bad == pieces.is_bad && whole.bad_line == pieces.bad_line &&
            whole.lines == pieces.lines && strcmp(whole.reason.text, pieces.reason.text) == 0);
    require(whole.is_bad || whole.lines > 0);
    if (!whole.is_bad) { // what was good knows itself again, and nothing else of that number
        struct audit_link other = whole.last;
        require(!verify(text, size + 1, &whole.last).is_bad);
        other.hash[0] ^= 1;
        require(verify(text, size + 1, &other).is_bad);
    }
    return 0;
}
