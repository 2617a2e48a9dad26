// SPDX-License-Identifier: Apache-2.0
// A server on an ipc endpoint, with keys in memory and no hsmd around it, and its peers. Fails the
// test if something of its own does.
#pragma once

#include "hsmd/base/log.h"
#include "hsmd/client/client.h"
#include "hsmd/server/server.h"
#include "tests/integration/hsmd_peer.h"
#include "tests/support/custodian.h"

#define DOORS_TIMEOUT_MS 600
#define DOORS_WORKERS 2
#define DOORS_KEY "rsa.smime-sign.enabled"

// 0 for what is usual.
struct doors_conf {
    unsigned timeout_ms;      // DOORS_TIMEOUT_MS
    unsigned workers;         // of each lane; DOORS_WORKERS
    unsigned lanes;           // 2: RSA keys, and the others, as memstore has it; 1: RSA keys
    enum log_level log_level; // to standard error; LOG_LEVEL_ERROR
    void (*tell_stranger)(void *context, const char *public_key); // core's
};

struct doors {
    bool is_direct; // which door: local.h, or router.h
    struct custodian custodian;
    struct server *server; // NULL once the test has closed it
    char server_public[41];
    char endpoint[128];
    struct buf frame; // of the last reply
    struct client *client;
};

extern struct doors doors;

int doors_open(const struct doors_conf *conf);
int doors_close(void **state);

void doors_open_peer(struct peer *peer, enum custodian_client client, const char *routing_id);
struct wire_request doors_sign_request(uint64_t id); // by DOORS_KEY
void doors_send(struct peer *peer, const struct wire_request *request);
// The class of the next reply; its id must be this.
enum err doors_receive_class(struct peer *peer, uint64_t id);

// Our own client, as doors.client; to be closed by the test.
void doors_open_client(enum custodian_client client);
