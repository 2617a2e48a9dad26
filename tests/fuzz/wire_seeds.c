// SPDX-License-Identifier: Apache-2.0
// Writes the seeds of the corpora of wire_request and wire_reply:
//     wire_seeds tests/fuzz/wire_request tests/fuzz/wire_reply
#include <stdio.h>
#include <stdlib.h>

#include "hsmd/base/file.h"
#include "tests/support/wire_samples.h"

static void must(enum err err, const char *what)
{
    if (err == ERR_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, err_name(err));
    exit(1);
}

static void write_seed(const char *directory, const char *name, struct bytes data)
{
    char path[4096];
    struct detail detail = {0};
    snprintf(path, sizeof path, "%s/%s", directory, name);
    must(file_write(path, data, 0644, &detail), detail.text);
}

// Frames that break off or claim to be huge; msgpack-c would reserve 8 GiB for the first.
static void write_bombs(const char *directory, const char *prefix)
{
    static const struct {
        const char *name;
        struct bytes frame;
    } bombs[] = {
        {"bomb-array32", BYTES_LITERAL("\xdd\x0f\xff\xff\xff\x01")},
        {"bomb-str32", BYTES_LITERAL("\x95\x01\x04\x07\xdb\xff\xff\xff\xff\x61")},
        {"bomb-bin32", BYTES_LITERAL("\x94\x01\x00\x07\xc6\xff\xff\xff\xff\x61")},
        {"bomb-map32", BYTES_LITERAL("\xdf\xff\xff\xff\xff\x01")},
        {"bomb-nested", BYTES_LITERAL("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91")},
        {"empty-array", BYTES_LITERAL("\x90")},
    };
    struct buf data;
    buf_init(&data, WIRE_FRAME_MAX);
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        buf_reset(&data);
        must(buf_put_text(&data, prefix), "memory");
        must(buf_put_bytes(&data, bombs[i].frame), "memory");
        write_seed(directory, bombs[i].name, buf_bytes(&data));
    }
    buf_clear(&data);
}

// What the samples of the operations have of other algorithms.
static void write_ed25519(const char *requests, const char *replies)
{
    struct wire_request request = sample_request(WIRE_SIGN, SAMPLE_TYPICAL);
    struct wire_reply reply = sample_reply(WIRE_DESCRIBE, SAMPLE_TYPICAL);
    uint8_t selector = WIRE_DESCRIBE;
    struct buf data;
    buf_init(&data, WIRE_FRAME_MAX + 1);
    request.sign.algorithm = WIRE_EDDSA;
    request.sign.salt = 0;
    request.sign.hash = HASH_SHA512;
    request.sign.form = WIRE_ATTRIBUTES;
    must(wire_encode_request(&request, &data), "attributes");
    write_seed(requests, "sign-ed25519-attributes", buf_bytes(&data));
    buf_reset(&data);
    request.sign.hash = HASH_NONE;
    request.sign.form = WIRE_MESSAGE;
    must(wire_encode_request(&request, &data), "message");
    write_seed(requests, "sign-ed25519-message", buf_bytes(&data));
    buf_reset(&data);
    reply.description.type = WIRE_KEY_ED25519;
    reply.description.bits = 256;
    must(buf_put(&data, &selector, 1), "description");
    must(wire_encode_reply(WIRE_DESCRIBE, &reply, &data), "description");
    write_seed(replies, "describe-ed25519", buf_bytes(&data));
    buf_clear(&data);
}

static void write_messages(enum wire_operation operation, enum sample_size size,
                           const char *requests, const char *replies)
{
    static const char *const sizes[] = {"smallest", "typical", "largest"};
    struct wire_request request = sample_request(operation, size);
    struct wire_reply reply = sample_reply(operation, size);
    uint8_t selector = (uint8_t)operation;
    char name[64];
    struct buf data;
    buf_init(&data, WIRE_FRAME_MAX + 1);
    snprintf(name, sizeof name, "%s-%s", wire_operation_name(operation), sizes[size]);
    must(wire_encode_request(&request, &data), name);
    write_seed(requests, name, buf_bytes(&data));
    buf_reset(&data);
    must(buf_put(&data, &selector, 1), name);
    must(wire_encode_reply(operation, &reply, &data), name);
    write_seed(replies, name, buf_bytes(&data));
    buf_clear(&data);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s REQUESTS REPLIES\n", argv[0]);
        return 2;
    }
    for (size_t i = 0; i < sample_operations_count; i++) {
        write_messages(sample_operations[i], SAMPLE_SMALLEST, argv[1], argv[2]);
        write_messages(sample_operations[i], SAMPLE_TYPICAL, argv[1], argv[2]);
    }
    write_ed25519(argv[1], argv[2]);
    write_bombs(argv[1], "");
    write_bombs(argv[2], "\x04");
    return 0;
}
