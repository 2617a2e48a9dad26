// SPDX-License-Identifier: Apache-2.0
// An officer's configuration: where hsmd is, who it is, who we are.
#pragma once

#include "hsmd/base/curve.h"
#include "hsmd/base/err.h"

struct hsmctl_conf {
    char *endpoint;        // owned
    char *key_file;        // owned
    char *server_key_file; // owned
    char server_key[CURVE_TEXT_SIZE];
    unsigned timeout_ms;
};

// path NULL: the first of $HSMCTL_CONF, ~/.config/hsmctl.conf, /etc/hsmd/hsmctl.conf that is there
// (a $HSMCTL_CONF that is not there is an error). Paths in it are relative to it.
enum err hsmctl_conf_load(const char *path, struct hsmctl_conf *conf, struct detail *detail);
void hsmctl_conf_clear(struct hsmctl_conf *conf);
