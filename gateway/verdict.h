// SPDX-License-Identifier: Apache-2.0
// The answer to the sender of a message: what becomes of it, as SMTP reply (RFC 5321, RFC 3463) and
// as exit status of sealgate(1).
//
//     kind      SMTP                      exit
//     deliver   250, by the MTA             0
//     bounce    5yz, the sender is told    10
//     drop      250, and nobody is told    11
//     temp      4yz, tried again later     75
#pragma once

#include "gateway/cms.h"
#include "gateway/authres.h"
#include "hsmd/base/err.h"

enum verdict_kind {
    VERDICT_DELIVER,
    VERDICT_BOUNCE,
    VERDICT_DROP,
    VERDICT_TEMP,
};

struct verdict {
    enum verdict_kind kind;
    char code[4];     // "550"; "" for deliver and drop
    char enhanced[8]; // "5.7.1"
    char text[300];   // one line of printable ASCII
};

const char *verdict_kind_name(enum verdict_kind kind); // "deliver"
int verdict_exit_status(enum verdict_kind kind);

void verdict_deliver(struct verdict *verdict);
void verdict_drop(struct verdict *verdict, const char *why);
// code "451 4.7.5" decides bounce or temp by its first digit. Untrusted text may be passed: it is
// quoted and cut.
void verdict_reply(struct verdict *verdict, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// A failure of ours, by its class: temp, denied and bug are tried again later without details to
// the outside, which may not even be our user; perm is a bounce that says why.
void verdict_of_err(struct verdict *verdict, enum err class, const struct detail *detail);

// What a checked signature means for the reader (RFC 7281, section 3; sealgate.conf(5) has the
// table). covers_from: the signer's certificate names the From address.
enum authres_result verdict_of_signature(enum cms_verdict signature, bool covers_from);
