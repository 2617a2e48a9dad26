// SPDX-License-Identifier: Apache-2.0
// The client's ZMTP against a server that says what a test wants: every state, every field.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/curve.h"
#include "hsmd/zmtp/zmtp.h"
#include "tests/support/zmtp_server.h"
#include "zmtp_faults.h"
#include "zmtp_pieces.h"

#define FRAME_MAX 1000
#define ROOM 65536

static const struct zmtp_keys keys = {ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET};

struct play {
    struct zmtp *client;
    struct zmtp_server server;
    struct buf from_client; // with memory from the start: mem_fail_at is meant for the client
    struct buf from_server;
    struct buf received;
    size_t piece; // of what is fed; 0: all at once
};

static void open_play(struct play *play, size_t piece)
{
    struct buf *bufs[] = {&play->from_client, &play->from_server, &play->received};
    uint8_t *place = NULL;
    *play = (struct play){.piece = piece};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) {
        buf_init(bufs[i], ROOM);
        assert_int_equal(buf_reserve(bufs[i], ROOM, &place), ERR_OK);
        buf_reset(bufs[i]);
    }
    zmtp_server_init(&play->server, ZMTP_SERVER_SECRET);
    assert_int_equal(zmtp_new(&keys, FRAME_MAX, &play->client, NULL), ERR_OK);
}

static void close_play(struct play *play)
{
    zmtp_free(play->client);
    buf_clear(&play->from_client);
    buf_clear(&play->from_server);
    buf_clear(&play->received);
}

// Feeds what the server has made. The last piece's result.
static enum err feed(struct play *play)
{
    return feed_pieces(play->client, &play->from_server, play->piece);
}

// Takes all output, as a socket that has room for one piece at a time.
static struct bytes collect(struct play *play)
{
    buf_reset(&play->from_client);
    for (struct bytes out; (out = zmtp_output(play->client)).len;) {
        size_t len = play->piece && play->piece < out.len ? play->piece : out.len;
        assert_int_equal(buf_put(&play->from_client, out.data, len), ERR_OK);
        zmtp_written(play->client, len);
    }
    return buf_bytes(&play->from_client);
}

static enum err step_greeting(struct play *play)
{
    zmtp_server_greeting("CURVE", &play->from_server);
    return feed(play);
}

static enum err step_welcome(struct play *play)
{
    struct bytes out = collect(play);
    assert_int_equal(out.len, ZMTP_GREETING_SIZE + ZMTP_HELLO_SIZE);
    assert_true(zmtp_server_take_greeting(bytes_of(out.data, ZMTP_GREETING_SIZE)));
    assert_true(zmtp_server_take_hello(&play->server,
                                       bytes_of(out.data + ZMTP_GREETING_SIZE, ZMTP_HELLO_SIZE)));
    zmtp_server_welcome(&play->server, &play->from_server);
    return feed(play);
}

static enum err step_ready(struct play *play)
{
    uint8_t client[CURVE_KEY_SIZE];
    assert_true(zmtp_server_take_initiate(&play->server, collect(play)));
    assert_true(curve_decode(ZMTP_CLIENT_PUBLIC, client));
    assert_memory_equal(play->server.client, client, sizeof client);
    zmtp_server_ready(&play->server, &play->from_server);
    return feed(play);
}

// Stops where an error is, or the state is reached.
static enum err advance(struct play *play, enum zmtp_state state)
{
    static const struct {
        enum zmtp_state from;
        enum err (*step)(struct play *);
    } steps[] = {
        {ZMTP_GREETING, step_greeting}, {ZMTP_WELCOME, step_welcome}, {ZMTP_INITIATE, step_ready}};
    enum err err = ERR_OK;
    for (unsigned i = 0; i < 3 && steps[i].from < state && err == ERR_OK; i++) {
        assert_int_equal(zmtp_state(play->client), steps[i].from);
        err = steps[i].step(play);
    }
    return err;
}

static enum err receive(struct play *play, bool *is_there)
{
    buf_reset(&play->received);
    return zmtp_receive(play->client, &play->received, is_there);
}

static void assert_receives(struct play *play, struct bytes content)
{
    bool is_there = false;
    assert_int_equal(receive(play, &is_there), ERR_OK);
    assert_true(is_there);
    assert_true(bytes_equal(buf_bytes(&play->received), content));
}

static void assert_receives_nothing(struct play *play)
{
    bool is_there = true;
    assert_int_equal(receive(play, &is_there), ERR_OK);
    assert_false(is_there);
    assert_int_equal(play->received.len, 0);
}

static const uint8_t pattern[4 * FRAME_MAX] = {1, 2, 3, 250, 251, 252};

