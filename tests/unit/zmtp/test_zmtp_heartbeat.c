// SPDX-License-Identifier: Apache-2.0
// Heartbeats to the server's half of ZMTP (ZeroMQ RFC 37), made by hand.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/zmtp/zmtp.h"
#include "tests/support/zmtp_forger.h"
#include "tests/support/zmtp_server.h"

#define FRAME_MAX 1000
#define TEXT(text)                                \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }

struct play {
    struct zmtp *server;
    struct zmtp_forger forger;
    struct buf from_forger;
    struct buf received;
};

static bool is_allowed(void *context, const char *public_key)
{
    (void)context;
    return strcmp(public_key, ZMTP_CLIENT_PUBLIC) == 0;
}

static enum err feed(struct play *play)
{
    enum err err = zmtp_feed(play->server, buf_bytes(&play->from_forger));
    buf_reset(&play->from_forger);
    return err;
}

static struct bytes collect(struct play *play)
{
    static uint8_t copy[FRAME_MAX];
    struct bytes out = zmtp_output(play->server);
    assert_in_range(out.len, 0, sizeof copy);
    if (out.len)
        memcpy(copy, out.data, out.len);
    zmtp_written(play->server, out.len);
    return bytes_of(copy, out.len);
}

// A right handshake.
static void enter(struct play *play)
{
    const struct zmtp_host host = {ZMTP_SERVER_SECRET, ZMTP_SERVER_PUBLIC, is_allowed, NULL};
    *play = (struct play){0};
    buf_init(&play->from_forger, SIZE_MAX);
    buf_init(&play->received, SIZE_MAX);
    zmtp_forger_init(&play->forger, ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET);
    assert_int_equal(zmtp_serve(&host, FRAME_MAX, &play->server, NULL), ERR_OK);
    assert_true(zmtp_forger_take_greeting(collect(play)));
    zmtp_forger_greeting("CURVE", &play->from_forger);
    zmtp_forger_hello(&play->forger, &play->from_forger);
    assert_int_equal(feed(play), ERR_OK);
    assert_true(zmtp_forger_take_welcome(&play->forger, collect(play)));
    zmtp_forger_initiate(&play->forger, BYTES_LITERAL("\13Socket-Type\0\0\0\6DEALER"),
                         &play->from_forger);
    assert_int_equal(feed(play), ERR_OK);
    assert_true(zmtp_forger_take_ready(&play->forger, collect(play)));
}

static void close_play(struct play *play)
{
    zmtp_free(play->server);
    buf_clear(&play->from_forger);
    buf_clear(&play->received);
}

static bool receive(struct play *play)
{
    bool is_there = false;
    buf_reset(&play->received);
    assert_int_equal(zmtp_receive(play->server, &play->received, &is_there), ERR_OK);
    return is_there;
}

// The heartbeat of a libzmq client: answered, in whatever it comes, and no message. Other commands
// are nothing at all.
static void test_answers_pings(void **state)
{
    static const struct {
        struct bytes command;
        struct bytes answer; // empty: none
    } rows[] = {
        {TEXT("\4PING\0\0"), TEXT("\4PONG")},
        {TEXT("\4PING\1\2context"), TEXT("\4PONGcontext")},
        {TEXT("\4PING\0\0sixteen bytes...."), TEXT("\4PONGsixteen bytes...")},
        {TEXT("\4PING\0\0sixteen bytes..!"), TEXT("\4PONGsixteen bytes..!")},
        {TEXT(""), TEXT("")},
        {TEXT("\4PIN"), TEXT("")},
        {TEXT("\4PING"), TEXT("")},
        {TEXT("\4PING\0"), TEXT("")},
        {TEXT("\4PONG\0\0"), TEXT("")},
        {TEXT("\4PINK\0\0"), TEXT("")},
        {TEXT("\5PING\0\0"), TEXT("")},
        {TEXT("\11SUBSCRIBEx"), TEXT("")},
    };
    struct play play;
    (void)state;
    enter(&play);
    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        bool is_in_parts = i % 2; // it comes between two frames of a message
        const struct bytes answer = rows[i / 2].answer;
        if (is_in_parts)
            zmtp_forger_message(&play.forger, 1, BYTES_LITERAL("one"), &play.from_forger);
        zmtp_forger_message(&play.forger, 2, rows[i / 2].command, &play.from_forger);
        assert_int_equal(feed(&play), ERR_OK);
        assert_false(receive(&play));
        struct bytes said = collect(&play);
        buf_reset(&play.received);
        if (answer.len)
            assert_true(zmtp_forger_take_command(&play.forger, said, &play.received));
        assert_true(answer.len || !said.len);
        assert_true(bytes_equal(buf_bytes(&play.received), answer));
        zmtp_forger_message(&play.forger, 0, BYTES_LITERAL("two"), &play.from_forger);
        assert_int_equal(feed(&play), ERR_OK);
        assert_true(receive(&play));
        assert_int_equal(play.received.len, is_in_parts ? 0 : 3);
    }
    close_play(&play);
}

// Who asks and asks, and does not read, is not answered any more.
static void test_bounds_answers(void **state)
{
    struct play play;
    (void)state;
    enter(&play);
    for (unsigned i = 0; i < 1000; i++) {
        zmtp_forger_message(&play.forger, 2, BYTES_LITERAL("\4PING\0\0sixteen bytes..!"),
                            &play.from_forger);
        assert_int_equal(feed(&play), ERR_OK);
        assert_false(receive(&play));
    }
    assert_in_range(zmtp_output(play.server).len, 1000, 4200);
    close_play(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_pings),
        cmocka_unit_test(test_bounds_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
