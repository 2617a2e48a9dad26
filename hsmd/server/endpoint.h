// SPDX-License-Identifier: Apache-2.0
// The addresses hsmd listens on. An ipc socket is a file that whoever may write its directory can
// take away; here we make sure not to do that to another hsmd, nor to let one do it to us.
#pragma once

#include <stddef.h>

#include "hsmd/base/err.h"

struct endpoints;

// Looks at what need not be bound for it: of ipc, that the directory is there and that not everyone
// may write to it. ERR_PERM: it may be written by everyone; or it is not there (is_absent then says
// so, since a service manager may be about to make it).
enum err endpoint_check(const char *endpoint, bool *is_absent, struct detail *detail);

// The path of an ipc endpoint's socket; NULL: it is none.
const char *endpoint_path(const char *endpoint);

// Binds to one.
typedef enum err (*endpoint_bind)(void *context, const char *endpoint, struct detail *detail);

// Binds to all of them, or fails with ERR_PERM and "endpoint NAME: reason". For an ipc socket
// PATH.lock is held until endpoints_close; the socket has this mode. ERR_PERM too if another
// process listens there, or there is something that is no socket.
enum err endpoints_bind(endpoint_bind bind, void *context, const char *const *names, size_t count,
                        unsigned mode, struct endpoints **endpoints, struct detail *detail);

// Removes our socket files, as long as they are ours, and gives the locks back. NULL is fine.
void endpoints_close(struct endpoints *endpoints);