static void test_talks(void **state)
{
    static const size_t pieces[] = {0, 1, 7};
    static const size_t sizes[] = {0, 1, 221, 222, 223, 224, FRAME_MAX};
    (void)state;
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        struct play play;
        open_play(&play, pieces[p]);
        assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
        assert_int_equal(collect(&play).len, 0);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct bytes content = bytes_of(pattern, sizes[i]);
            assert_int_equal(zmtp_send(play.client, content), ERR_OK);
            buf_reset(&play.received);
            assert_true(zmtp_server_take_message(&play.server, collect(&play), &play.received));
            assert_true(bytes_equal(buf_bytes(&play.received), content));
            zmtp_server_message(&play.server, 0, content, &play.from_server);
            play.server.sent += i; // they need only grow
            assert_receives_nothing(&play);
            assert_int_equal(feed(&play), ERR_OK);
            assert_receives(&play, content);
            assert_receives_nothing(&play);
        }
        close_play(&play);
    }
}

// It has no bound of its own on what it sends.
static void test_sends_more_than_it_takes(void **state)
{
    struct play play;
    (void)state;
    open_play(&play, 0);
    assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
    assert_int_equal(zmtp_send(play.client, bytes_of(pattern, sizeof pattern)), ERR_OK);
    assert_true(zmtp_server_take_message(&play.server, collect(&play), &play.received));
    assert_int_equal(play.received.len, sizeof pattern);
    close_play(&play);
}

static void test_takes_several_at_once(void **state)
{
    struct play play;
    (void)state;
    open_play(&play, 0);
    assert_int_equal(advance(&play, ZMTP_INITIATE), ERR_OK);
    assert_true(zmtp_server_take_initiate(&play.server, collect(&play)));
    zmtp_server_ready(&play.server, &play.from_server); // and at once, with it
    zmtp_server_message(&play.server, 0, BYTES_LITERAL("first"), &play.from_server);
    zmtp_server_message(&play.server, 0, BYTES_LITERAL(""), &play.from_server);
    zmtp_server_message(&play.server, 0, BYTES_LITERAL("third"), &play.from_server);
    play.from_server.len--; // whose last byte comes later
    uint8_t last = play.from_server.data[play.from_server.len];
    assert_int_equal(feed(&play), ERR_OK);
    assert_receives(&play, BYTES_LITERAL("first"));
    assert_receives(&play, BYTES_LITERAL(""));
    assert_receives_nothing(&play);
    assert_int_equal(zmtp_feed(play.client, bytes_of(&last, 1)), ERR_OK);
    assert_receives(&play, BYTES_LITERAL("third"));
    assert_receives_nothing(&play);
    close_play(&play);
}

// Nobody takes the messages: what is kept of them has a bound.
static void test_bounds_what_is_not_taken(void **state)
{
    struct play play;
    enum err err = ERR_OK;
    size_t fed = 0;
    (void)state;
    open_play(&play, 0);
    assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
    for (; err == ERR_OK && fed < 1000 * FRAME_MAX; fed += FRAME_MAX) {
        zmtp_server_message(&play.server, 0, bytes_of(pattern, FRAME_MAX), &play.from_server);
        err = feed(&play);
    }
    assert_int_equal(err, ERR_PERM);
    assert_int_equal(zmtp_state(play.client), ZMTP_MALFORMED);
    close_play(&play);
}

