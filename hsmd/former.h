// SPDX-License-Identifier: Apache-2.0
// Where in the text of an hsmd.conf the sections of the former configuration are (key, audit-key,
// client, grant), by libConfuse's own rules of quotes, comments and braces; and the text without
// them. The text is one that libConfuse has parsed well. Pure.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

struct former {
    size_t begin, end; // of the section in the text, from its name to its closing brace
    unsigned line;     // where it begins, from 1
    size_t at;         // where the search goes on
    unsigned at_line;
};

// The next one; the first of a zeroed struct. False: no more.
bool former_next(struct bytes text, struct former *former);

// Appends the text with these sections made comments, "# " in front of each of their lines; every
// other byte stays. What stands behind one on its last line gets a line of its own. Results of
// buf_put.
enum err former_comment_out(struct bytes text, struct buf *out);
