// SPDX-License-Identifier: Apache-2.0
// The checkpoints' side of audit_verify: remembers the hashes of the last AUDIT_COVER_MAX lines,
// and checks signatures over them.
#pragma once

#include <openssl/types.h>

#include "hsmd/audit/audit_parse.h"

#define AUDIT_KEYS_MAX 64

struct audit_signed;

// What checkpoints of this key have in key_id: the SHA-256 of its SubjectPublicKeyInfo.
enum err audit_signed_key_id(EVP_PKEY *key, uint8_t id[AUDIT_HASH_SIZE], struct detail *detail);

// key: RSA or EC, borrowed. ERR_PERM: of another type.
enum err audit_signed_new(EVP_PKEY *key, struct audit_signed **seals, struct detail *detail);
// One more that may have signed, when the key was changed. ERR_PERM also: too many.
enum err audit_signed_add_key(struct audit_signed *seals, EVP_PKEY *key, struct detail *detail);
void audit_signed_free(struct audit_signed *seals);

// Each line that fits, in order.
void audit_signed_note(struct audit_signed *seals, const struct audit_link *line, bool is_seal);

// A checkpoint, before it is noted itself. ERR_PERM: the detail says what is wrong.
enum err audit_signed_check(struct audit_signed *seals, const struct audit_line *line,
                            struct detail *detail);

// Lines noted with a number above covered that are no checkpoints.
uint64_t audit_signed_uncovered(const struct audit_signed *seals, uint64_t covered);
