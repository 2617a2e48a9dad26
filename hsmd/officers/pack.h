// SPDX-License-Identifier: Apache-2.0
// Packing with msgpack-c, twice: first into nothing, to learn the length, then into the place of
// that length. So the buffer grows at most once, before a byte of a secret is in it. Private to
// this folder.
#pragma once

#include <msgpack.h>

#include "hsmd/base/buf.h"

void pack_uint(msgpack_packer *packer, uint64_t number);
void pack_str(msgpack_packer *packer, struct bytes text);
void pack_bin(msgpack_packer *packer, struct bytes bytes);

// Packs the whole of what; called twice, must do the same both times.
typedef void (*pack_fn)(msgpack_packer *packer, const void *what);

// Appends, or nothing. ERR_PERM: longer than max or than the buffer's cap; ERR_TEMP: out of memory.
enum err pack_put(pack_fn pack, const void *what, size_t max, struct buf *out);
