// SPDX-License-Identifier: Apache-2.0
// A real hsmd process with a SoftHSM token, in a directory of its own:
//     hsmd.conf, server.key, server.pub, gw.key, gw.pub (client "gateway"), stranger.key,
//     stranger.pub, pin, data.sock, state/audit.log, state/registry.db, stderr
// Keys in the registry: signing (rsa2048, smime-sign), decryption (rsa3072, smime-decrypt),
// ec-signing (p256), ec-decryption (p384), general (RSA-2048, general). In the token there are
// also "weak" (extractable), "shown" (not sensitive), "sign-only" and "decrypt-only", P-256. Exits
// the test if something of its own fails.
#pragma once

#include <sys/types.h>

#include "hsmd/client/client.h"
#include "tests/support/softhsm.h"

struct hsmd {
    struct softhsm hsm;
    char dir[64];
    char endpoint[96];
    char state[32];     // its directory, in dir
    bool is_to_migrate; // the configuration is new
    pid_t pid;          // 0: not running
};

void hsmd_setup(struct hsmd *hsmd);
void hsmd_teardown(struct hsmd *hsmd);

// A file in the directory, by name; lives until the next call but three.
const char *hsmd_path(const struct hsmd *hsmd, const char *name);

// Removes the audit log, and what hsmd knows of it: a chain of its own for the next start.
void hsmd_drop_log(struct hsmd *hsmd);

// Writes hsmd.conf, with keys, clients and grants in it as before there was a registry; each
// NULL-ended pair of arguments after that is a text in it and what it becomes. The next start
// brings them into a new registry.
void hsmd_configure(struct hsmd *hsmd, ...) __attribute__((sentinel));

// A new registry with what is in hsmd.conf: the exit status of `hsmd migrate`.
int hsmd_migrate(struct hsmd *hsmd);

// Migrates if hsmd.conf is new. Starts hsmd; true when it says it is ready, false when it ended
// instead (status: its exit status, or that of `hsmd migrate`).
bool hsmd_start(struct hsmd *hsmd, int *status);
// The same where it must start: else the test ends with what hsmd said.
void hsmd_serve(struct hsmd *hsmd);
// Sends the signal and waits; the exit status, or 1000 + the signal that ended it.
int hsmd_stop(struct hsmd *hsmd, int signal);

// Runs `hsmd ARGS...`, NULL-ended, and waits; its exit status. What it said is in output.
int hsmd_run(struct hsmd *hsmd, char *output, size_t size, ...) __attribute__((sentinel));

// Configures hsmd with the fault shim (tests/fault/shim.c) in front of the token, and tells it what
// to break: lines as there, "" for nothing.
void hsmd_use_shim(struct hsmd *hsmd);
void hsmd_shim(struct hsmd *hsmd, const char *faults);
// Calls of a function since "count FUNCTION" was told, by all hsmds so far.
unsigned hsmd_shim_calls(const struct hsmd *hsmd, const char *function);

// Is the text in what the running or last hsmd has written to standard error?
bool hsmd_said(const struct hsmd *hsmd, const char *text);
// How often is it in there?
unsigned hsmd_times_said(const struct hsmd *hsmd, const char *text);

// A client with the key pair NAME.key, NAME.pub.
struct client *hsmd_client(struct hsmd *hsmd, const char *name, unsigned timeout_ms);

// Has signed attributes of SHA-256 signed; signature: gets it if the answer is ok, or NULL.
enum err hsmd_sign(struct client *client, const char *key, enum wire_algorithm algorithm,
                   struct bytes attributes, struct buf *signature);
