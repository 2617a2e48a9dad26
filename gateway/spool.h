// SPDX-License-Identifier: Apache-2.0
// A message body, an entity or a CMS object on its way: in memory up to a size, then in an unlinked
// file, so that nothing is left behind whatever ends the process. Has a cap.
#pragma once

#include <stddef.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

struct spool_conf {
    const char *directory; // for the unlinked files
    size_t memory_max;     // bytes kept in memory before a file is made
    size_t max;            // cap
};

struct spool;

// conf must outlive the spool. NULL: out of memory.
struct spool *spool_new(const struct spool_conf *conf);
void spool_free(struct spool *spool); // NULL is fine; plaintext in memory is wiped
size_t spool_len(const struct spool *spool);
const struct spool_conf *spool_conf(const struct spool *spool);

// Appends. ERR_PERM: over the cap (the detail says which); ERR_TEMP: disk full, out of memory.
enum err spool_put(struct spool *spool, struct bytes bytes, struct detail *detail);

// The whole content as one range of memory (a mapping, if in a file), valid until the next put or
// free.
enum err spool_view(struct spool *spool, struct bytes *view, struct detail *detail);
