// SPDX-License-Identifier: Apache-2.0
// A message as it came: header fields in order with their exact text, and the body's exact bytes.
// Nothing is re-serialised here: what is not changed on purpose leaves as it came.
#pragma once

#include <stddef.h>

#include "gateway/spool.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

#define MESSAGE_HEADERS_MAX 1000           // fields
#define MESSAGE_HEADER_BYTES_MAX (1 << 20) // bytes of all fields together

struct header {
    char *name;  // may end with white space, if the message had it before the colon
    char *value; // all that stands behind the colon, with its leading space; folds are "\n" and
                 // white space
};

// What stood between header and body.
enum message_separator {
    MESSAGE_SEPARATOR_LINE, // an empty line; new messages have this one
    MESSAGE_SEPARATOR_CRLF, // an empty line that ended with CRLF though has_crlf is false
    MESSAGE_SEPARATOR_NONE, // nothing: the body's first line is no header field, or there is none
    MESSAGE_SEPARATOR_CUT,  // the input ended within the header's last line
};

struct message {
    struct header *headers; // owned
    size_t header_count;
    size_t header_room;
    size_t header_bytes;
    struct spool *body; // owned; line ends as they came
    bool has_crlf; // the lines of the message ended with CRLF when it was parsed (a milter's do)
    enum message_separator separator;
};

// Empty message with an empty body. NULL: out of memory.
struct message *message_new(const struct spool_conf *conf);
void message_free(struct message *message); // NULL is fine

// Appends a field. ERR_PERM: over MESSAGE_HEADERS_MAX or _BYTES_MAX.
enum err message_add_header(struct message *message, const char *name, const char *value,
                            struct detail *detail);
// Inserts a field at the top.
enum err message_prepend_header(struct message *message, const char *name, const char *value,
                                struct detail *detail);
// Removes every field of that name (any case).
void message_remove_headers(struct message *message, const char *name);
// Removes field i.
void message_remove_header_at(struct message *message, size_t i);
// The first field's value, or NULL.
const char *message_header(const struct message *message, const char *name);
bool header_is(const struct header *header, const char *name); // any case

// Reads a whole message (mbox "From " line tolerated and dropped) with CRLF or LF lines. Never
// fails for its content but by the limits above: a first line that is no header field begins the
// body.
// What was parsed and not changed is written byte for byte as it came, but for the mbox line and
// for 0 bytes in the header, which are dropped. has_crlf is set only if every line of the header
// ends with CRLF; where they are mixed the CRs stay in the values.
enum err message_parse(struct bytes raw, const struct spool_conf *conf, struct message **message,
                       struct detail *detail);
// Writes header, empty line, body, with the line ends of has_crlf in the header; the body verbatim.
enum err message_write(const struct message *message, struct spool *out, struct detail *detail);
// A deep copy of header and body.
enum err message_copy(const struct message *message, struct message **copy, struct detail *detail);
