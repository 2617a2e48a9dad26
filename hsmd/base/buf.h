// SPDX-License-Identifier: Apache-2.0
// Bounded byte buffers and borrowed byte strings.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/base/err.h"

// Bytes somebody else owns. data may be NULL only if len is 0.
struct bytes {
    const uint8_t *data;
    size_t len;
};

#define BYTES_LITERAL(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

bool bytes_equal(struct bytes a, struct bytes b);
struct bytes bytes_of(const void *data, size_t len);
struct bytes bytes_of_text(const char *text); // without the terminating 0

// A growing buffer with a cap that its creator sets; nothing is put beyond it. The content is
// always followed by a 0 byte that len does not count. Embedded: buf_init, buf_clear.
struct buf {
    uint8_t *data; // owned; NULL while empty
    size_t len;
    size_t room;
    size_t max;
};

void buf_init(struct buf *buf, size_t max);
void buf_clear(struct buf *buf);              // frees; can be used again with the same cap
void buf_reset(struct buf *buf);              // len = 0, memory kept
void buf_empty(struct buf *buf, size_t most); // len = 0, memory kept if that is at most so much
void buf_wipe(struct buf *buf); // the same, and all of the memory overwritten with zeros

struct bytes buf_bytes(const struct buf *buf);
const char *buf_text(const struct buf *buf); // "" while empty

// Each appends all or nothing. ERR_PERM: over the cap; ERR_TEMP: out of memory.
enum err buf_put(struct buf *buf, const void *data, size_t len);
enum err buf_put_bytes(struct buf *buf, struct bytes bytes);
enum err buf_put_text(struct buf *buf, const char *text);
enum err buf_put_decimal(struct buf *buf, uint64_t number);
enum err buf_printf(struct buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Appends len uninitialised bytes and gives their place, valid until the next put.
enum err buf_reserve(struct buf *buf, size_t len, uint8_t **place);
