// SPDX-License-Identifier: Apache-2.0
// The making of 7-bit entities, for mime_make_entity and mime_unwrap.
#pragma once

#include "gateway/mime_part.h"
#include "gateway/spool.h"
#include "hsmd/base/err.h"

// Writes the part as 7-bit lines that end with CRLF, as mime_make_entity says. ERR_PERM: it cannot
// be made so.
enum err mime_entity_put(struct spool *out, const struct mime_part *part, struct detail *detail);
