// SPDX-License-Identifier: Apache-2.0
// Header fields made fit for 7-bit lines.
#pragma once

#include "gateway/field.h"
#include "gateway/spool.h"
#include "hsmd/base/err.h"

// Copies the field with CRLF line ends. Raw 8-bit text becomes encoded words or RFC 2231
// parameters, too long lines are folded; a field that needs neither keeps its bytes.
enum err mime_field_put(struct spool *out, const struct field *field, struct detail *detail);
