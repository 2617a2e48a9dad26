// SPDX-License-Identifier: Apache-2.0
// The structure of MIME, as ranges of the raw bytes (RFC 2046, 5.1.1).
//
// GMime reads what the fields mean (types, parameters, comments, RFC 2231); where parts begin and
// end is found here, in one place for inspecting, splitting and making 7-bit. Signed bytes have to
// be cut out exactly, and two parsers that disagree on the cut are how a signature comes to cover
// something else than what is shown. Ranges also bound the work: no recursion but ours, which has a
// limit.
#pragma once

#include <gmime/gmime.h>

#include "gateway/message.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

struct mime_part {
    struct bytes header; // fields with their line ends
    bool has_separator;  // an empty line stood behind them
    struct bytes body;
};

struct mime_part mime_part_of(struct bytes raw);
// Of the body of a message/rfc822: an mbox "From " line before the header is left out.
struct mime_part mime_part_of_inner(struct bytes raw);
// The part that a message is: its Content-* fields but for Content-Length, rendered with CRLF into
// text (owns the header's bytes), and its body (as long as the message is not changed).
enum err mime_part_of_message(const struct message *message, struct buf *text,
                              struct mime_part *part, struct detail *detail);

// Content-*, but for Content-Length: that is of mailbox files, and wrong once a body has changed.
bool mime_is_content_field(struct bytes name);

// The boundary in an unfolded Content-Type; NULL: none. g_free'd by the caller.
char *mime_boundary_of(const char *value);

struct mime_head {
    GMimeContentType *type; // never NULL; the default if there is no field, or none that is one
    bool has_type;
    char *boundary; // or NULL
    char *filename; // of Content-Disposition, else the name of Content-Type; or NULL
    GMimeContentEncoding encoding;
    bool has_unknown_encoding;
    size_t type_count;     // Content-Type fields
    size_t encoding_count; // Content-Transfer-Encoding fields
};

// Reads a header's Content-* fields; of several of one name the first counts. in_digest: the
// default is message/rfc822 (RFC 2046, 5.1.5).
enum err mime_head_init(struct mime_head *head, struct bytes header, bool in_digest,
                        struct detail *detail);
void mime_head_clear(struct mime_head *head);
bool mime_head_is(const struct mime_head *head, const char *type, const char *subtype); // or "*"
const char *mime_head_parameter(const struct mime_head *head, const char *name);        // "": none
bool mime_head_is_message(const struct mime_head *head); // a whole message is inside, not encoded
bool mime_head_is_pkcs7_mime(const struct mime_head *head);
bool mime_head_is_pkcs7_signature(const struct mime_head *head);
bool mime_type_is_pkcs7_signature(const char *type); // "application/(x-)pkcs7-signature"

struct mime_delimiter {
    size_t begin; // with the line end before it, which belongs to it
    size_t line;  // of "--"
    size_t end;   // behind its own line end
    bool is_close;
};

// The parts of a multipart, one after the other.
struct mime_parts {
    struct bytes body;
    struct bytes boundary; // borrowed from the head; empty: none, so nothing is found
    size_t from;
};

struct mime_parts mime_parts_of(const struct mime_head *head, struct bytes body);
bool mime_parts_next_delimiter(struct mime_parts *parts, struct mime_delimiter *delimiter);
// The next part's bytes. Text before the first delimiter and behind a closing one is no part.
bool mime_parts_next(struct mime_parts *parts, struct bytes *raw);
// The bytes between two delimiters (end: NULL: up to the end of the body).
struct bytes mime_parts_between(const struct mime_parts *parts, const struct mime_delimiter *start,
                                const struct mime_delimiter *end);
