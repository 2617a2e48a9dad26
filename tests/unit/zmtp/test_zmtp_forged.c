// SPDX-License-Identifier: Apache-2.0
// The server's half of ZMTP against a client that says what a test wants: every state, every field.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"
#include "hsmd/zmtp/zmtp_internal.h"
#include "zmtp_forgeries.h"
#include "zmtp_pieces.h"

#define FRAME_MAX 1000
#define ROOM 65536

struct play {
    struct zmtp *server;
    struct zmtp_forger forger;
    struct buf from_forger; // with memory from the start: mem_fail_at is meant for the server
    struct buf from_server;
    struct buf received;
    size_t piece; // of what is fed; 0: all at once
    unsigned asked;
    bool is_closed; // the gate
};

static bool is_allowed(void *context, const char *public_key)
{
    struct play *play = context;
    play->asked++;
    assert_string_equal(public_key, ZMTP_CLIENT_PUBLIC);
    return !play->is_closed;
}

static enum err serve(struct play *play)
{
    const struct zmtp_host host = {ZMTP_SERVER_SECRET, ZMTP_SERVER_PUBLIC, is_allowed, play};
    return zmtp_serve(&host, FRAME_MAX, &play->server, NULL);
}

static void open_play(struct play *play, size_t piece)
{
    struct buf *bufs[] = {&play->from_forger, &play->from_server, &play->received};
    uint8_t *place = NULL;
    *play = (struct play){.piece = piece};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) {
        buf_init(bufs[i], ROOM);
        assert_int_equal(buf_reserve(bufs[i], ROOM, &place), ERR_OK);
        buf_reset(bufs[i]);
    }
    zmtp_forger_init(&play->forger, ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET);
    assert_int_equal(serve(play), ERR_OK);
}

static void close_play(struct play *play)
{
    zmtp_free(play->server);
    buf_clear(&play->from_forger);
    buf_clear(&play->from_server);
    buf_clear(&play->received);
}

// Feeds what the forger has made. The last piece's result.
static enum err feed(struct play *play)
{
    return feed_pieces(play->server, &play->from_forger, play->piece);
}

// Takes all output.
static struct bytes collect(struct play *play)
{
    struct bytes out = zmtp_output(play->server);
    buf_reset(&play->from_server);
    assert_int_equal(buf_put_bytes(&play->from_server, out), ERR_OK);
    zmtp_written(play->server, out.len);
    return buf_bytes(&play->from_server);
}

static enum err step_greeting(struct play *play)
{
    assert_true(zmtp_forger_take_greeting(collect(play)));
    zmtp_forger_greeting("CURVE", &play->from_forger);
    return feed(play);
}

static enum err step_hello(struct play *play)
{
    assert_int_equal(zmtp_output(play->server).len, 0);
    zmtp_forger_hello(&play->forger, &play->from_forger);
    enum err err = feed(play);
    assert_true(err != ERR_OK || zmtp_forger_take_welcome(&play->forger, collect(play)));
    return err;
}

static enum err step_initiate(struct play *play)
{
    zmtp_forger_initiate(&play->forger, (struct bytes)RIGHT, &play->from_forger);
    enum err err = feed(play);
    assert_true(err != ERR_OK || zmtp_forger_take_ready(&play->forger, collect(play)));
    return err;
}

// Stops where an error is, or the state is reached.
static enum err advance(struct play *play, enum zmtp_state state)
{
    static const struct {
        enum zmtp_state from;
        enum err (*step)(struct play *);
    } steps[] = {
        {ZMTP_GREETING, step_greeting}, {ZMTP_HELLO, step_hello}, {ZMTP_INITIATE, step_initiate}};
    enum err err = ERR_OK;
    for (unsigned i = 0; i < 3 && steps[i].from < state && err == ERR_OK; i++) {
        assert_int_equal(zmtp_state(play->server), steps[i].from);
        assert_int_equal(play->asked, 0);
        err = steps[i].step(play);
    }
    return err;
}

static const uint8_t pattern[8 * FRAME_MAX] = {1, 2, 3, 250, 251, 252};

