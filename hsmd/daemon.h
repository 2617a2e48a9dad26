// SPDX-License-Identifier: Apache-2.0
// hsmd put together: everything opened and checked in order, served, and closed again.
#pragma once

#include "hsmd/config.h"

struct daemon;

// What `hsmd -t` does: the configuration, the modes of key, PIN and state files, certificates,
// directories, names. Touches no token and changes nothing. Flaws that need not stop hsmd are
// logged as warnings.
enum err daemon_check(const struct config *config, struct detail *detail);

// Opens all and serves. config is borrowed and outlives the daemon. The detail begins with the step
// that failed: state directory, server key, certificate, token NAME (module, slot, token, PIN,
// login), key NAME (..., attributes, certificate), audit log, endpoint. Flaws that need not stop it
// are logged as warnings. Call in a process with all signals blocked that the caller waits for. On
// failure daemon is left NULL; set all the same, it says that a module hangs, as daemon_stop's
// ERR_TEMP does.
enum err daemon_start(const struct config *config, struct daemon **daemon, struct detail *detail);

// After SIGHUP: goes on in a new audit log if the old one was moved away.
void daemon_reopen_logs(struct daemon *daemon);

// Every few seconds: writes down what was only counted so far.
void daemon_tell_refusals(struct daemon *daemon);

// ERR_TEMP: a worker hangs in the token; the process must end without calling the token's module.
enum err daemon_stop(struct daemon *daemon, struct detail *detail);
