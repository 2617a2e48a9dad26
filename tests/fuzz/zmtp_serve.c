// SPDX-License-Identifier: Apache-2.0
// A client's bytes into the server's half of ZMTP. The first byte says how far a right handshake
// goes (0 to 3) before the input's own bytes come, how large the pieces are (bits 2 to 4), whether
// the input is sealed as only a client with a key can do it (bit 5), and whether the gate is closed
// (bit 6). Sealed, it is the metadata of a right INITIATE, after 2 steps; after 3, each record, a
// byte of the frame's flags, one of those inside, one of what to add to the nonce, one of the
// length and the content, is a message.
#include <stdlib.h>
#include <string.h>

#include "hsmd/zmtp/zmtp.h"
#include "tests/support/same_random.h"
#include "tests/support/zmtp_forger.h"
#include "tests/support/zmtp_server.h"

#define FRAME_MAX 300
#define RECORD_HEAD 4
#define SEALED 32
#define CLOSED 64

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return same_random_install();
}

struct play {
    struct zmtp *server;
    struct zmtp_forger forger;
    struct buf out;
    bool is_closed;
    unsigned asked;
};

static void must(bool ok)
{
    if (!ok)
        abort();
}

static bool is_allowed(void *context, const char *public_key)
{
    struct play *play = context;
    must(strcmp(public_key, ZMTP_CLIENT_PUBLIC) == 0);
    play->asked++;
    return !play->is_closed;
}

// The states only go on, and a final one is what the class says.
static enum err feed(struct play *play, struct bytes bytes, size_t piece)
{
    enum err err = ERR_OK;
    for (size_t at = 0; at < bytes.len && err == ERR_OK; at += piece) {
        enum zmtp_state before = zmtp_state(play->server);
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        err = zmtp_feed(play->server, bytes_of(bytes.data + at, len));
        must(zmtp_state(play->server) >= before);
        must(err == ERR_PERM ? zmtp_state(play->server) > ZMTP_READY
                             : err == ERR_OK && zmtp_state(play->server) <= ZMTP_READY);
    }
    return err;
}

static struct bytes collect(struct play *play)
{
    struct bytes out = zmtp_output(play->server);
    buf_reset(&play->out);
    must(buf_put_bytes(&play->out, out) == ERR_OK);
    zmtp_written(play->server, out.len);
    return buf_bytes(&play->out);
}

static const struct bytes metadata = {
    (const uint8_t *)"\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0", 35};

static void shake_hands(struct play *play, unsigned steps)
{
    static const enum zmtp_state states[] = {ZMTP_GREETING, ZMTP_HELLO, ZMTP_INITIATE, ZMTP_READY};
    must(zmtp_forger_take_greeting(collect(play)));
    for (unsigned step = 0; step < steps; step++) {
        buf_reset(&play->out);
        if (step == 0)
            zmtp_forger_greeting("CURVE", &play->out);
        else if (step == 1)
            zmtp_forger_hello(&play->forger, &play->out);
        else
            zmtp_forger_initiate(&play->forger, metadata, &play->out);
        must(feed(play, buf_bytes(&play->out), SIZE_MAX) == ERR_OK);
        if (step == 1)
            must(zmtp_forger_take_welcome(&play->forger, collect(play)));
        else if (step == 2)
            must(zmtp_forger_take_ready(&play->forger, collect(play)));
    }
    must(zmtp_state(play->server) == states[steps]);
}

// Reads the next message, if there is one.
static bool receive(struct play *play, struct buf *received)
{
    bool is_there = false;
    buf_reset(received);
    enum err err = zmtp_receive(play->server, received, &is_there);
    must(err == ERR_OK || (err == ERR_PERM && zmtp_state(play->server) == ZMTP_MALFORMED));
    must(is_there ? err == ERR_OK : !received->len);
    return is_there;
}

// Metadata says whether the socket is one for us, and then the gate whether it may come in.
static void introduce(struct play *play, struct bytes in, size_t piece)
{
    buf_reset(&play->out);
    zmtp_forger_initiate(&play->forger, in, &play->out);
    enum err err = feed(play, buf_bytes(&play->out), piece);
    struct bytes out = collect(play);
    switch (zmtp_state(play->server)) {
    case ZMTP_READY:
        must(err == ERR_OK && play->asked == 1 && !play->is_closed);
        must(strcmp(zmtp_peer(play->server), ZMTP_CLIENT_PUBLIC) == 0);
        must(zmtp_forger_take_ready(&play->forger, out));
        must(memmem(in.data, in.len, "\13", 1) && memmem(in.data, in.len, "\0\0\0", 3));
        break;
    case ZMTP_REFUSED:
        must(play->asked == 1 && play->is_closed && zmtp_forger_take_denied(out));
        break;
    default:
        must(zmtp_state(play->server) == ZMTP_UNTRUSTED && play->asked == 0 && out.len == 0);
    }
}

