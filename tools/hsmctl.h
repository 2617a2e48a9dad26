// SPDX-License-Identifier: Apache-2.0
// The key officer's command: what its subcommands share.
#pragma once

#include "hsmd/base/err.h"

#define HSMCTL_EXIT_GOOD 0
#define HSMCTL_EXIT_BAD 1     // what was checked is not as it should be
#define HSMCTL_EXIT_TROUBLE 2 // called wrongly, or a file cannot be read

// argv[0] is the command's name. Returns the exit status.
int hsmctl_audit(int argc, char **argv);
int hsmctl_bench(int argc, char **argv);

// Of "audit": argv[0] is "verify", "show", "export".
int hsmctl_audit_verify(int argc, char **argv);
int hsmctl_audit_show(int argc, char **argv);
int hsmctl_audit_export(int argc, char **argv);

// Prints "hsmctl: ..." and how to get help; returns HSMCTL_EXIT_TROUBLE.
int hsmctl_usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Prints "hsmctl: ..."; returns HSMCTL_EXIT_TROUBLE.
int hsmctl_trouble(const struct detail *detail);
