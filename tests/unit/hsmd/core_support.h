// SPDX-License-Identifier: Apache-2.0
// What the tests of the core share: a custodian, good requests for each of its operations, and what
// they are about.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/custodian.h"

extern struct custodian custodian;
extern struct buf attributes; // good ones, SHA-256
extern struct buf attributes512;
extern struct buf frame;  // the newest reply
extern uint8_t point[65]; // a peer's public point
extern uint8_t wrapped_pkcs1[256];
extern uint8_t wrapped_oaep[256];  // SHA-256
extern const char content_key[17]; // in both of them, without its NUL

int setup(void **state);
int teardown(void **state);

// The message or digest is any; the attributes are these. eddsa: attributes or a message.
struct wire_request make_sign(const char *key, enum wire_algorithm algorithm, enum wire_form form);
struct wire_request make_eddsa(const char *key, enum wire_form form);
struct wire_request make_unwrap(const char *key, bool oaep);
struct wire_request make_agree(const char *key);

// Class of the answer; -1: none. reply may be NULL.
int call(enum custodian_client client, const struct wire_request *request,
         struct wire_reply *reply);
