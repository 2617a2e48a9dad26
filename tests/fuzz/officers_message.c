// SPDX-License-Identifier: Apache-2.0
// A message that decodes encodes, and decodes and encodes to the same again. The first byte says
// whether it is a request (0) or a reply.
#include <stdlib.h>

#include "hsmd/officers/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool put_again(bool is_request, struct bytes frame, struct buf *out)
{
    struct message_request request = {0};
    struct message_reply reply = {0};
    struct detail detail = {0};
    if (is_request) {
        if (message_decode_request(frame, &request, &detail) == ERR_OK)
            return message_encode_request(&request, out, NULL) == ERR_OK || (abort(), false);
    } else if (message_decode_reply(frame, &reply, &detail) == ERR_OK) {
        return message_encode_reply(&reply, out) == ERR_OK || (abort(), false);
    }
    if (!detail.text[0] || request.operation || reply.body.len)
        abort();
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf first;
    struct buf second;
    if (size == 0)
        return 0;
    buf_init(&first, MESSAGE_REPLY_MAX);
    buf_init(&second, MESSAGE_REPLY_MAX);
    if (put_again(data[0] == 0, bytes_of(data + 1, size - 1), &first)) {
        if (first.len > size - 1 || !put_again(data[0] == 0, buf_bytes(&first), &second) ||
            !bytes_equal(buf_bytes(&first), buf_bytes(&second)))
            abort();
    }
    buf_clear(&first);
    buf_clear(&second);
    return 0;
}
