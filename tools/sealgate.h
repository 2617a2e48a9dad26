// SPDX-License-Identifier: Apache-2.0
// The mail operator's command: what its subcommands share.
#pragma once

#include "gateway/conf.h"
#include "hsmd/base/err.h"

// Exit statuses beside those of the verdicts (gateway/verdict.h).
#define SEALGATE_EXIT_OK 0
#define SEALGATE_EXIT_FAILED 1     // certificate commands: refused, not there
#define SEALGATE_EXIT_USAGE 64     // EX_USAGE
#define SEALGATE_EXIT_TEMPORARY 75 // EX_TEMPFAIL
#define SEALGATE_EXIT_CONFIG 78    // EX_CONFIG

// argv[0] is the subcommand's name. Both return the exit status.
int sealgate_process(const struct conf *conf, int argc, char **argv);
int sealgate_certificate(const struct conf *conf, int argc, char **argv);

// Prints "sealgate: ..." and how to get help; returns SEALGATE_EXIT_USAGE.
int sealgate_usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Prints the detail; returns the exit status for the class.
int sealgate_failure(enum err class, const struct detail *detail, int status_of_perm);
