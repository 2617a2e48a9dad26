// SPDX-License-Identifier: Apache-2.0
// Authentication-Results (RFC 8601) with smime= (RFC 7281): ours put on, forged ones taken off.
#pragma once

#include "gateway/message.h"
#include "hsmd/base/err.h"

enum authres_result { // RFC 7281, 4
    AUTHRES_NONE,
    AUTHRES_PASS,
    AUTHRES_FAIL,
    AUTHRES_POLICY,
    AUTHRES_NEUTRAL,
    AUTHRES_TEMPERROR,
    AUTHRES_PERMERROR,
};

const char *authres_result_name(enum authres_result result);

struct authres {
    enum authres_result result;
    char reason[200];     // comment and reason=; quoted as needed here, '=' and ';' replaced
    char identifier[320]; // body.smime-identifier: the signer's address, or ""
    char serial[80];      // body.smime-serial: hex, or ""
    char issuer[400];     // body.smime-issuer: RFC 4514 name, or ""
    bool was_encrypted;   // said in a comment: "decrypted"
    bool was_decrypted;
};

// Takes off every Authentication-Results that claims our authserv-id (compared without case,
// whatever comments, folds, quotes and spaces hide it or stand in the middle of it, with or without
// a version, first in the field or later, RFC 8601, 5). Returns how many.
size_t authres_remove_forged(struct message *message, const char *authserv_id);
bool authres_has_forged(const struct message *message, const char *authserv_id); // would remove one
// Puts one on top, folded with spaces.
enum err authres_add(struct message *message, const char *authserv_id,
                     const struct authres *authres, struct detail *detail);
