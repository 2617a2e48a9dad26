// SPDX-License-Identifier: Apache-2.0
// A server's bytes into the client's ZMTP. The first byte says how far a right handshake goes
// (0 to 3) before the input's own bytes come, how large the pieces are (bits 2 to 4) and, for 3,
// whether they are sealed (bit 5): then each record, a byte of the frame's flags, one of those
// inside, one of what to add to the nonce, one of the length and the content, is a message as only
// the right server can make it.
#include <stdlib.h>
#include <string.h>

#include "hsmd/zmtp/zmtp.h"
#include "tests/support/same_random.h"
#include "tests/support/zmtp_server.h"

#define FRAME_MAX 300
#define RECORD_HEAD 4

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return same_random_install();
}

struct play {
    struct zmtp *client;
    struct zmtp_server server;
    struct buf out;
    unsigned expected; // messages that are right
    uint64_t highest;  // nonce of a right one
    bool is_wrong;     // something was not
};

static void must(bool ok)
{
    if (!ok)
        abort();
}

// The states only go on, and a final one is what the class says.
static enum err feed(struct play *play, struct bytes bytes, size_t piece)
{
    enum err err = ERR_OK;
    for (size_t at = 0; at < bytes.len && err == ERR_OK; at += piece) {
        enum zmtp_state before = zmtp_state(play->client);
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        err = zmtp_feed(play->client, bytes_of(bytes.data + at, len));
        must(zmtp_state(play->client) >= before);
        must(err == ERR_PERM ? zmtp_state(play->client) > ZMTP_READY
                             : err == ERR_OK && zmtp_state(play->client) <= ZMTP_READY);
    }
    return err;
}

static void collect(struct play *play, struct bytes *out)
{
    *out = zmtp_output(play->client);
    zmtp_written(play->client, out->len); // valid until the next call
}

static const enum zmtp_state states[] = {ZMTP_GREETING, ZMTP_WELCOME, ZMTP_INITIATE, ZMTP_READY};

static void shake_hands(struct play *play, unsigned steps)
{
    struct bytes out;
    for (unsigned step = 0; step < steps; step++) {
        buf_reset(&play->out);
        collect(play, &out);
        if (step == 0)
            zmtp_server_greeting("CURVE", &play->out);
        else if (step == 1)
            zmtp_server_welcome(&play->server, &play->out);
        else
            zmtp_server_ready(&play->server, &play->out);
        must(feed(play, buf_bytes(&play->out), SIZE_MAX) == ERR_OK);
        if (step == 0) {
            out = zmtp_output(play->client);
            must(out.len == ZMTP_HELLO_SIZE && zmtp_server_take_hello(&play->server, out));
        } else if (step == 1) {
            out = zmtp_output(play->client);
            must(zmtp_server_take_initiate(&play->server, out));
        }
    }
    must(zmtp_state(play->client) == states[steps]);
}

// Reads all messages that are there, and how many; the last ends if one is wrong.
static unsigned receive(struct play *play)
{
    struct buf received;
    unsigned count = 0;
    bool is_there = true;
    buf_init(&received, FRAME_MAX);
    while (is_there) {
        buf_reset(&received);
        enum err err = zmtp_receive(play->client, &received, &is_there);
        must(err == ERR_OK || (err == ERR_PERM && zmtp_state(play->client) == ZMTP_MALFORMED));
        must(is_there || !received.len);
        count += is_there;
    }
    buf_clear(&received);
    return count;
}

// Sealed messages; the right ones before the first wrong one are received, and no other.
static void talk(struct play *play, struct bytes in, size_t piece)
{
    unsigned received = 0;
    play->highest = play->server.sent;
    while (in.len >= RECORD_HEAD) {
        uint8_t head[RECORD_HEAD];
        memcpy(head, in.data, sizeof head);
        size_t len = head[3] * 2U; // up to more than FRAME_MAX
        in = bytes_of(in.data + RECORD_HEAD, in.len - RECORD_HEAD);
        len = len < in.len ? len : in.len;
        buf_reset(&play->out);
        play->server.sent += (uint64_t)(int64_t)(int8_t)head[2];
        zmtp_server_message(&play->server, head[1], bytes_of(in.data, len), &play->out);
        play->out.data[0] ^= (uint8_t)(head[0] & ~ZMTP_FLAG_LONG);
        in = bytes_of(in.data + len, in.len - len);
        bool is_right = !(head[0] & ~ZMTP_FLAG_LONG) && !head[1] && len <= FRAME_MAX &&
                        play->server.sent > play->highest;
        if (feed(play, buf_bytes(&play->out), piece) == ERR_OK)
            received += receive(play);
        play->is_wrong |= !is_right;
        if (play->is_wrong)
            break;
        play->expected++;
        play->highest = play->server.sent;
    }
    must(received == play->expected);
    must(!play->is_wrong || zmtp_state(play->client) == ZMTP_MALFORMED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct zmtp_keys keys = {ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC,
                                          ZMTP_CLIENT_SECRET};
    static const size_t pieces[] = {SIZE_MAX, 1, 2, 3, 5, 64, 65, 100};
    struct play play = {0};
    if (size == 0)
        return 0;
    unsigned steps = data[0] & 3;
    size_t piece = pieces[data[0] >> 2 & 7];
    struct bytes in = bytes_of(data + 1, size - 1);
    same_random_restart();
    buf_init(&play.out, SIZE_MAX);
    zmtp_server_init(&play.server, ZMTP_SERVER_SECRET);
    must(zmtp_new(&keys, FRAME_MAX, &play.client, NULL) == ERR_OK);
    must(zmtp_send(play.client, BYTES_LITERAL("kept")) == ERR_OK);
    struct bytes greeting = zmtp_output(play.client);
    must(zmtp_server_take_greeting(greeting));
    zmtp_written(play.client, greeting.len);
    shake_hands(&play, steps);
    if (states[steps] == ZMTP_READY && data[0] & 32) {
        talk(&play, in, piece);
    } else if (feed(&play, in, piece) == ERR_OK) {
        // Whose keys the input cannot have: it gets no further than the next state.
        must(zmtp_state(play.client) == states[steps] ||
             (steps == 0 && zmtp_state(play.client) == ZMTP_WELCOME));
        must(receive(&play) == 0);
    }
    zmtp_free(play.client);
    buf_clear(&play.out);
    return 0;
}
