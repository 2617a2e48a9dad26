// SPDX-License-Identifier: Apache-2.0
// The server's half of ZMTP against the client's: both are ours, and talk in pieces of any size.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/zmtp/zmtp_internal.h"
#include "tests/support/zmtp_server.h"

#define FRAME_MAX 65536

static const struct zmtp_keys keys = {ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET};

struct gate {
    bool is_open;
    unsigned asked;
    char key[64];
};

static bool is_allowed(void *context, const char *public_key)
{
    struct gate *gate = context;
    gate->asked++;
    snprintf(gate->key, sizeof gate->key, "%s", public_key);
    return gate->is_open;
}

struct pair {
    struct gate gate;
    struct zmtp *client;
    struct zmtp *server;
    struct buf received;
};

static void open_pair(struct pair *pair, const struct zmtp_keys *client)
{
    *pair = (struct pair){.gate.is_open = true};
    const struct zmtp_host host = {ZMTP_SERVER_SECRET, ZMTP_SERVER_PUBLIC, is_allowed, &pair->gate};
    buf_init(&pair->received, FRAME_MAX);
    assert_int_equal(zmtp_new(client, FRAME_MAX, &pair->client, NULL), ERR_OK);
    assert_int_equal(zmtp_serve(&host, FRAME_MAX, &pair->server, NULL), ERR_OK);
    assert_int_equal(zmtp_state(pair->server), ZMTP_GREETING);
}

static void close_pair(struct pair *pair)
{
    zmtp_free(pair->client);
    zmtp_free(pair->server);
    buf_clear(&pair->received);
}

// One piece of one side's output to the other. False: there was none.
static bool carry(struct zmtp *from, struct zmtp *to, size_t piece, enum err *err)
{
    struct bytes out = zmtp_output(from);
    size_t len = piece && piece < out.len ? piece : out.len;
    if (!len)
        return false;
    // Exactly as long as the piece, so that a sanitizer sees a read past the end.
    uint8_t *data = malloc(len);
    memcpy(data, out.data, len);
    zmtp_written(from, len);
    *err = zmtp_feed(to, bytes_of(data, len));
    free(data);
    return true;
}

// Until neither has anything to say.
static void run(struct pair *pair, size_t piece, enum err *client, enum err *server)
{
    bool is_moving = true;
    while (is_moving) {
        is_moving = carry(pair->client, pair->server, piece, server);
        is_moving |= carry(pair->server, pair->client, piece, client);
    }
}

static void shake_hands(struct pair *pair, size_t piece)
{
    enum err client = ERR_OK;
    enum err server = ERR_OK;
    run(pair, piece, &client, &server);
    assert_int_equal(client, ERR_OK);
    assert_int_equal(server, ERR_OK);
    assert_int_equal(zmtp_state(pair->client), ZMTP_READY);
    assert_int_equal(zmtp_state(pair->server), ZMTP_READY);
}

static void assert_passes(struct pair *pair, struct zmtp *from, struct zmtp *to,
                          struct bytes content, size_t piece)
{
    enum err err = ERR_OK;
    bool is_there = true;
    assert_int_equal(zmtp_send(from, content), ERR_OK);
    while (carry(from, to, piece, &err)) {
        assert_int_equal(err, ERR_OK);
        buf_reset(&pair->received);
        assert_int_equal(zmtp_receive(to, &pair->received, &is_there), ERR_OK);
        assert_int_equal(is_there, zmtp_output(from).len == 0); // with the last byte
    }
    assert_true(bytes_equal(buf_bytes(&pair->received), content));
    assert_int_equal(zmtp_receive(to, &pair->received, &is_there), ERR_OK);
    assert_false(is_there);
}

static uint8_t pattern[FRAME_MAX];

