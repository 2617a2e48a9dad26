// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/denials.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/log.h"

#define QUIET_MS 60000
#define TEXT_SIZE 160

// Puts into text what is to be said of it now. False: nothing.
static bool is_due(struct denials *denials, const char *who, const char *reason, const char *others,
                   char text[TEXT_SIZE])
{
    deadline_t now = clock_ms();
    unsigned i = 0;
    unsigned oldest = 0;
    while (i < DENIALS_REMEMBERED && strcmp(denials->known[i].who, who) != 0) {
        if (denials->known[i].quiet_until < denials->known[oldest].quiet_until)
            oldest = i;
        i++;
    }
    bool is_other = i == DENIALS_REMEMBERED;
    if (is_other)
        i = oldest;
    if (now < denials->known[i].quiet_until) {
        denials->untold += is_other;
        return false;
    }
    snprintf(denials->known[i].who, sizeof denials->known[i].who, "%s", who);
    denials->known[i].quiet_until = now + QUIET_MS;
    if (denials->untold)
        snprintf(text, TEXT_SIZE, "%s; %lu more times, %s", reason, denials->untold, others);
    else
        snprintf(text, TEXT_SIZE, "%s", reason);
    denials->untold = 0;
    return true;
}

void denials_log(struct denials *denials, const char *domain, const char *address, const char *key)
{
    char text[TEXT_SIZE];
    if (is_due(denials, key, "denied: unknown client", "with other keys", text))
        log_warning("connect", "peer", key, "address", address, "domain", domain, "err", text);
}

void denials_log_failure(struct denials *denials, const char *domain, const char *address,
                         uid_t user, const char *reason)
{
    char text[TEXT_SIZE];
    char who[REGISTRY_PUBLIC_KEY_SIZE];
    snprintf(who, sizeof who, "%u", (unsigned)user);
    if (is_due(denials, who, reason, "by other users", text))
        log_warning("connect", "address", address, "domain", domain, "err", text);
}
