// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/denials.h"

#include <string.h>

#include "hsmd/base/log.h"

#define QUIET_MS 60000

void denials_log(struct denials *denials, const char *domain, const char *address, const char *key)
{
    deadline_t now = clock_ms();
    unsigned i = 0;
    while (i < DENIALS_REMEMBERED && strcmp(denials->keys[i].key, key) != 0)
        i++;
    if (i < DENIALS_REMEMBERED && now < denials->keys[i].quiet_until)
        return;
    if (i == DENIALS_REMEMBERED)
        i = denials->next++ % DENIALS_REMEMBERED;
    memcpy(denials->keys[i].key, key, sizeof denials->keys[i].key);
    denials->keys[i].quiet_until = now + QUIET_MS;
    log_warning("connect", "peer", key, "address", address, "domain", domain, "err",
                "denied: unknown client");
}
