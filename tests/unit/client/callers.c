// SPDX-License-Identifier: Apache-2.0
#include "callers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "fixture.h"

void *caller_run(void *data)
{
    struct caller *caller = data;
    char text[40];
    for (unsigned i = 0; i < caller->calls; i++) {
        snprintf(text, sizeof text, "data %u of %u", i, caller->number);
        caller->failed += fixture_sign(caller->client, "key", text, &caller->detail) != ERR_OK;
    }
    return NULL;
}

void callers_start(struct caller callers[CALLERS], struct client *client, unsigned calls)
{
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.client = client, .number = i, .calls = calls};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_run, &callers[i]), 0);
    }
}

void callers_join(struct caller callers[CALLERS])
{
    for (unsigned i = 0; i < CALLERS; i++)
        pthread_join(callers[i].thread, NULL);
    for (unsigned i = 0; i < CALLERS; i++) {
        if (callers[i].failed)
            fail_msg("caller %u: %u failed: %s", i, callers[i].failed, callers[i].detail.text);
    }
}

void assert_signs(struct client *client, const char *data)
{
    struct detail detail = {0};
    if (fixture_sign(client, "key", data, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
}