// What a command is answered with: a PING with a PONG, and nothing with anything else.
static void hear(struct play *play, struct bytes command)
{
    static const struct bytes ping = {(const uint8_t *)"\4PING", 5};
    struct buf answer;
    buf_init(&answer, SIZE_MAX);
    struct bytes out = collect(play);
    bool is_ping = command.len >= ping.len + 2 && memcmp(command.data, ping.data, ping.len) == 0;
    must(is_ping ? zmtp_forger_take_command(&play->forger, out, &answer) : !out.len);
    size_t context = is_ping ? command.len - ping.len - 2 : 0;
    must(!is_ping ||
         (answer.len == ping.len + (context < 16 ? context : 16) &&
          memcmp(answer.data, "\4PONG", ping.len) == 0 &&
          memcmp(answer.data + ping.len, command.data + ping.len + 2, answer.len - ping.len) == 0));
    buf_clear(&answer);
}

// Sealed messages; the right ones before the first wrong one are received, and no other. Those of
// several frames come as one empty message.
static void talk(struct play *play, struct bytes in, size_t piece)
{
    struct buf received;
    uint64_t highest = play->forger.sent;
    bool is_right = true;
    bool is_dropping = false;
    buf_init(&received, FRAME_MAX);
    while (in.len >= RECORD_HEAD && is_right) {
        uint8_t head[RECORD_HEAD];
        memcpy(head, in.data, sizeof head);
        size_t len = head[3] * 2U; // up to more than FRAME_MAX
        in = bytes_of(in.data + RECORD_HEAD, in.len - RECORD_HEAD);
        struct bytes content = bytes_of(in.data, len < in.len ? len : in.len);
        in = bytes_of(in.data + content.len, in.len - content.len);
        buf_reset(&play->out);
        play->forger.sent += (uint64_t)(int64_t)(int8_t)head[2];
        zmtp_forger_message(&play->forger, head[1], content, &play->out);
        play->out.data[0] ^= (uint8_t)(head[0] & ~ZMTP_FLAG_LONG);
        is_right = !(head[0] & ~ZMTP_FLAG_LONG) && head[1] <= 2 && content.len <= FRAME_MAX &&
                   play->forger.sent > highest;
        highest = play->forger.sent;
        bool is_there =
            feed(play, buf_bytes(&play->out), piece) == ERR_OK && receive(play, &received);
        must(is_there == (is_right && !head[1]));
        must(!is_there ||
             bytes_equal(buf_bytes(&received), is_dropping ? (struct bytes){0} : content));
        must(zmtp_state(play->server) == (is_right ? ZMTP_READY : ZMTP_MALFORMED));
        if (is_right && head[1] == 2)
            hear(play, content);
        else
            is_dropping = head[1];
    }
    must(!receive(play, &received));
    buf_clear(&received);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 2, 3, 5, 64, 65, 100};
    struct play play = {0};
    const struct zmtp_host host = {ZMTP_SERVER_SECRET, ZMTP_SERVER_PUBLIC, is_allowed, &play};
    if (size == 0)
        return 0;
    unsigned steps = data[0] & 3;
    size_t piece = pieces[data[0] >> 2 & 7];
    struct bytes in = bytes_of(data + 1, size - 1);
    same_random_restart();
    buf_init(&play.out, SIZE_MAX);
    zmtp_forger_init(&play.forger, ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET);
    must(zmtp_serve(&host, FRAME_MAX, &play.server, NULL) == ERR_OK);
    shake_hands(&play, steps);
    play.is_closed = data[0] & CLOSED;
    if (steps == 2 && data[0] & SEALED) {
        introduce(&play, in, piece);
    } else if (steps == 3 && data[0] & SEALED) {
        talk(&play, in, piece);
    } else {
        struct buf received;
        enum zmtp_state before = zmtp_state(play.server);
        buf_init(&received, FRAME_MAX);
        (void)feed(&play, in, piece);
        // Whose keys the input cannot have: it gets no further than HELLO.
        enum zmtp_state after = zmtp_state(play.server);
        must(after == before || after > ZMTP_READY || after == ZMTP_HELLO);
        must(!receive(&play, &received) && play.asked == (steps == 3));
        buf_clear(&received);
    }
    zmtp_free(play.server);
    buf_clear(&play.out);
    return 0;
}