static void test_keeps_one_for_the_end_of_the_handshake(void **state)
{
    static const struct bytes kept[] = {{(const uint8_t *)"kept", 4}, {NULL, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        static const enum zmtp_state states[] = {ZMTP_GREETING, ZMTP_WELCOME, ZMTP_INITIATE};
        for (size_t when = 0; when < sizeof states / sizeof *states; when++) {
            struct play play;
            open_play(&play, 0);
            assert_int_equal(advance(&play, states[when]), ERR_OK);
            assert_int_equal(zmtp_send(play.client, kept[i]), ERR_OK);
            assert_int_equal(zmtp_send(play.client, BYTES_LITERAL("more")), ERR_BUG);
            close_play(&play);

            open_play(&play, 0);
            assert_int_equal(zmtp_send(play.client, kept[i]), ERR_OK);
            assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
            assert_true(zmtp_server_take_message(&play.server, collect(&play), &play.received));
            assert_true(bytes_equal(buf_bytes(&play.received), kept[i]));
            close_play(&play);
        }
    }
}

static void make_fault(const struct fault *fault, struct play *play)
{
    struct buf *out = &play->from_server;
    struct zmtp_server *server = &play->server;
    struct zmtp_server other;
    struct bytes text = bytes_of_text(fault->text ? fault->text : "");
    switch (fault->kind) {
    case FAULT_GREETING:
        zmtp_server_greeting(fault->text ? fault->text : "CURVE", out);
        break;
    case FAULT_RAW:
        assert_int_equal(buf_put(out, text.data, fault->len ? fault->len : text.len), ERR_OK);
        break;
    case FAULT_OTHER_WELCOME:
        zmtp_server_init(&other, ZMTP_CLIENT_SECRET);
        memcpy(other.client_transient, server->client_transient, 32);
        server = &other;
        // fall through
    case FAULT_WELCOME:
        zmtp_server_welcome(server, out);
        break;
    case FAULT_READY:
        zmtp_server_ready(server, out);
        break;
    case FAULT_ERROR:
        zmtp_server_error(fault->text, out);
        break;
    case FAULT_MESSAGE:
        zmtp_server_message(server, fault->flags, bytes_of(pattern, fault->len), out);
        break;
    case FAULT_SEALED:
        zmtp_server_sealed(server, fault->flags, fault->text, fault->prefix,
                           bytes_of(pattern, fault->len), out);
        break;
    }
}

// Brings about what the row says, and returns whether the client told it as the row does.
static bool tells_fault(const struct fault *fault, size_t piece)
{
    struct play play;
    bool is_there = false;
    open_play(&play, piece);
    assert_int_equal(advance(&play, fault->from), ERR_OK);
    if (fault->from == ZMTP_WELCOME)
        assert_true(zmtp_server_take_hello(
            &play.server, bytes_of(collect(&play).data + ZMTP_GREETING_SIZE, ZMTP_HELLO_SIZE)));
    if (fault->from == ZMTP_INITIATE)
        assert_true(zmtp_server_take_initiate(&play.server, collect(&play)));
    play.server.sent = fault->sent ? fault->sent : play.server.sent;
    make_fault(fault, &play);
    if (fault->cut) // the header's length is right, for those that are cut or longer
        play.from_server.len = (size_t)((ptrdiff_t)play.from_server.len + fault->cut);
    if (fault->cut)
        play.from_server.data[1] = (uint8_t)(play.from_server.len - 2);
    play.from_server.data[fault->at] ^= fault->flip;
    enum err err = feed(&play);
    if (fault->from == ZMTP_READY) {
        assert_int_equal(err, ERR_OK);
        err = receive(&play, &is_there);
    }
    bool ok = err == ERR_PERM && zmtp_state(play.client) == fault->to && !is_there &&
              play.received.len == 0;
    if (!ok)
        print_error("%s: class %s, state %u\n", fault->name, err_name(err),
                    zmtp_state(play.client));
    close_play(&play);
    return ok;
}

static void test_tells_what_is_wrong(void **state)
{
    unsigned wrong = 0;
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        wrong += !tells_fault(&faults[i], 0);
        wrong += !tells_fault(&faults[i], 1);
    }
    assert_int_equal(wrong, 0);
}

// There is no byte that the client does not look at.
static void test_notices_every_flipped_byte(void **state)
{
    static const struct {
        enum fault_kind kind;
        enum zmtp_state from;
        enum zmtp_state to;
        size_t len;
    } rows[] = {{FAULT_WELCOME, ZMTP_WELCOME, ZMTP_UNTRUSTED, ZMTP_WELCOME_SIZE},
                {FAULT_READY, ZMTP_INITIATE, ZMTP_UNTRUSTED, 2 + 6 + 8 + 16 + 35},
                {FAULT_MESSAGE, ZMTP_READY, ZMTP_MALFORMED, 2 + 8 + 8 + 16 + 1 + 5}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t at = 0; at < rows[i].len; at++) {
            if (at == 1) // a length: it would wait for more
                continue;
            const struct fault fault = {.name = "flipped",
                                        .kind = rows[i].kind,
                                        .from = rows[i].from,
                                        .to = rows[i].to,
                                        .at = at,
                                        .flip = 0x80,
                                        .len = rows[i].kind == FAULT_MESSAGE ? 5 : 0};
            if (!tells_fault(&fault, 0))
                fail_msg("byte %zu of row %zu", at, i);
        }
    }
}

