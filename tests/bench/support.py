# SPDX-License-Identifier: Apache-2.0
"""What the tests of the measuring share."""

import os
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

POSITIVE = ["direct", "hsmd", "ratio", "direct_p50_us", "direct_p99_us", "hsmd_p50_us",
            "hsmd_p99_us", "direct_cpu_s", "direct_operations", "hsmd_operations"]
failures = []


def check(what, ok):
    print(("ok      " if ok else "FAILED  ") + what, flush=True)
    if not ok:
        failures.append(what)


def check_row(row, has_cpu=True):
    """The shape that is promised of a row of JSON; nothing of speed."""
    name = f"{row['key']} {row['op']} {row['callers']}"
    for field in POSITIVE + ["hsmd_cpu_s"] * has_cpu:
        check(f"{name}: {field} is there", isinstance(row[field], (int, float)) and row[field] > 0)
    for field in ["added_p50_us", "added_p99_us"] + ["hsmd_daemon_cpu_s"] * has_cpu:
        check(f"{name}: {field} is a number", isinstance(row[field], (int, float)))
    if not has_cpu:
        check(f"{name}: no processor time of an unknown hsmd",
              "hsmd_cpu_s" not in row and "hsmd_daemon_cpu_s" not in row)
    for side in ("direct", "hsmd"):
        check(f"{name}: {side}'s p99 is no less than its p50",
              row[f"{side}_p99_us"] >= row[f"{side}_p50_us"])
    check(f"{name}: the ratio is within those of the pairs",
          row["ratio_min"] <= row["ratio"] <= row["ratio_max"])
    check(f"{name}: nothing failed", row["failures"] == 0)
