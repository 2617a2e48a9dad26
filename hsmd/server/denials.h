// SPDX-License-Identifier: Apache-2.0
// What is logged of peers that are not let in. A refused client tries again and again: each key,
// and each user whose handshakes fail, is logged once a minute. And whoever wants to fill the log
// makes a new key each time: no more than so many are, and the line after that tells of how many
// there was none.
#pragma once

#include <sys/types.h>

#include "hsmd/base/clock.h"
#include "hsmd/registry/registry.h"

#define DENIALS_REMEMBERED 16

// Embedded, all zero at first. One for keys or one for users. One caller at a time.
struct denials {
    struct {
        char who[REGISTRY_PUBLIC_KEY_SIZE];
        deadline_t quiet_until;
    } known[DENIALS_REMEMBERED];
    unsigned long untold;
};

// address: where it comes from, for people.
void denials_log(struct denials *denials, const char *domain, const char *address, const char *key);

// One that has not said which key is its own.
void denials_log_failure(struct denials *denials, const char *domain, const char *address,
                         uid_t user, const char *reason);
