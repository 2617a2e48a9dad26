// SPDX-License-Identifier: Apache-2.0
// How many refusals of a client are written down one by one. A client can have itself refused as
// fast as it can send; of what is over the limit only the count is kept, to be written down when
// the minute is over. Uses of a key are no refusals, and are always written down. Thread-safe.
#pragma once

#include <stdint.h>

#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"
#include "hsmd/base/text.h"

#define REFUSALS_MAX 60         // of a client, in the time below
#define REFUSALS_TIME_MS 60000  // from the first one
#define REFUSALS_ALL UINT64_MAX // a time at which all is over

struct refusals;

enum err refusals_new(struct refusals **refusals);
void refusals_free(struct refusals *refusals);

// One more of this client (its name). True: write it down by itself. So it is when memory is short,
// and without refusals (NULL).
bool refusals_admit(struct refusals *refusals, const char *client, deadline_t now);

// A client whose time is over and how many of its refusals nobody has written down; they are the
// caller's to tell now. False: none. And back, if they could not be told.
bool refusals_take(struct refusals *refusals, deadline_t now, char client[TEXT_NAME_MAX + 1],
                   uint64_t *count);
void refusals_put_back(struct refusals *refusals, const char *client, uint64_t count);
