// SPDX-License-Identifier: Apache-2.0
// What stands in the way of text travelling as 7-bit lines, and the encodings that help.
#pragma once

#include <gmime/gmime.h>

#include "gateway/spool.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

#define MIME_LINE_MAX 998 // bytes without the line end (RFC 5322, 2.1.1)

struct mime_text {
    size_t count_8bit;
    bool has_nul;
    bool has_bare_cr;
    bool has_long_line;
    bool has_from_line;  // begins with "From ", which mailbox formats like to change
    bool has_8bit_label; // a line "Content-Transfer-Encoding: 8bit" or binary
};

struct mime_text mime_text_scan(struct bytes text);
bool mime_text_is_7bit(const struct mime_text *text);  // the first four are not there
bool mime_text_is_clean(const struct mime_text *text); // none is there

// Base64 with junk in it, quoted-printable, uuencode; everything else is copied.
enum err mime_text_decode(GMimeContentEncoding encoding, struct bytes text, struct spool *out,
                          struct detail *detail);
// As that; what is labelled as no encoding but looks like base64 of DER is decoded all the same.
enum err mime_text_decode_der(GMimeContentEncoding encoding, struct bytes text, struct spool *out,
                              struct detail *detail);
// As that, for who must know that nothing else is in the text: ERR_PERM if it is base64 with
// anything in it but its alphabet, white space and padding at the end, or uuencoded.
enum err mime_text_decode_der_strictly(GMimeContentEncoding encoding, struct bytes text,
                                       struct spool *out, struct detail *detail);
// Lines of 76 characters, each ended with eol.
enum err mime_text_put_base64(struct spool *out, struct bytes data, const char *eol,
                              struct detail *detail);
// Quoted-printable of lines (CRLF or LF), which end with CRLF then; no line begins with "From ",
// "--" or ".", so that nothing on the way takes it for something else (RFC 8551, 3.1.3).
enum err mime_text_put_qp(struct spool *out, struct bytes lines, struct detail *detail);