static void forge(const struct forgery *forgery, struct play *play)
{
    struct buf *out = &play->from_forger;
    struct zmtp_forger *forger = &play->forger;
    char name[16] = "";
    if (forgery->field)
        ((uint8_t *)forger)[forgery->field - 1] ^= forgery->flip;
    forger->sent = forgery->sent ? forgery->sent : forger->sent;
    switch (forgery->kind) {
    case FORGE_RAW:
        assert_int_equal(buf_put_bytes(out, forgery->text), ERR_OK);
        break;
    case FORGE_GREETING:
        zmtp_forger_greeting((const char *)forgery->text.data, out);
        break;
    case FORGE_HELLO:
        zmtp_forger_hello(forger, out);
        break;
    case FORGE_INITIATE:
        zmtp_forger_initiate(forger, forgery->text, out);
        break;
    case FORGE_MESSAGE:
        zmtp_forger_message(forger, forgery->flags, bytes_of(pattern, forgery->len), out);
        break;
    case FORGE_SEALED:
        memcpy(name, forgery->text.data, forgery->text.len);
        zmtp_forger_sealed(forger, forgery->flags, name, forgery->prefix,
                           bytes_of(pattern, forgery->len), out);
        break;
    }
    if (forgery->cut) { // with the length that is right for it
        out->len = (size_t)((ptrdiff_t)out->len + forgery->cut);
        out->data[out->data[0] & ZMTP_FLAG_LONG ? 8 : 1] =
            (uint8_t)(out->len - (out->data[0] & ZMTP_FLAG_LONG ? 9 : 2));
    }
    if (!forgery->field)
        out->data[forgery->at] ^= forgery->flip;
}

// Brings about what the row says, and returns whether the server told it as the row does.
static bool tells_forgery(const struct forgery *forgery, size_t piece)
{
    struct play play;
    bool is_there = false;
    open_play(&play, piece);
    assert_int_equal(advance(&play, forgery->from), ERR_OK);
    collect(&play);
    forge(forgery, &play);
    enum err err = feed(&play);
    size_t said = zmtp_output(play.server).len;
    if (forgery->from == ZMTP_READY) {
        assert_int_equal(err, ERR_OK);
        err = zmtp_receive(play.server, &play.received, &is_there);
    }
    bool is_right = forgery->to <= ZMTP_READY;
    bool ok = err == (is_right ? ERR_OK : ERR_PERM) && zmtp_state(play.server) == forgery->to &&
              !is_there && play.received.len == 0 && is_right == (said > 0) &&
              play.asked == (forgery->from == ZMTP_READY || forgery->to == ZMTP_READY);
    if (!ok)
        print_error("%s: class %s, state %u, said %zu\n", forgery->name, err_name(err),
                    zmtp_state(play.server), said);
    close_play(&play);
    return ok;
}

static void test_tells_what_is_wrong(void **state)
{
    unsigned wrong = 0;
    (void)state;
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        wrong += !tells_forgery(&forgeries[i], 0);
        wrong += !tells_forgery(&forgeries[i], 1);
        wrong += !tells_forgery(&forgeries[i], 7);
    }
    assert_int_equal(wrong, 0);
}

// There is no byte that the server does not look at, but HELLO's padding.
static void test_notices_every_flipped_byte(void **state)
{
    static const struct forgery rows[] = {
        {"HELLO", FORGE_HELLO, ZMTP_HELLO, .to = ZMTP_UNTRUSTED, .len = ZMTP_HELLO_SIZE},
        {"INITIATE", FORGE_INITIATE, ZMTP_INITIATE, .to = ZMTP_UNTRUSTED, .text = RIGHT,
         .len = ZMTP_INITIATE_SIZE},
        {"MESSAGE", FORGE_MESSAGE, ZMTP_READY, .to = ZMTP_MALFORMED, .len = 40}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t at = 0; at < rows[i].len; at++) {
            struct forgery row = rows[i];
            if (i == 1 ? at > 0 && at < 9 : at == 1) // a length: it would wait for more
                continue;
            if (i == 0 && at >= 10 && at < 82)
                row.to = ZMTP_INITIATE;
            row.at = at;
            row.flip = 0x40; // not the highest bit of a key, which says nothing
            if (i == 1 && at == 0)
                row.flip = 1;
            row.len = i == 2 ? 40 - 2 - 8 - 8 - 16 - 1 : 0;
            if (!tells_forgery(&row, 0))
                fail_msg("byte %zu of %s", at, row.name);
        }
    }
}

