// SPDX-License-Identifier: Apache-2.0
// sealgate.conf(5), read once at start into a const struct. Options and defaults: conf_options.h.
#pragma once

#include <stddef.h>

#include "gateway/cms.h"
#include "gateway/identity.h"
#include "gateway/network.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"
#include "hsmd/base/log.h"

#define CONF_SIGNERS_MAX 16 // of one profile
#define CONF_DEPTH_MAX 32   // layers of S/MIME that may be asked for

struct conf_texts {
    const char **items;
    size_t count;
};

struct conf_identity {
    struct identity_conf identity;
    bool can_sign;
    bool can_decrypt;
};

enum profile_mode {
    PROFILE_SIGN,
    PROFILE_ENCRYPT,
    PROFILE_SIGN_ENCRYPT,
    PROFILE_TRIPLE, // sign, encrypt, sign
};

enum missing_key { // what happens if a recipient has no certificate (F43)
    MISSING_KEY_BOUNCE,
    MISSING_KEY_DROP,
    MISSING_KEY_SPLIT,
};

struct profile {
    const char *name;
    enum profile_mode mode;
    size_t signers[CONF_SIGNERS_MAX]; // indexes of conf.identities
    size_t signer_count;
    bool is_opaque;
    enum missing_key missing_key;
    enum cms_cipher cipher;
    bool oaep;
    bool pss;
    enum hash hash;
};

struct conf {
    const char *authserv_id;
    const char *store;
    const char *trust_anchors; // NULL: none, and nothing is verified
    const char *listen;
    const char *reinject;      // NULL: no way to send copies
    unsigned reinject_timeout; // ms
    const char *spool_directory;
    size_t spool_memory, message_max;
    unsigned depth;
    enum log_sink log_sink;
    enum log_level log_level;

    struct conf_texts domains; // normalised
    struct conf_texts originating_daemons;
    struct network *networks;
    size_t network_count;
    struct conf_identity *identities;
    size_t identity_count;
    struct profile *profiles;
    size_t profile_count;

    const struct profile *outbound_profile; // NULL: outgoing mail is left alone
    const char *profile_header;             // NULL: senders cannot choose
    bool protects_local;                    // recipients in our domains are treated like others
    bool verify, decrypt, keep_signature, allow_legacy; // inbound

    struct conf_texts owned; // every text above
};

// ERR_PERM: the file is wrong; detail says "FILE:LINE: ..." or "FILE: ...". Checks what can be
// told from the file alone; the files that it names are read by gateway_open.
enum err conf_read(const char *path, struct conf **conf, struct detail *detail);
void conf_free(struct conf *conf); // NULL is fine

// NULL: no such profile.
const struct profile *conf_profile(const struct conf *conf, const char *name);
bool conf_is_local(const struct conf *conf, const char *address); // normalised address

bool profile_signs(const struct profile *profile);
bool profile_encrypts(const struct profile *profile);
