// SPDX-License-Identifier: Apache-2.0
// How hsmd is, for those who watch it: all metrics, and whether all is well. Names of the
// configuration and numbers, nothing secret; reasons stay in the log.
#pragma once

#include <time.h>

#include "hsmd/core.h"
#include "hsmd/keystore/keystore_status.h"
#include "hsmd/watch/metrics.h"

// All borrowed; NULL or 0 where there is none.
struct status {
    const struct core *core;
    struct keystore *keystore;
    struct budgets *budgets;
    struct selftest *selftest;
    unsigned workers;
    time_t started;
};

enum err status_put_metrics(const struct status *status, struct buf *out);

// "ok", or a line per problem: the audit log cannot be written, a token of an enabled key is not
// there or fails, a self-test has failed or does not end. As JSON
// {"status":"ok"|"failing","problems":["..."]}.
enum err status_put_health(const struct status *status, bool is_json, struct buf *out,
                           bool *is_well);
