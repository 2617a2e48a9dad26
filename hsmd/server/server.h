// SPDX-License-Identifier: Apache-2.0
// The data socket: takes requests from clients that CURVE and ZAP have let in, has workers do them,
// sends the replies.
//
// One thread owns the ROUTER socket; workers never touch it. Each token has workers of its own, and
// what needs no token has some too. A request that finds no place in the queue (queue.h says who
// gets how many) is answered "temp" at once; one that is not done at its deadline is answered
// "temp" then, and what the worker brings later is dropped: a token that hangs keeps nobody
// waiting.
#pragma once

#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/core.h"

#define SERVER_QUEUE_MAX 1024  // requests at work or waiting for it
#define SERVER_DRAIN_MS 10000  // longest wait at a stop for those that are still there
#define SERVER_LIGHT_WORKERS 2 // for what needs no token

struct server_conf {
    const char *const *endpoints; // borrowed
    size_t endpoint_count;
    const struct secret *server_key; // Z85; only read while opening
    const struct core *core;         // borrowed
    const unsigned *workers;         // for each token of the keystore; only read while opening
    unsigned token_count;
    unsigned timeout_ms;
};

struct server;

// Starts the ZAP handler, then binds all endpoints (ipc sockets get mode 0660), then starts to
// serve. All signals are blocked in the threads made here.
enum err server_open(const struct server_conf *conf, struct server **server, struct detail *detail);

// Stops: no new request is taken, those at work are waited for (SERVER_DRAIN_MS), their replies
// sent. ERR_TEMP: a worker is stuck in the token; then the server, and what it uses, must be left
// alone until the process ends.
enum err server_close(struct server *server, struct detail *detail);

// For tests: ends the ZAP handler alone, as if its thread had died.
void server_end_zap(struct server *server);
