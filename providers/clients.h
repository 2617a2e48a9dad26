// SPDX-License-Identifier: Apache-2.0
// The clients of this process. Library contexts with the same configuration share one client, and
// so one pool of sockets.
#pragma once

#include "hsmd/base/err.h"
#include "hsmd/client/client.h"

// A client for conf, opened if this is the first that asks for it. Give it back with clients_put.
enum err clients_get(const struct client_conf *conf, struct client **client, struct detail *detail);
void clients_put(struct client *client); // closes it with the last user; NULL is fine
