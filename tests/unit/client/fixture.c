// SPDX-License-Identifier: Apache-2.0
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/file.h"

void fixture_write(const char *path, const char *text, unsigned mode)
{
    struct detail detail = {0};
    if (file_write(path, bytes_of_text(text), mode, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
}

int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char key[SERVER_KEY_SIZE];
    char secret[SERVER_KEY_SIZE];
    const char *directory = getenv("TMPDIR");
    snprintf(fixture->directory, sizeof fixture->directory, "%.30s/sealgate-client-XXXXXX",
             directory ? directory : "/tmp");
    assert_non_null(mkdtemp(fixture->directory));
    snprintf(fixture->server_public, sizeof fixture->server_public, "%s/server.pub",
             fixture->directory);
    snprintf(fixture->client_public, sizeof fixture->client_public, "%s/client.pub",
             fixture->directory);
    snprintf(fixture->client_secret, sizeof fixture->client_secret, "%s/client.key",
             fixture->directory);
    snprintf(fixture->conf.endpoint, sizeof fixture->conf.endpoint, "ipc://%s/socket",
             fixture->directory);
    assert_int_equal(zmq_curve_keypair(key, fixture->conf.secret_key), 0);
    fixture_write(fixture->server_public, key, 0644);
    assert_int_equal(zmq_curve_keypair(fixture->conf.admitted, secret), 0);
    snprintf(key, sizeof key, "%s", fixture->conf.admitted);
    fixture_write(fixture->client_public, key, 0644);
    fixture_write(fixture->client_secret, secret, 0400);
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    fixture_stop(fixture);
    snprintf(path, sizeof path, "%s/socket", fixture->directory);
    unlink(path);
    unlink(fixture->server_public);
    unlink(fixture->client_public);
    unlink(fixture->client_secret);
    int result = rmdir(fixture->directory);
    free(fixture);
    return result;
}

void fixture_start(struct fixture *fixture)
{
    fixture->server = server_start(&fixture->conf);
}

void fixture_stop(struct fixture *fixture)
{
    if (fixture->server)
        server_stop(fixture->server);
    fixture->server = NULL;
}

struct client *fixture_client(struct fixture *fixture, const char *endpoints, unsigned timeout_ms,
                              unsigned sockets_max)
{
    struct client_conf conf = {
        .endpoints = endpoints ? endpoints : fixture->conf.endpoint,
        .server_key_file = fixture->server_public,
        .public_key_file = fixture->client_public,
        .secret_key_file = fixture->client_secret,
        .timeout_ms = timeout_ms,
        .sockets_max = sockets_max,
    };
    struct client *client = NULL;
    struct detail detail = {0};
    if (client_open(&conf, &client, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    return client;
}

enum err fixture_sign(struct client *client, const char *key, const char *data,
                      struct detail *detail)
{
    struct buf frame;
    struct wire_reply reply;
    struct wire_request request = {
        .operation = WIRE_SIGN,
        .sign =
            {
                .key = bytes_of_text(key),
                .algorithm = WIRE_ECDSA,
                .hash = HASH_SHA256,
                .form = WIRE_DIGEST,
                .data = bytes_of_text(data),
            },
    };
    buf_init(&frame, WIRE_FRAME_MAX);
    enum err err = client_call(client, &request, &frame, &reply, detail);
    if (err == ERR_OK && !bytes_equal(reply.signature, request.sign.data))
        err = err_set(detail, ERR_BUG, "the reply to another request");
    buf_clear(&frame);
    return err;
}