static bool receive(struct play *play)
{
    bool is_there = false;
    buf_reset(&play->received);
    assert_int_equal(zmtp_receive(play->server, &play->received, &is_there), ERR_OK);
    return is_there;
}

// Of several frames, among others: one empty message each, told with the last frame; and what was
// in it is nowhere in memory.
static void test_drops_parts(void **state)
{
    static const size_t pieces[] = {0, 1, 7};
    static const struct {
        bool is_more;
        struct bytes content;
        bool is_told;
    } frames[] = {
        {true, TEXT("secret 1"), false}, {true, TEXT(""), false},  {true, TEXT("secret 3"), false},
        {false, TEXT("secret 4"), true}, {true, TEXT("x"), false}, {false, TEXT(""), true},
    };
    (void)state;
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        struct play play;
        open_play(&play, pieces[p]);
        assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
        for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
            zmtp_forger_message(&play.forger, frames[i].is_more, frames[i].content,
                                &play.from_forger);
            assert_int_equal(feed(&play), ERR_OK);
            assert_int_equal(receive(&play), frames[i].is_told);
            assert_int_equal(play.received.len, 0);
            assert_null(memmem(play.server->in.data, play.server->in.room, "secret", 6));
        }
        for (size_t i = 0; i < sizeof frames / sizeof *frames; i++)
            zmtp_forger_message(&play.forger, frames[i].is_more, frames[i].content,
                                &play.from_forger);
        zmtp_forger_message(&play.forger, 0, BYTES_LITERAL("secret"), &play.from_forger);
        assert_int_equal(feed(&play), ERR_OK);
        assert_true(receive(&play) && play.received.len == 0);
        assert_true(receive(&play) && play.received.len == 0);
        assert_true(receive(&play) &&
                    bytes_equal(buf_bytes(&play.received), BYTES_LITERAL("secret")));
        assert_null(memmem(play.server->in.data, play.server->in.room, "secret", 6));
        assert_false(receive(&play));
        close_play(&play);
    }
}

// Nobody takes the messages: what is kept of them has a bound; and taken, they are no burden.
static void test_bounds_what_is_not_taken(void **state)
{
    struct play play;
    enum err err = ERR_OK;
    size_t fed = 0;
    (void)state;
    open_play(&play, 0);
    assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
    for (; err == ERR_OK && fed < 1000 * FRAME_MAX; fed += FRAME_MAX) {
        zmtp_forger_message(&play.forger, 1, bytes_of(pattern, FRAME_MAX), &play.from_forger);
        err = feed(&play);
        if (err == ERR_OK && fed < 500 * FRAME_MAX)
            assert_false(receive(&play));
    }
    assert_int_equal(err, ERR_PERM);
    assert_in_range(fed, 500 * FRAME_MAX, 600 * FRAME_MAX);
    assert_int_equal(zmtp_state(play.server), ZMTP_MALFORMED);
    close_play(&play);
}

// Nobody who has not shown a key can make us keep more than a command, however much he says at
// once.
static void test_bounds_the_handshake(void **state)
{
    static const struct bytes starts[] = {TEXT("\xff\0\0\0\0\0\0\0\1\x7f\3\1"), TEXT("\4\xc8"),
                                          TEXT("\6\0\0\0\0\0\0\4\0")};
    (void)state;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        struct play play;
        const enum zmtp_state states[] = {ZMTP_GREETING, ZMTP_HELLO, ZMTP_INITIATE};
        open_play(&play, 0);
        assert_int_equal(advance(&play, states[i]), ERR_OK);
        assert_int_equal(buf_put_bytes(&play.from_forger, starts[i]), ERR_OK);
        while (play.from_forger.len + sizeof pattern < ROOM)
            assert_int_equal(buf_put(&play.from_forger, pattern, sizeof pattern), ERR_OK);
        assert_int_equal(feed(&play), ERR_PERM);
        assert_int_equal(zmtp_state(play.server), ZMTP_UNTRUSTED);
        assert_in_range(play.server->in.room, 1, 2048);
        close_play(&play);
    }
}

static size_t memory(const struct zmtp *zmtp)
{
    return sizeof *zmtp + zmtp->in.room + zmtp->out.room + zmtp->kept.room;
}

