// SPDX-License-Identifier: Apache-2.0
// An act that decodes encodes to the same bytes, can be explained in ASCII without anything that a
// terminal would obey, and put in JSON.
#include <stdlib.h>
#include <string.h>

#include "tests/support/act_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lines(struct bytes text, bool is_one_line)
{
    for (size_t i = 0; i < text.len; i++) {
        bool is_end = text.data[i] == '\n' && !is_one_line;
        if (!is_end && (text.data[i] < ' ' || text.data[i] >= 0x7f))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct act act = {0};
    struct detail detail = {0};
    struct buf out;
    struct bytes input = bytes_of(data, size);
    if (act_decode(input, &act, &detail) != ERR_OK) {
        if (!detail.text[0] || act.kind)
            abort();
        return 0;
    }
    buf_init(&out, ACT_EXPLANATION_MAX);
    if (act_encode(&act, &out, NULL) != ERR_OK || !bytes_equal(buf_bytes(&out), input))
        abort();
    buf_reset(&out);
    if (act_explain(&act, &out) != ERR_OK || !out.len || out.data[out.len - 1] != '\n')
        abort();
    check_lines(buf_bytes(&out), false);
    buf_clear(&out);
    buf_init(&out, ACT_SUMMARY_MAX);
    if (act_summary(&act, &out) != ERR_OK || !out.len)
        abort();
    check_lines(buf_bytes(&out), true);
    buf_clear(&out);
    json_t *json = act_json(&act);
    if (!json || !json_object_get(json, "kind"))
        abort();
    json_decref(json);
    return 0;
}
