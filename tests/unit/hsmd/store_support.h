// SPDX-License-Identifier: Apache-2.0
// What the tests of the store share: one in a directory of its own, things to put in, and walks
// that are compared with a text.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hsmd/registry/store.h"

#define KEY_1 "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define KEY_2 "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define KEY_3 "abcdefghijklmnopqrstuvwxyz0123456789ABCD"

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

extern char dir[64];
extern char path[96];
extern struct store *store;
extern struct detail detail;
extern struct buf seen; // what the walks have met, as text

int setup(void **state);
int teardown(void **state);
void reopen(void);
void assert_open_fails(enum err class, const char *said);
void assert_refused(enum err err, const char *said);
enum err see_key(void *context, const struct store_key *key);
enum err see_client(void *context, const struct store_client *client);
enum err see_grant(void *context, const struct store_grant *grant);
enum err see_officer(void *context, const struct store_officer *officer);
enum err see_proposal(void *context, const struct store_proposal *proposal);
enum err see_verdict(void *context, const struct store_verdict *verdict);
void assert_keys(const char *name, const char *expected);
void assert_clients(const char *name, const char *expected);
void assert_grants(const char *client, const char *key, const char *expected);
void assert_officers(const char *name, const char *expected);
void assert_proposals(uint64_t number, bool pending_only, const char *expected);
void assert_verdicts(uint64_t number, const char *expected);
struct store_key a_key(const char *name);
struct store_client a_client(const char *name, const char *public_key);
struct store_officer an_officer(const char *name, uint8_t signing, const char *curve);
void add_key(const char *name);
void add_client(const char *name, const char *public_key);
enum err put_grant(const char *client, const char *key, uint64_t operations, unsigned total);
// The nonce is all one byte, so is the signature.
struct store_proposal a_proposal(uint8_t nonce, const char *act);
uint64_t propose(uint8_t nonce, const char *act);
enum err put_verdict(uint64_t number, const char *officer, bool is_approval, uint8_t last);
