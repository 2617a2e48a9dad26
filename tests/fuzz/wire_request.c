// SPDX-License-Identifier: Apache-2.0
// A request that decodes must encode, and decode to the same again.
#include <stdlib.h>

#include "tests/support/wire_samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_request first = {0};
    struct wire_request second = {0};
    struct detail detail = {0};
    struct buf frame;
    if (wire_decode_request(bytes_of(data, size), &first, &detail) != ERR_OK) {
        if (!detail.text[0])
            abort();
        return 0;
    }
    buf_init(&frame, WIRE_FRAME_MAX);
    if (wire_encode_request(&first, &frame) != ERR_OK || frame.len > size ||
        wire_decode_request(buf_bytes(&frame), &second, NULL) != ERR_OK ||
        !sample_request_equal(&first, &second))
        abort();
    buf_clear(&frame);
    return 0;
}
