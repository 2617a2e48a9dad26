// SPDX-License-Identifier: Apache-2.0
// What cmocka tests of a council (council.h) share: one council a test, acts to give it, and
// assertions about its answers, which tell what it said if they fail.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "tests/support/council.h"

extern struct council council;
extern struct registry_key found; // by council_find_key

// The set-up of a test: with a quorum of two, of one, or with nobody yet (council_open is the
// test's); and the teardown of each.
int council_begin(void **state);
int council_begin_alone(void **state);
int council_begin_closed(void **state);
int council_end(void **state);

// Of an answer; words: some that its detail has.
void council_ok(enum err err);
void council_refused(enum err err, enum err wanted, const char *words);
// Of an act proposed by alice and approved by bob.
void council_do_ok(struct act act);
void council_do_refused(struct act act, enum err wanted, const char *words);

#define KEY_1 "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define KEY_2 "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
extern const struct act add_client; // "gw1" with KEY_1
extern const struct act add_other;  // "gw2" with KEY_2

struct act act_named(enum act_kind kind, const char *name);
struct act act_generate(const char *name, enum wire_purpose purpose); // P-256, in token "main"
struct act act_quorum(unsigned number);

// The key of the registry of the moment, copied into found; NULL: there is none.
const struct registry_key *council_find_key(const char *name);
bool council_has_client(const char *public_key); // in the registry of the moment

// Makes the audit log longer than the store will be, so that a limit on files is one on the log.
void council_fill_log(void);
// The audit log has room for so many bytes more; RLIM_INFINITY: for all.
void council_set_log_room(rlim_t room);
