// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/tokens.h"

const struct custody_token_ops custody_keystore_ops = {
    .keys = &keystore_token_ops,
    .is_open = keystore_key_is_open,
    .add_key = keystore_add_key,
    .drop_key = keystore_drop_key,
    .generate = keystore_generate,
    .import = keystore_import,
    .look = keystore_look,
    .destroy = keystore_destroy,
    .list = keystore_list,
    .unlock = keystore_unlock,
    .lock = keystore_lock,
    .is_locked = keystore_is_locked,
};
