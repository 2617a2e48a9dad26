// SPDX-License-Identifier: Apache-2.0
// What the tokens' keystore can say about its tokens without asking them: nothing here waits for a
// module that hangs.
#pragma once

#include "hsmd/keystore/keystore_token.h"

struct keystore_status {
    const char *name;  // of the token section
    unsigned sessions; // that we ask of it
    bool is_open;      // found and logged in; false too while its module is opened anew
    bool is_refused;   // its PIN was: it is not tried again before hsmd is started anew
    unsigned failures; // temporary ones in a row
    bool has_enabled;  // a key of it is enabled
};

// By index of config->tokens. False: there are not so many.
bool keystore_get_status(struct keystore *keystore, size_t index, struct keystore_status *status);
