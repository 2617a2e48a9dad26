// SPDX-License-Identifier: Apache-2.0
// One officer's talk with hsmd: the officer's key, the connection, and what must be known of hsmd
// to sign for it.
#pragma once

#include <jansson.h>

#include "hsmd/base/err.h"
#include "hsmd/officers/keyfile.h"
#include "hsmd/officers/message.h"
#include "tools/hsmctl_conf.h"

struct channel;
struct call;

struct session {
    struct hsmctl_conf conf;
    struct officer_key key;
    struct channel *channel; // NULL: not open yet
    json_t *status, *officers;
    const char *name; // of this officer, as hsmd has it; borrowed from officers
    bool is_auditor;
    uint64_t id; // of the last request
};

// Asks for the passphrase, reads the key, connects. Does nothing if that was done already.
enum err session_open(struct call *call, struct detail *detail);
void session_clear(struct session *session);

// Sends a request (its id is filled in) and waits for what hsmd says. body: the caller's, to be
// cleared; empty before. ERR_DENIED, ERR_PERM, ...: hsmd says no, and why; or it does not answer.
// call->failure says which of the two. There may be a body with it (proposal_take).
enum err session_ask(struct call *call, struct message_request *request, struct buf *body,
                     struct detail *detail);
// Reads something and parses it.
enum err session_read(struct call *call, enum message_read what, const char *argument,
                      json_t **body, struct detail *detail);
// Reads status and officers, once: who am I, which hsmd is that? ERR_DENIED: hsmd has another
// signing key for this officer.
enum err session_know(struct call *call, struct detail *detail);
// The Ed25519 key of an officer. ERR_PERM: there is none of that name.
enum err session_signing_key(const struct session *session, const char *name,
                             uint8_t key[OFFICER_SIGNING_KEY_SIZE]);
// hsmd's own number. ERR_PERM: it is not in the status.
enum err session_instance(const struct session *session, struct buf *instance,
                          struct detail *detail);
// The name of the only token. ERR_PERM: there are more, or none.
enum err session_token(struct call *call, struct bytes *name, struct detail *detail);
