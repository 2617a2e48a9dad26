// SPDX-License-Identifier: Apache-2.0
// Reads one line of the audit log back, strictly: the fields that are known, in their order, each
// once, written exactly as hsmd writes them. What passes is the line that hsmd would have written.
#pragma once

#include "hsmd/audit/audit.h"

struct audit_line {
    uint64_t seq;
    enum audit_event event;
    struct bytes fields[AUDIT_FIELD_COUNT]; // as in the line, without quotes; NULL data: absent
};

// line without its line end; the fields point into it. ERR_PERM: the detail says what is wrong.
enum err audit_parse(struct bytes line, struct audit_line *out, struct detail *detail);

// A number field's value, hex and base64 decoded, a text's escapes undone. Each only for a field of
// that kind that audit_parse has passed.
uint64_t audit_field_number(struct bytes field);
enum err audit_field_hex(struct bytes field, struct buf *out);
enum err audit_field_base64(struct bytes field, struct buf *out);
enum err audit_field_text(struct bytes field, struct buf *out);