static void test_takes_no_message_twice(void **state)
{
    static const uint64_t again[] = {0, 1, 2, 7}; // what was READY's, what was a message's
    (void)state;
    for (size_t i = 0; i < sizeof again / sizeof *again; i++) {
        struct play play;
        bool is_there = false;
        open_play(&play, 0);
        assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
        play.server.sent = 6;
        zmtp_server_message(&play.server, 0, BYTES_LITERAL("once"), &play.from_server);
        assert_int_equal(feed(&play), ERR_OK);
        assert_receives(&play, BYTES_LITERAL("once"));
        play.server.sent = again[i] - 1;
        zmtp_server_message(&play.server, 0, BYTES_LITERAL("once"), &play.from_server);
        assert_int_equal(feed(&play), ERR_OK);
        assert_int_equal(receive(&play, &is_there), ERR_PERM);
        assert_int_equal(zmtp_state(play.client), ZMTP_MALFORMED);
        assert_int_equal(play.received.len, 0);
        close_play(&play);
    }
}

// What is over the caller's own cap is told, and nothing of it is left in out.
static void test_respects_the_cap_of_out(void **state)
{
    struct play play;
    struct buf small;
    bool is_there = true;
    (void)state;
    buf_init(&small, 10);
    open_play(&play, 0);
    assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
    zmtp_server_message(&play.server, 0, bytes_of(pattern, 11), &play.from_server);
    assert_int_equal(feed(&play), ERR_OK);
    assert_int_equal(zmtp_receive(play.client, &small, &is_there), ERR_PERM);
    assert_false(is_there);
    assert_int_equal(small.len, 0);
    buf_clear(&small);
    close_play(&play);
}

// A talk in which the client's n-th allocation fails; false: it did not come to n of them.
static bool is_out_of_memory(unsigned n)
{
    struct play play;
    struct buf received;
    bool is_there = false;
    open_play(&play, 0);
    zmtp_free(play.client);
    play.client = NULL;
    buf_init(&received, ROOM);
    mem_fail_at(n);
    enum err err = zmtp_new(&keys, FRAME_MAX, &play.client, NULL);
    if (err == ERR_OK)
        err = zmtp_send(play.client, bytes_of(pattern, 300));
    if (err == ERR_OK)
        err = advance(&play, ZMTP_READY);
    if (err == ERR_OK)
        err = zmtp_send(play.client, bytes_of(pattern, 3000));
    if (err == ERR_OK) {
        zmtp_server_message(&play.server, 0, bytes_of(pattern, FRAME_MAX), &play.from_server);
        err = feed(&play);
    }
    if (err == ERR_OK)
        err = zmtp_receive(play.client, &received, &is_there);
    mem_fail_at(0);
    assert_true(err == ERR_OK || err == ERR_TEMP);
    assert_true((err == ERR_OK) == is_there);
    buf_clear(&received);
    close_play(&play);
    return err != ERR_OK;
}

static void test_survives_failing_allocations(void **state)
{
    unsigned failed = 0;
    (void)state;
    for (unsigned n = 1; n <= 60; n++)
        failed += is_out_of_memory(n);
    assert_in_range(failed, 6, 50);
}

static void test_knows_keys(void **state)
{
    static const struct zmtp_keys bad[] = {
        {"short", ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET},
        {ZMTP_SERVER_PUBLIC, "\"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf", ZMTP_CLIENT_SECRET},
        {ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ""},
        // The point 0, with which every secret is shared.
        {"0000000000000000000000000000000000000000", ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct zmtp *client = NULL;
        struct detail detail = {0};
        assert_int_equal(zmtp_new(&bad[i], FRAME_MAX, &client, &detail), ERR_PERM);
        assert_null(client);
        assert_string_not_equal(detail.text, "");
    }
    assert_true(zmtp_is_pair(ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET));
    assert_true(zmtp_is_pair(ZMTP_SERVER_PUBLIC, ZMTP_SERVER_SECRET));
    assert_false(zmtp_is_pair(ZMTP_CLIENT_PUBLIC, ZMTP_SERVER_SECRET));
    assert_false(zmtp_is_pair(ZMTP_CLIENT_SECRET, ZMTP_CLIENT_PUBLIC));
    assert_false(zmtp_is_pair("", ZMTP_CLIENT_SECRET));
    assert_false(zmtp_is_pair(ZMTP_CLIENT_PUBLIC, "no key"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talks),
        cmocka_unit_test(test_sends_more_than_it_takes),
        cmocka_unit_test(test_takes_several_at_once),
        cmocka_unit_test(test_bounds_what_is_not_taken),
        cmocka_unit_test(test_keeps_one_for_the_end_of_the_handshake),
        cmocka_unit_test(test_tells_what_is_wrong),
        cmocka_unit_test(test_notices_every_flipped_byte),
        cmocka_unit_test(test_takes_no_message_twice),
        cmocka_unit_test(test_respects_the_cap_of_out),
        cmocka_unit_test(test_survives_failing_allocations),
        cmocka_unit_test(test_knows_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
