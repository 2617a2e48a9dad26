// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/hsmd_doors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "hsmd/base/file.h"
#include "hsmd/core_handler.h"
#include "hsmd/server/zap.h"
#include "tests/support/require.h"

struct doors doors;
static char server_secret[41];
static struct buf attributes;

int doors_open(const struct doors_conf *conf)
{
    struct secret key = {.data = (uint8_t *)server_secret, .len = 40, .room = 41};
    const char *endpoint = doors.endpoint;
    unsigned count = conf->workers ? conf->workers : DOORS_WORKERS;
    const unsigned workers[] = {count, count};
    custodian_setup(&doors.custodian);
    log_open("test", LOG_SINK_STDERR, conf->log_level ? conf->log_level : LOG_LEVEL_ERROR);
    buf_init(&attributes, 4096);
    buf_init(&doors.frame, WIRE_FRAME_MAX);
    custodian_attributes(HASH_SHA256, &attributes);
    assert_int_equal(zmq_curve_keypair(doors.server_public, server_secret), 0);
    snprintf(doors.endpoint, sizeof doors.endpoint, "ipc://%s/socket", doors.custodian.dir);
    struct server_conf server = {.domain = ZAP_DOMAIN_DATA,
                                 .endpoints = &endpoint,
                                 .endpoint_count = 1,
                                 .mode = 0660,
                                 .server_key = &key,
                                 .handler = core_handler(&doors.custodian.core),
                                 .workers = workers,
                                 .lane_count = conf->lanes ? conf->lanes : 2,
                                 .light_workers = SERVER_LIGHT_WORKERS,
                                 .is_direct = doors.is_direct,
                                 .timeout_ms =
                                     conf->timeout_ms ? conf->timeout_ms : DOORS_TIMEOUT_MS,
                                 .request_max = WIRE_FRAME_MAX,
                                 .reply_max = WIRE_FRAME_MAX};
    if (conf->tell_stranger)
        server.handler.tell_stranger = conf->tell_stranger;
    struct detail detail = {0};
    enum err err = server_open(&server, &doors.server, &detail);
    assert_string_equal(detail.text, "");
    return err == ERR_OK ? 0 : -1;
}

int doors_close(void **state)
{
    (void)state;
    REQUIRE(server_close(doors.server, NULL) == ERR_OK); // or it uses what the next test makes anew
    doors.server = NULL;
    buf_clear(&attributes);
    buf_clear(&doors.frame);
    custodian_teardown(&doors.custodian);
    return 0;
}

void doors_open_peer(struct peer *peer, enum custodian_client client, const char *routing_id)
{
    const struct custodian *custodian = &doors.custodian;
    peer_open(peer, &(struct peer_conf){doors.endpoint, doors.server_public,
                                        custodian->public_keys[client],
                                        custodian->secret_keys[client], routing_id});
}

struct wire_request doors_sign_request(uint64_t id)
{
    return (struct wire_request){.operation = WIRE_SIGN,
                                 .id = id,
                                 .sign = {.key = BYTES_LITERAL(DOORS_KEY),
                                          .algorithm = WIRE_RSA_PKCS1,
                                          .hash = HASH_SHA256,
                                          .form = WIRE_ATTRIBUTES,
                                          .data = buf_bytes(&attributes)}};
}

void doors_send(struct peer *peer, const struct wire_request *request)
{
    struct buf encoded;
    buf_init(&encoded, WIRE_FRAME_MAX);
    assert_int_equal(wire_encode_request(request, &encoded), ERR_OK);
    peer_send(peer, buf_bytes(&encoded), false);
    buf_clear(&encoded);
}

enum err doors_receive_class(struct peer *peer, uint64_t id)
{
    struct wire_reply reply;
    assert_true(peer_receive(peer, PEER_WAIT_MS, &doors.frame));
    assert_int_equal(wire_decode_reply(WIRE_SIGN, buf_bytes(&doors.frame), &reply, NULL), ERR_OK);
    assert_int_equal(reply.id, id);
    return reply.class;
}

static void write_key(char *path, size_t size, const char *name, const char *key, unsigned mode)
{
    snprintf(path, size, "%s/%s", doors.custodian.dir, name);
    assert_int_equal(file_write(path, bytes_of_text(key), mode, NULL), ERR_OK);
}

void doors_open_client(enum custodian_client client)
{
    const struct custodian *custodian = &doors.custodian;
    char server_file[128];
    char public_file[128];
    char secret_file[128];
    write_key(server_file, sizeof server_file, "server.pub", doors.server_public, 0644);
    write_key(public_file, sizeof public_file, "c.pub", custodian->public_keys[client], 0644);
    write_key(secret_file, sizeof secret_file, "c.key", custodian->secret_keys[client], 0400);
    const struct client_conf conf = {.endpoints = doors.endpoint,
                                     .server_key_file = server_file,
                                     .public_key_file = public_file,
                                     .secret_key_file = secret_file};
    assert_int_equal(client_open(&conf, &doors.client, NULL), ERR_OK);
    unlink(server_file);
    unlink(public_file);
    unlink(secret_file);
}
