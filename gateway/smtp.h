// SPDX-License-Identifier: Apache-2.0
// Hands a copy of a message back to the MTA, on a port of it that runs no milters.
#pragma once

#include "gateway/gateway.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

struct smtp_conf {
    const char *url;     // "smtp://127.0.0.1:7302"
    const char *name;    // said in EHLO
    unsigned timeout_ms; // of the whole transaction
};

// Once in main, before any thread, if smtp_send shall be called: loads libcurl. ERR_PERM: it is not
// there; ERR_TEMP: out of memory.
enum err smtp_start(struct detail *detail);
void smtp_stop(void);

// One transaction: done for all recipients when it returns ERR_OK. Everything else is ERR_TEMP,
// whatever the server said, and nothing was taken over then, unless the answer to the last line got
// lost. ERR_PERM: an address that cannot be said in SMTP.
enum err smtp_send(const struct smtp_conf *conf, const struct envelope *envelope,
                   struct bytes message, struct detail *detail);
