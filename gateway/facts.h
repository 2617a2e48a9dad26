// SPDX-License-Identifier: Apache-2.0
// All that a decision about an outgoing message may look at. Gathering it reads the message, the
// store and our certificates; deciding on it (policy.h) does not.
#pragma once

#include <time.h>

#include <openssl/x509.h>

#include "gateway/address.h"
#include "gateway/certificate.h"
#include "gateway/gateway.h"
#include "gateway/message.h"
#include "hsmd/base/err.h"

enum facts_content {
    FACTS_PLAIN,     // nothing of S/MIME's at the root
    FACTS_SIGNED,    // by the sender's own client; not signed again (P15)
    FACTS_ENCRYPTED, // likewise; not touched at all
    FACTS_BROKEN,    // says that it is S/MIME, but it cannot be told what is in there
};

enum facts_validity {
    FACTS_VALID,
    FACTS_EXPIRED,
    FACTS_NOT_YET_VALID,
    FACTS_UNKNOWN, // hsmd has the certificate and did not give it
};

enum facts_key_types { FACTS_RSA = 1, FACTS_EC = 2 }; // bits

struct facts_signer {
    size_t identity; // index into the gateway's
    const char *name;
    enum certificate_match covers; // the From address
    enum facts_validity validity;
};

struct facts_recipient {
    char address[ADDRESS_MAX]; // normalised; as it came if it is not an address
    bool is_local;             // in one of our domains
    bool is_hidden;            // not named in To or Cc: the others must not learn of it (P7)
    unsigned key_types;        // of its certificates
    size_t *certificates;      // indexes into facts.certificates; owned
    size_t certificate_count;  // 0: nothing to encrypt with
};

struct facts {
    const struct profile *profile; // NULL: to be left alone
    bool protects_local;
    char from[ADDRESS_MAX]; // normalised; "" if there is no single one
    enum facts_content content;
    char content_reason[120];
    struct facts_signer signers[CONF_SIGNERS_MAX]; // in the profile's order
    size_t signer_count;
    struct detail signer_problem;       // why one is FACTS_UNKNOWN, for the log
    struct facts_recipient *recipients; // in the envelope's order; owned
    size_t recipient_count;
    STACK_OF(X509) * certificates; // of all recipients, each once; owned
};

// ERR_TEMP: store, disk, memory. That hsmd is away is a fact, not a failure.
enum err facts_gather(struct gateway *gateway, const struct envelope *envelope,
                      const struct message *message, const struct profile *profile, time_t now,
                      struct facts *facts, struct detail *detail);
void facts_clear(struct facts *facts);

// The address stands in a field To, Cc, Resent-To or Resent-Cc.
bool facts_is_named(const struct message *message, const char *address);