static void test_talks(void **state)
{
    static const size_t pieces[] = {0, 1, 7};
    static const size_t sizes[] = {0, 1, 222, 223, 224, 255, 256, 4096, FRAME_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i * 7 >> 3);
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        struct pair pair;
        open_pair(&pair, &keys);
        assert_null(zmtp_peer(pair.server));
        shake_hands(&pair, pieces[p]);
        assert_int_equal(pair.gate.asked, 1);
        assert_string_equal(pair.gate.key, ZMTP_CLIENT_PUBLIC);
        assert_string_equal(zmtp_peer(pair.server), ZMTP_CLIENT_PUBLIC);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct bytes content = bytes_of(pattern, sizes[i]);
            assert_passes(&pair, pair.client, pair.server, content, pieces[p]);
            assert_passes(&pair, pair.server, pair.client, content, pieces[p]);
        }
        close_pair(&pair);
    }
}

// What each side has to say before the handshake is over comes at its end.
static void test_keeps_what_is_early(void **state)
{
    struct pair pair;
    struct zmtp *sides[2];
    (void)state;
    open_pair(&pair, &keys);
    assert_int_equal(zmtp_send(pair.client, BYTES_LITERAL("early")), ERR_OK);
    assert_int_equal(zmtp_send(pair.server, BYTES_LITERAL("early")), ERR_OK);
    assert_int_equal(zmtp_send(pair.server, BYTES_LITERAL("more")), ERR_BUG);
    shake_hands(&pair, 0);
    sides[0] = pair.client;
    sides[1] = pair.server;
    for (size_t i = 0; i < 2; i++) {
        bool is_there = false;
        buf_reset(&pair.received);
        assert_int_equal(zmtp_receive(sides[i], &pair.received, &is_there), ERR_OK);
        assert_true(is_there && bytes_equal(buf_bytes(&pair.received), BYTES_LITERAL("early")));
    }
    close_pair(&pair);
}

// What has been written is not kept until all is: a peer may always leave something unread.
static void test_forgets_what_is_written(void **state)
{
    struct pair pair;
    uint8_t message[300] = {0};
    unsigned received = 0;
    (void)state;
    open_pair(&pair, &keys);
    shake_hands(&pair, 0);
    for (unsigned sent = 1; sent <= 1000; sent++) {
        bool is_there = true;
        message[299] = (uint8_t)sent;
        assert_int_equal(zmtp_send(pair.server, bytes_of(message, sizeof message)), ERR_OK);
        struct bytes out = zmtp_output(pair.server);
        out.len -= sent % 350 ? 1 + sent % 250 : 0;
        assert_int_equal(zmtp_feed(pair.client, out), ERR_OK);
        zmtp_written(pair.server, out.len);
        assert_in_range(pair.server->out.room, 0, 20000);
        while (is_there) {
            buf_reset(&pair.received);
            assert_int_equal(zmtp_receive(pair.client, &pair.received, &is_there), ERR_OK);
            if (is_there)
                assert_int_equal(pair.received.data[299], (uint8_t)++received);
        }
    }
    assert_int_equal(received, 999);
    close_pair(&pair);
}

// Refused by the gate, and the client learns it.
static void test_refuses(void **state)
{
    static const size_t pieces[] = {0, 1, 7};
    (void)state;
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        struct pair pair;
        enum err client = ERR_OK;
        enum err server = ERR_OK;
        open_pair(&pair, &keys);
        pair.gate.is_open = false;
        run(&pair, pieces[p], &client, &server);
        assert_int_equal(server, ERR_PERM);
        assert_int_equal(client, ERR_PERM);
        assert_int_equal(zmtp_state(pair.server), ZMTP_REFUSED);
        assert_int_equal(zmtp_state(pair.client), ZMTP_REFUSED);
        assert_int_equal(pair.gate.asked, 1);
        assert_null(zmtp_peer(pair.server));
        assert_int_equal(zmtp_feed(pair.server, BYTES_LITERAL("x")), ERR_PERM);
        assert_int_equal(zmtp_state(pair.server), ZMTP_REFUSED);
        close_pair(&pair);
    }
}

