// SPDX-License-Identifier: Apache-2.0
// Custody behind a server: the officers' channel. Lane 0 reads, lane 1 acts.
#pragma once

#include "hsmd/custody/custody.h"
#include "hsmd/server/server.h"

// custody: borrowed.
struct server_handler custody_handler(struct custody *custody);
