// SPDX-License-Identifier: Apache-2.0
// Lines and header fields in raw bytes: where they begin and end, and nothing about their meaning.
// Every part of the gateway that looks at a header looks through this one scanner, so that no two
// of them can disagree on where a header ends.
#pragma once

#include <stddef.h>

#include "gateway/spool.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

struct field {
    struct bytes name;  // without the white space that may stand before the colon
    struct bytes value; // all behind the colon, folds as they are, without the last line end
    struct bytes all;   // name to last line end (absent at the end of input)
};

// Bytes of the first line with its line end (LF); all of them if there is none.
size_t field_line_len(struct bytes rest);
// Takes the first field off rest. False: rest does not begin with one (but with an empty line, the
// body, or nothing) and is left alone. A field is RFC 5322's, white space before the colon
// tolerated.
bool field_next(struct bytes *rest, struct field *field);
bool field_is(const struct field *field, const char *name); // any case
bool field_is_content(struct bytes name);                   // begins with "Content-"
// Two names of any case, white space at their ends ignored.
bool field_name_equal(struct bytes a, struct bytes b);

// The bytes from the front on, and up to n.
struct bytes bytes_skip(struct bytes bytes, size_t n);
struct bytes bytes_first(struct bytes bytes, size_t n);

// The value for a parser: line ends and 0 bytes become spaces, white space at both ends goes.
enum err field_unfold(struct bytes value, struct buf *out);

// Copies text, each CRLF or LF written as eol; a CR alone stays.
enum err field_put_lines(struct spool *out, struct bytes text, const char *eol,
                         struct detail *detail);
