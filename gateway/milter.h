// SPDX-License-Identifier: Apache-2.0
// The milter side of sealgated: libmilter's callbacks around session, pipeline and edits.
#pragma once

#include "gateway/gateway.h"
#include "hsmd/base/err.h"

// Serves the configuration's socket, a thread for each connection, until SIGTERM, SIGHUP or SIGINT.
// ready is called once the socket listens. One per process (libmilter's limit). ERR_PERM: the
// socket cannot be opened. ERR_TEMP: it was to end, but a message is still in work after a minute
// and uses the gateway, which must not be closed then.
enum err milter_run(struct gateway *gateway, void (*ready)(void *ctx), void *ctx,
                    struct detail *detail);
