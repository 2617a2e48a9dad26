// SPDX-License-Identifier: Apache-2.0
// A writer of Prometheus' text format (0.0.4): per metric its HELP and TYPE lines, then samples.
// The first failure sticks; look at it once, at the end.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

struct exposition {
    struct buf *out;
    const char *metric; // whose samples come now; must outlive them
    enum err err;
};

// type: "counter", "gauge" or "histogram". Each metric once.
void exposition_begin(struct exposition *exposition, const char *metric, const char *type,
                      const char *help);

// One sample of the metric with the suffix ("" or "_bucket", "_sum", "_count"). Labels are pairs of
// name and value, ended by a NULL name; values are escaped here.
void exposition_put(struct exposition *exposition, const char *suffix, double value, ...)
    __attribute__((sentinel));
