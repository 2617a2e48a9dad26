// SPDX-License-Identifier: Apache-2.0
// Frames into hsmd's core, with keys in memory. The first byte says who sends it.
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/support/custodian.h"

#define CALLS_PER_LOG 10000

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct custodian custodian;

static void end(void)
{
    custodian_teardown(&custodian);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    custodian_setup(&custodian);
    atexit(end);
    return 0;
}

// A log of millions of lines would fill the disk.
static void begin_new_log(void)
{
    static unsigned calls;
    if (++calls % CALLS_PER_LOG)
        return;
    unlink(custodian.audit_path);
    if (audit_reopen(custodian.audit, NULL) != ERR_OK)
        abort();
}

// Strangers get nothing, everyone else a reply that can be decoded, with the id if that could be
// read; and nobody without a grant gets anything done.
static void check(enum custodian_client client, bool is_answered, struct bytes frame,
                  const struct buf *reply)
{
    struct wire_request request = {0};
    struct wire_reply decoded;
    if (is_answered != (client != CUSTODIAN_STRANGER) || (!is_answered && reply->len))
        abort();
    if (!is_answered)
        return;
    enum err err = wire_decode_request(frame, &request, NULL);
    enum wire_operation operation = err == ERR_OK ? request.operation : WIRE_LIST;
    if (wire_decode_reply(operation, buf_bytes(reply), &decoded, NULL) != ERR_OK ||
        decoded.id != request.id || decoded.class == ERR_BUG)
        abort();
    if (err != ERR_OK && decoded.class != ERR_PERM)
        abort();
    if (client == CUSTODIAN_NONE && decoded.class == ERR_OK && operation != WIRE_LIST)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf reply;
    if (size == 0)
        return 0;
    enum custodian_client client = (enum custodian_client)(data[0] % CUSTODIAN_CLIENTS);
    struct bytes frame = bytes_of(data + 1, size - 1);
    unsigned used = memstore_used();
    buf_init(&reply, WIRE_FRAME_MAX);
    bool is_answered =
        core_handle(&custodian.core, &custodian.worker, custodian.public_keys[client], frame,
                    deadline_in(60000), &reply);
    check(client, is_answered, frame, &reply);
    if (client >= CUSTODIAN_NONE && memstore_used() != used)
        abort();
    buf_wipe(&reply);
    buf_clear(&reply);
    begin_new_log();
    return 0;
}
