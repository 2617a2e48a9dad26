// SPDX-License-Identifier: Apache-2.0
// Writes the seeds of the corpora of officers_act and officers_message:
//     officers_seeds tests/fuzz/officers_act tests/fuzz/officers_message
#include <stdio.h>
#include <stdlib.h>

#include "hsmd/base/file.h"
#include "tests/support/officers_samples.h"

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

static void write_acts(const char *directory)
{
    size_t count = 0;
    const struct act_sample *samples = act_samples(&count);
    struct buf data;
    buf_init(&data, ACT_SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        struct detail detail = {0};
        buf_reset(&data);
        must(act_encode(&samples[i].act, &data, &detail), detail.text);
        write_seed(directory, samples[i].name, buf_bytes(&data));
    }
    buf_clear(&data);
}

static void write_messages(const char *directory)
{
    static const struct {
        const char *name;
        struct message_reply reply;
    } replies[] = {
        {"reply-ok", {ERR_OK, 7, {NULL, 0}, BYTES_LITERAL("{\"number\":1}")}},
        {"reply-denied", {ERR_DENIED, 7, BYTES_LITERAL("an auditor proposes nothing"), {NULL, 0}}},
    };
    struct message_request request;
    const char *name = NULL;
    struct buf data;
    buf_init(&data, MESSAGE_REQUEST_MAX);
    for (size_t i = 0; message_sample(i, &name, &request); i++) {
        buf_reset(&data);
        must(buf_put(&data, "\0", 1), name);
        must(message_encode_request(&request, &data, NULL), name);
        write_seed(directory, name, buf_bytes(&data));
    }
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        buf_reset(&data);
        must(buf_put(&data, "\1", 1), replies[i].name);
        must(message_encode_reply(&replies[i].reply, &data), replies[i].name);
        write_seed(directory, replies[i].name, buf_bytes(&data));
    }
    buf_clear(&data);
    write_seed(directory, "bomb-array32", BYTES_LITERAL("\0\xdd\x0f\xff\xff\xff\x01"));
    write_seed(directory, "bomb-bin32",
               BYTES_LITERAL("\0\x96\x01\x03\x07\x01\xc6\xff\xff\xff\xff"));
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s ACTS MESSAGES\n", argv[0]);
        return 2;
    }
    write_acts(argv[1]);
    write_messages(argv[2]);
    return 0;
}
