// SPDX-License-Identifier: Apache-2.0
// A folder with all that a gateway needs, keys in files in place of hsmd's: two domains that write
// to each other through one and the same gateway, a.example outwards and b.example inwards.
#pragma once

#include "gateway/gateway.h"

// Identities, and what their certificates name:
//   signing      RSA  domain a.example             expired   RSA  domain expired.example, out of
//   date ec-signing   EC   domain ec.example            foreign   RSA  domain foreign.example,
//   another CA's personal     RSA  address bob@a.example        absent    its key is with an hsmd
//   that is not there decryption   RSA  domain b.example             ec-decryption  EC  domain
//   ec.b.example both-rsa, both-ec                              address both@b.example
// All decryption certificates are in the store, and that of domain-b2, whose key nobody has.
struct organisation {
    char directory[40];
    char conf_file[24]; // its name in the folder
    bool is_borrowed;   // the folder is another one's
    struct conf *conf;
    struct gateway *gateway;
};

// Failures end the program. more: further lines of the configuration, or NULL; after the others, so
// that single options of it win.
void organisation_open(struct organisation *organisation, const char *more);
// The same keys and certificates under another configuration; base is closed after it.
void organisation_open_like(struct organisation *organisation, const struct organisation *base,
                            const char *more);
void organisation_close(struct organisation *organisation); // removes the folder
// A path in the folder, good until the eighth next call.
const char *organisation_path(const struct organisation *organisation, const char *name);

// A message of that text.
struct message *organisation_message(const struct organisation *organisation, const char *text);
