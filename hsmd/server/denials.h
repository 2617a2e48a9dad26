// SPDX-License-Identifier: Apache-2.0
// What is logged of peers that are not let in. A refused client tries again and again: each key is
// logged once a minute. And whoever wants to fill the log makes a new key each time: no more than
// so many keys are, and the line after that tells of how many there was none.
#pragma once

#include "hsmd/base/clock.h"
#include "hsmd/registry/registry.h"

#define DENIALS_REMEMBERED 16

// Embedded, all zero at first. One caller at a time.
struct denials {
    struct {
        char key[REGISTRY_PUBLIC_KEY_SIZE];
        deadline_t quiet_until;
    } keys[DENIALS_REMEMBERED];
    unsigned long untold;
};

// address: where it comes from, for people.
void denials_log(struct denials *denials, const char *domain, const char *address, const char *key);
