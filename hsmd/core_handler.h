// SPDX-License-Identifier: Apache-2.0
// The core behind a server: the data path. Lanes are core_lane's, workers are core_workers.
#pragma once

#include "hsmd/core.h"
#include "hsmd/server/server.h"

// core: borrowed.
struct server_handler core_handler(const struct core *core);
