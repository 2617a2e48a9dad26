// SPDX-License-Identifier: Apache-2.0
// The door for peers elsewhere: a ROUTER socket of ZeroMQ, whose thread speaks with the network,
// with CURVE and ZAP. One caller at a time, but for router_fd.
#pragma once

#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/server/arrival.h"
#include "hsmd/server/zap.h"

struct router_conf {
    const char *domain;              // of ZAP
    const struct secret *server_key; // Z85; only read while opening
    zap_is_allowed is_allowed;
    void *context;
    size_t request_max; // bytes of a frame
    int backlog;        // replies to one peer that wait; more are dropped
};

struct router;

enum err router_open(const struct router_conf *conf, struct router **router, struct detail *detail);
// Replies get some time to leave. NULL is fine.
void router_close(struct router *router);

enum err router_bind(struct router *router, const char *endpoint, struct detail *detail);

// Becomes readable once for what has come, and any use of the router may take that away. So the
// last thing done with it, before one waits, is to receive until there is nothing.
int router_fd(const struct router *router);

// False: there is nothing. The arrival's memory is used again; is_secret: what was received is
// wiped from ZeroMQ's.
bool router_receive(struct router *router, bool is_secret, struct arrival *arrival);

// Takes the reply's memory; it is wiped when ZeroMQ has encrypted it. A peer that has gone away, or
// does not read, is no reason to wait: the reply is dropped.
void router_send(struct router *router, zmq_msg_t *route, struct buf *reply);

// For tests: ends the ZAP handler alone, as if its thread had died.
void router_end_zap(struct router *router);
