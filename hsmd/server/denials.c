// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/denials.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/log.h"

#define QUIET_MS 60000

void denials_log(struct denials *denials, const char *domain, const char *address, const char *key)
{
    deadline_t now = clock_ms();
    unsigned i = 0;
    unsigned oldest = 0;
    while (i < DENIALS_REMEMBERED && strcmp(denials->keys[i].key, key) != 0) {
        if (denials->keys[i].quiet_until < denials->keys[oldest].quiet_until)
            oldest = i;
        i++;
    }
    bool is_other = i == DENIALS_REMEMBERED;
    if (is_other)
        i = oldest;
    if (now < denials->keys[i].quiet_until) {
        denials->untold += is_other;
        return;
    }
    memcpy(denials->keys[i].key, key, sizeof denials->keys[i].key);
    denials->keys[i].quiet_until = now + QUIET_MS;
    char more[80] = "denied: unknown client";
    if (denials->untold)
        snprintf(more, sizeof more, "denied: unknown client; %lu more times, with other keys",
                 denials->untold);
    denials->untold = 0;
    log_warning("connect", "peer", key, "address", address, "domain", domain, "err", more);
}
