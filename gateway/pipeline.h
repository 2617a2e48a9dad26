// SPDX-License-Identifier: Apache-2.0
// The way of one message, the same for sealgated and `sealgate process`: message and envelope in,
// verdict and resulting messages out.
#pragma once

#include "gateway/gateway.h"
#include "gateway/message.h"
#include "gateway/verdict.h"

enum direction {
    DIRECTION_OUTBOUND, // sign, encrypt
    DIRECTION_INBOUND,  // decrypt, verify
};

struct request {
    enum direction direction;
    struct envelope envelope;
    const struct message *message;
    const char *profile; // outbound; NULL: the configuration's; "none": leave the message alone
    const char *id;      // for the log: queue id, or NULL
};

struct outcome_copy {
    struct message *message; // owned; NULL: the message as it came
    size_t *recipients;      // indexes into the envelope's; owned
    size_t recipient_count;
    bool is_protected; // encrypted or signed here
};

struct outcome {
    struct verdict verdict;
    struct outcome_copy *copies; // owned; encrypted ones first; none unless the verdict is deliver
    size_t copy_count;
    char note[400]; // for the log and people: profile and signer, or what verification said
    enum err err;   // a failure of ours that the verdict comes from
    struct detail why;
};

// Any thread. Fails by its verdict only.
void pipeline_run(struct gateway *gateway, const struct request *request, struct outcome *outcome);
// A failure, here or on the way to the MTA, becomes the verdict.
void outcome_fail(struct outcome *outcome, enum err err, const struct detail *why);
// The one line about a message, when all is done.
void pipeline_log(const struct request *request, const struct outcome *outcome);
void outcome_clear(struct outcome *outcome);

// The two ways, for pipeline.c. On failure outcome may be partly filled and is to be cleared.
enum err outbound_run(struct gateway *gateway, const struct request *request,
                      struct outcome *outcome, struct detail *detail);
enum err inbound_run(struct gateway *gateway, const struct request *request,
                     struct outcome *outcome, struct detail *detail);

// For these: appends a copy with room for all recipients and none in it. NULL: out of memory.
struct outcome_copy *outcome_add(struct outcome *outcome, size_t recipient_room);
