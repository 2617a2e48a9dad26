// SPDX-License-Identifier: Apache-2.0
// A second process that does nothing but what its callers ask, each over a socket of its own in a
// thread of its own: no name of a key, no authorisation, no encryption, no log. What that costs is
// what any custodian in a process of its own costs at least, on this machine with this token.
#pragma once

#include <sys/types.h>

#include "tools/bench_half.h"

// Splits the process in two, before a module is loaded in it: half is as the process would serve
// it. Returns the other's pid in the one that calls (which goes on with bare_call), 0 in the one
// that answers (which goes on with bare_answer once its token is there), -1 with a word on standard
// error.
pid_t bare_split(const struct bench_half *half);

// Both return the exit status, the first that of both.
int bare_call(const struct bench_half *half, pid_t answerer);
int bare_answer(const struct bench_half *half);