// Who does not know our key, or has not the one that he names, is not even looked up.
static void test_does_not_trust(void **state)
{
    static const struct zmtp_keys rows[] = {
        {ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_PUBLIC, ZMTP_CLIENT_SECRET}, // another server's
        {ZMTP_SERVER_PUBLIC, ZMTP_SERVER_PUBLIC, ZMTP_CLIENT_SECRET}, // no pair
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pair pair;
        enum err client = ERR_OK;
        enum err server = ERR_OK;
        open_pair(&pair, &rows[i]);
        run(&pair, 0, &client, &server);
        assert_int_equal(server, ERR_PERM);
        assert_int_equal(client, ERR_OK);
        assert_int_equal(zmtp_state(pair.server), ZMTP_UNTRUSTED);
        assert_int_equal(pair.gate.asked, 0);
        close_pair(&pair);
    }
}

// It is told its public key, which is in what a client proves, and does not find it out itself.
static void test_is_told_its_public_key(void **state)
{
    char public_key[CURVE_TEXT_SIZE];
    struct pair pair;
    enum err client = ERR_OK;
    enum err server = ERR_OK;
    (void)state;
    assert_true(zmtp_public_key(ZMTP_SERVER_SECRET, public_key));
    assert_string_equal(public_key, ZMTP_SERVER_PUBLIC);
    assert_false(zmtp_public_key("short", public_key));
    open_pair(&pair, &keys);
    zmtp_free(pair.server);
    const struct zmtp_host host = {ZMTP_SERVER_SECRET, ZMTP_CLIENT_PUBLIC, is_allowed, &pair.gate};
    assert_int_equal(zmtp_serve(&host, FRAME_MAX, &pair.server, NULL), ERR_OK);
    run(&pair, 0, &client, &server);
    assert_int_equal(zmtp_state(pair.server), ZMTP_UNTRUSTED);
    assert_int_equal(zmtp_reached(pair.server), ZMTP_INITIATE);
    assert_int_equal(pair.gate.asked, 0);
    close_pair(&pair);
}

static void test_knows_its_key(void **state)
{
    static const char *const bad[] = {"", "short", ZMTP_SERVER_SECRET "0",
                                      "\"TKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct zmtp_host host = {bad[i], ZMTP_SERVER_PUBLIC, is_allowed, NULL};
        struct zmtp *server = NULL;
        struct detail detail = {0};
        assert_int_equal(zmtp_serve(&host, FRAME_MAX, &server, &detail), ERR_PERM);
        assert_null(server);
        assert_string_not_equal(detail.text, "");
        const struct zmtp_host half = {ZMTP_SERVER_SECRET, bad[i], is_allowed, NULL};
        assert_int_equal(zmtp_serve(&half, FRAME_MAX, &server, NULL), ERR_PERM);
        assert_null(server);
    }
}

// What a large message took is not kept by a connection that has nothing to do; what a small one
// takes is, for the next.
static void test_gives_memory_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {FRAME_MAX, 100};
    struct pair pair;
    open_pair(&pair, &keys);
    shake_hands(&pair, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_passes(&pair, pair.client, pair.server, bytes_of(pattern, sizes[i]), 0);
        assert_passes(&pair, pair.server, pair.client, bytes_of(pattern, sizes[i]), 0);
        const size_t rooms[] = {pair.client->in.room, pair.client->out.room, pair.server->in.room,
                                pair.server->out.room};
        for (size_t n = 0; n < sizeof rooms / sizeof *rooms; n++)
            assert_in_range(rooms[n], sizes[i] == FRAME_MAX ? 0 : 1, 4096);
    }
    close_pair(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talks),
        cmocka_unit_test(test_keeps_what_is_early),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_does_not_trust),
        cmocka_unit_test(test_is_told_its_public_key),
        cmocka_unit_test(test_knows_its_key),
        cmocka_unit_test(test_forgets_what_is_written),
        cmocka_unit_test(test_gives_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