// A connection that waits takes little, from the start and after long messages.
static void test_gives_memory_back(void **state)
{
    struct play play;
    (void)state;
    open_play(&play, 0);
    assert_int_equal(advance(&play, ZMTP_READY), ERR_OK);
    assert_null(play.server->handshake);
    assert_int_equal(zmtp_send(play.server, bytes_of(pattern, 300)), ERR_OK);
    assert_true(zmtp_forger_take_message(&play.forger, collect(&play), &play.received));
    buf_reset(&play.received);
    assert_in_range(memory(play.server), 1, 1023);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned n = 0; n < 20; n++)
            zmtp_forger_message(&play.forger, 0, bytes_of(pattern, FRAME_MAX), &play.from_forger);
        assert_int_equal(feed(&play), ERR_OK);
        assert_int_equal(zmtp_send(play.server, bytes_of(pattern, sizeof pattern)), ERR_OK);
        assert_true(zmtp_forger_take_message(&play.forger, collect(&play), &play.received));
        assert_int_equal(play.received.len, sizeof pattern);
        while (receive(&play))
            assert_int_equal(play.received.len, FRAME_MAX);
        assert_in_range(memory(play.server), 1, 1023);
    }
    zmtp_forger_message(&play.forger, 0, bytes_of(pattern, 300), &play.from_forger);
    assert_int_equal(feed(&play), ERR_OK);
    assert_true(receive(&play));
    const uint8_t *kept = play.server->in.data; // but not for each
    zmtp_forger_message(&play.forger, 0, bytes_of(pattern, 300), &play.from_forger);
    assert_int_equal(feed(&play), ERR_OK);
    assert_true(kept && play.server->in.data == kept);
    close_play(&play);
}

static void test_says_that_it_refuses(void **state)
{
    struct play play;
    (void)state;
    open_play(&play, 0);
    play.is_closed = true;
    assert_int_equal(advance(&play, ZMTP_READY), ERR_PERM);
    assert_int_equal(play.asked, 1);
    assert_int_equal(zmtp_state(play.server), ZMTP_REFUSED);
    assert_true(zmtp_forger_take_denied(collect(&play)));
    assert_null(zmtp_peer(play.server));
    close_play(&play);
}

// A talk in which the server's n-th allocation fails; false: it did not come to n of them.
static bool is_out_of_memory(unsigned n, bool is_closed)
{
    struct play play;
    struct buf received;
    bool is_there = false;
    open_play(&play, 0);
    zmtp_free(play.server);
    play.server = NULL;
    play.is_closed = is_closed;
    buf_init(&received, ROOM);
    mem_fail_at(n);
    enum err err = serve(&play);
    if (err == ERR_OK)
        err = zmtp_send(play.server, bytes_of(pattern, 300));
    if (err == ERR_OK)
        err = step_greeting(&play);
    if (err == ERR_OK)
        err = step_hello(&play);
    if (err == ERR_OK) {
        zmtp_forger_initiate(&play.forger, (struct bytes)RIGHT, &play.from_forger);
        err = feed(&play);
    }
    if (err == ERR_OK) {
        zmtp_forger_message(&play.forger, 0, bytes_of(pattern, FRAME_MAX), &play.from_forger);
        err = feed(&play);
    }
    if (err == ERR_OK)
        err = zmtp_receive(play.server, &received, &is_there);
    mem_fail_at(0);
    if (is_closed && err == ERR_PERM)
        assert_true(zmtp_forger_take_denied(collect(&play)));
    assert_true(err == ERR_TEMP || err == (is_closed ? ERR_PERM : ERR_OK));
    assert_true(is_closed || (err == ERR_OK) == is_there);
    buf_clear(&received);
    close_play(&play);
    return err == ERR_TEMP;
}

static void test_survives_failing_allocations(void **state)
{
    unsigned failed[2] = {0};
    (void)state;
    for (unsigned n = 1; n <= 60; n++) {
        failed[0] += is_out_of_memory(n, false);
        failed[1] += is_out_of_memory(n, true);
    }
    assert_in_range(failed[0], 6, 50);
    assert_in_range(failed[1], 5, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tells_what_is_wrong),
        cmocka_unit_test(test_notices_every_flipped_byte),
        cmocka_unit_test(test_drops_parts),
        cmocka_unit_test(test_bounds_what_is_not_taken),
        cmocka_unit_test(test_bounds_the_handshake),
        cmocka_unit_test(test_gives_memory_back),
        cmocka_unit_test(test_says_that_it_refuses),
        cmocka_unit_test(test_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
