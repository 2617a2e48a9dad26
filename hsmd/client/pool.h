// SPDX-License-Identifier: Apache-2.0
// The links of one process: how many calls may be under way, and which links are idle.
//
// A pool belongs to the process that made it. A forked child finds one with another pid, whose lock
// may be held by a thread that does not exist any more: it touches none of it but to free memory.
#pragma once

#include <sys/types.h>

#include "hsmd/client/link.h"

struct pool;

// ERR_TEMP: out of memory.
enum err pool_new(unsigned links_max, struct pool **pool, struct detail *detail);
// Closes the links; in a forked child the parent's go on. No call may be under way.
void pool_free(struct pool *pool);
bool pool_is_ours(const struct pool *pool); // made by this process

// A pool found by a forked child, kept until this one is freed.
void pool_set_inherited(struct pool *pool, struct pool *inherited);

uint64_t pool_next_id(struct pool *pool); // of a request; never 0

// Every call is between enter and leave. ERR_TEMP: links_max calls are, until the deadline.
enum err pool_enter(struct pool *pool, deadline_t deadline, struct detail *detail);
void pool_leave(struct pool *pool);

// An idle link to conf->endpoint (the index-th), or a new one. The caller gives it back if it may
// be used again, else closes it.
enum err pool_take(struct pool *pool, const struct link_conf *conf, unsigned index,
                   struct link **link, struct detail *detail);
void pool_give(struct pool *pool, struct link *link);
