// SPDX-License-Identifier: Apache-2.0
// The little web server for monitoring: GET /metrics and GET /healthz, nothing else, no state, no
// secret. One thread of its own; it takes nothing from those who serve requests but the moment it
// reads their counters.
//
// Anybody who can connect may ask, so all is bounded: connections at once, bytes of a request
// before it is refused, and the time of a connection from its begin to its end however lively it
// is. One connection carries one request.
#pragma once

#include <sys/socket.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

#define HTTP_CONNECTIONS_MAX 16
#define HTTP_REQUEST_MAX 8192 // bytes of a request with its headers
#define HTTP_CONNECTION_MS 5000
#define HTTP_BODY_MAX ((size_t)16 << 20) // bytes of an answer: metrics of very many keys

struct http_address {
    struct sockaddr_storage storage;
    socklen_t len;
    bool is_loopback;
};

// "127.0.0.1:9464" or "[::1]:9464": a number, never a name. ERR_PERM: neither.
enum err http_parse_address(const char *text, struct http_address *address);

struct http_conf {
    struct http_address address;
    void *context; // for the functions, which are called in the server's thread
    enum err (*put_metrics)(void *context, struct buf *out);
    // is_json: else a line per problem, or "ok". Well: is everything?
    enum err (*put_health)(void *context, bool is_json, struct buf *out, bool *is_well);
};

struct http;

// ERR_PERM: the address is taken, or not ours.
enum err http_open(const struct http_conf *conf, struct http **http, struct detail *detail);
void http_close(struct http *http); // NULL is fine
