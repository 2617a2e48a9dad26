// SPDX-License-Identifier: Apache-2.0
// What the tests of the MIME room share. Needs cmocka's headers before it.
#pragma once

#include <stdio.h>
#include <string.h>

#include "gateway/message.h"

static const struct spool_conf test_conf = {"/tmp", 1 << 20, 1 << 26};

static inline struct bytes view_of(struct spool *spool)
{
    struct bytes bytes;
    assert_int_equal(spool_view(spool, &bytes, NULL), ERR_OK);
    return bytes;
}

static inline struct message *parse(struct bytes raw)
{
    struct message *message = NULL;
    assert_int_equal(message_parse(raw, &test_conf, &message, NULL), ERR_OK);
    return message;
}

static inline struct spool *write_out(const struct message *message)
{
    struct spool *out = spool_new(&test_conf);
    assert_int_equal(message_write(message, out, NULL), ERR_OK);
    return out;
}

#define assert_bytes(got, want)                                                         \
    do {                                                                                \
        struct bytes got_ = (got);                                                      \
        struct bytes want_ = (want);                                                    \
        if (!bytes_equal(got_, want_))                                                  \
            fail_msg("got [%.*s]\nwant [%.*s]", (int)got_.len, (const char *)got_.data, \
                     (int)want_.len, (const char *)want_.data);                         \
    } while (0)
