// SPDX-License-Identifier: Apache-2.0
// Calls to hsmd: one pool of sockets a process, a deadline on every call, healing by itself.
//
// Thread-safe. Nothing connects before the first call. After fork the child makes itself
// connections of its own and leaves the inherited ones alone. A socket that missed a deadline is
// thrown away, so a late reply can never answer the next request. Requests are idempotent: a call
// that meets a dead endpoint goes on to the next one of the list while its deadline lasts.
#pragma once

#include <stddef.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/curve.h"
#include "hsmd/base/err.h"
#include "hsmd/wire/wire.h"

#define CLIENT_ENDPOINTS_MAX 8
#define CLIENT_KEY_SIZE CURVE_TEXT_SIZE

struct client_conf {
    // Comma-separated ZeroMQ endpoints, ipc:///path or tcp://host:port, tried in order from the
    // last good one, or from the one after it if that one made a call wait. An IPv6 address stands
    // in brackets.
    const char *endpoints;
    const char *server_key_file; // hsmd's public CURVE key, Z85, one line
    const char *public_key_file; // ours
    const char *secret_key_file; // ours; mode 0400 or 0600
    unsigned timeout_ms;         // of a call; 0: CLIENT_TIMEOUT_MS
    // Calls at a time, and connections of the process; 0: CLIENT_SOCKETS_MAX. More callers wait,
    // within their deadline.
    unsigned sockets_max;
};

#define CLIENT_TIMEOUT_MS 10000
#define CLIENT_SOCKETS_MAX 64

struct client;

// Copies conf, reads the key files. ERR_PERM: a key file is missing, open to others, or no key.
enum err client_open(const struct client_conf *conf, struct client **client, struct detail *detail);
// No call may be in flight. In a forked child it frees without touching the parent's sockets.
void client_close(struct client *client);

// One request, one reply. request->id is chosen here. The reply's bytes point into frame, which the
// caller owns (cap WIRE_FRAME_MAX) and wipes if it held a secret. ERR_OK: hsmd answered ok.
// ERR_TEMP: no answer before the deadline (the detail tells "cannot reach", "does not answer" from
// "refused this client's key", for each endpoint), or hsmd says temp. ERR_DENIED, ERR_PERM,
// ERR_BUG: hsmd says so.
enum err client_call(struct client *client, struct wire_request *request, struct buf *frame,
                     struct wire_reply *reply, struct detail *detail);
