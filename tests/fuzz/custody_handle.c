// SPDX-License-Identifier: Apache-2.0
// Frames into custody, with a small store and tokens in memory. The first byte says who sends them;
// with its top bit set the rest is the encoding of an act, which an officer signs and proposes: one
// of two who must agree, so nothing may come of it.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/rand.h>

#include "tests/support/council.h"

#define CALLS_PER_COUNCIL 2000
#define IS_ACT 0x80

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct council council;
static const struct registry *registry; // of the moment, held

static void begin(void)
{
    const struct act act = {.kind = ACT_KEY_GENERATE,
                            .name = BYTES_LITERAL("signing"),
                            .tokens = BYTES_LITERAL("main"),
                            .type = WIRE_KEY_EC,
                            .bits = 256,
                            .purpose = WIRE_SMIME_SIGN,
                            .algorithms = REGISTRY_ALL};
    struct act pending = act;
    pending.name = BYTES_LITERAL("waiting");
    council_setup(&council, 2);
    if (council_do(&council, &act) != ERR_OK ||
        council_propose(&council, COUNCIL_BOB, &pending, NULL) != ERR_OK)
        abort();
    registry = live_take(council.live);
}

static void end(void)
{
    live_give(council.live, registry);
    council_teardown(&council);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    begin();
    atexit(end);
    return 0;
}

// Nobody can sign for an officer by chance: the store stays as it is, byte for byte.
static void send_frame(enum council_member member, struct bytes frame)
{
    uint8_t before[HASH_SIZE_MAX];
    uint8_t after[HASH_SIZE_MAX];
    struct buf reply;
    struct message_reply decoded;
    buf_init(&reply, MESSAGE_REPLY_MAX);
    council_store_hash(&council, before);
    (void)custody_lane(council.custody, council_key(member)->public_curve, frame);
    bool is_answered = custody_handle(council.custody, council_key(member)->public_curve, frame,
                                      deadline_in(60000), &reply);
    council_store_hash(&council, after);
    if (memcmp(before, after, hash_size(HASH_SHA256)) != 0)
        abort();
    if (is_answered != (member != COUNCIL_STRANGER) || (!is_answered && reply.len))
        abort();
    if (is_answered && (message_decode_reply(buf_bytes(&reply), &decoded, NULL) != ERR_OK ||
                        decoded.class == ERR_BUG))
        abort();
    buf_clear(&reply);
}

static void propose(struct bytes encoding)
{
    struct act act;
    uint64_t number = 0;
    json_t *body = NULL;
    if (act_decode(encoding, &act, NULL) != ERR_OK)
        return;
    const struct council_proposal proposal = {
        .act = &act, .attachment = act_attachment(act.kind) == ' ' ? NULL : "1234"};
    enum err err =
        council_propose_as(&council, COUNCIL_ALICE, COUNCIL_ALICE, &proposal, &number, &body);
    json_decref(body);
    if (err == ERR_BUG)
        abort();
    if (err == ERR_OK && (strcmp(council_state(&council, number), "pending") != 0 ||
                          council_reject(&council, COUNCIL_ALICE, number) != ERR_OK))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned calls;
    if (size == 0)
        return 0;
    if (data[0] & IS_ACT)
        propose(bytes_of(data + 1, size - 1));
    else
        send_frame((enum council_member)(data[0] % COUNCIL_MEMBERS), bytes_of(data + 1, size - 1));
    const struct registry *now = live_take(council.live);
    if (now != registry || council_objects(&council) != 1)
        abort();
    live_give(council.live, now);
    // A log and a store of millions of lines would fill the disk.
    if (++calls % CALLS_PER_COUNCIL == 0) {
        end();
        begin();
    }
    return 0;
}
