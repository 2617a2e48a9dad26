// SPDX-License-Identifier: Apache-2.0
// Bytes on their way to one half of ZMTP, as a socket may bring them.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "hsmd/zmtp/zmtp.h"

// Feeds what is in in, and empties it. piece: how many bytes at a time; 0: all. The last piece's
// result.
static inline enum err feed_pieces(struct zmtp *zmtp, struct buf *in, size_t piece)
{
    enum err err = ERR_OK;
    piece = piece ? piece : in->len;
    for (size_t at = 0; at < in->len && err == ERR_OK; at += piece) {
        // Exactly as long as the piece, so that a sanitizer sees a read past the end.
        size_t len = in->len - at < piece ? in->len - at : piece;
        uint8_t *data = malloc(len);
        memcpy(data, in->data + at, len);
        err = zmtp_feed(zmtp, bytes_of(data, len));
        free(data);
    }
    buf_reset(in);
    return err;
}
