// SPDX-License-Identifier: Apache-2.0
// Who may connect: the ZAP handler (ZeroMQ RFC 27) and the CURVE side of the server's sockets.
//
// libzmq fails open in several ways: without ZMQ_ZAP_ENFORCE_DOMAIN, or with it and an empty
// domain, it lets every peer in when no handler answers. So a server's socket is secured in one
// function here, which checks that each option took; the handler is there before any other socket;
// and whoever receives a message takes the peer's key from zap_peer, which is NULL for a peer that
// no handler has seen.
#pragma once

#include <zmq.h>

#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/registry/registry.h"

#define ZAP_DOMAIN_DATA "hsmd.data"
#define ZAP_DOMAIN_OFFICERS "hsmd.officers"

// May the holder of this CURVE key (Z85) connect to that domain? Called by the handler's thread.
typedef bool (*zap_is_allowed)(void *context, const char *domain, const char *public_key);

struct zap;

// Binds the handler in the ZeroMQ context and starts its thread. At most one per context; call
// before any other socket of it is made. Denials are logged, one a key and minute.
enum err zap_open(void *zmq, zap_is_allowed is_allowed, void *context, struct zap **zap,
                  struct detail *detail);
void zap_close(struct zap *zap);

// Makes socket a CURVE server with this key (40 characters of Z85) and this domain, not empty.
// ERR_PERM: an option could not be set or did not stay set; the socket must not be bound.
enum err zap_secure(void *socket, const char *domain, const struct secret *server_key,
                    struct detail *detail);

// The CURVE key (Z85) of the message's sender as the handler confirmed it; lives as long as the
// message. NULL: not confirmed, or the peer chose its own routing id, which could draw another's
// replies: not to be served.
const char *zap_peer(zmq_msg_t *message);
