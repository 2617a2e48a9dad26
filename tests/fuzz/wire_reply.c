// SPDX-License-Identifier: Apache-2.0
// A reply that decodes must encode, and decode to the same again. The first byte is the operation.
#include <stdlib.h>

#include "tests/support/wire_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_reply first = {0};
    struct wire_reply second = {0};
    struct detail detail = {0};
    struct buf frame;
    if (size == 0)
        return 0;
    enum wire_operation operation = (enum wire_operation)data[0];
    struct bytes input = bytes_of(data + 1, size - 1);
    if (wire_decode_reply(operation, input, &first, &detail) != ERR_OK) {
        if (!detail.text[0])
            abort();
        return 0;
    }
    buf_init(&frame, WIRE_FRAME_MAX);
    if (wire_encode_reply(operation, &first, &frame) != ERR_OK || frame.len > input.len ||
        wire_decode_reply(operation, buf_bytes(&frame), &second, NULL) != ERR_OK ||
        !sample_reply_equal(operation, &first, &second))
        abort();
    buf_clear(&frame);
    return 0;
}
