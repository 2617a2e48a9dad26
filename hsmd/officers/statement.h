// SPDX-License-Identifier: Apache-2.0
// What officers sign, with Ed25519 (RFC 8032), and what must hold for it to count.
//
// A proposal's statement is the msgpack array [tag, instance, nonce, proposer, replaces, lapse,
// act]; its digest is the SHA-256 of that. Approvals and rejections are of [tag, instance, number,
// digest]. instance is the registry's own random number, so nothing signed for one hsmd counts at
// another; the nonce is one time only, so nothing signed counts twice; a proposal that changes has
// another digest, so what was signed before does not count for it; the time of lapse is signed, so
// nobody who can write the registry can have it wait longer.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/text.h"
#include "hsmd/officers/act.h"

#define STATEMENT_INSTANCE_SIZE 16
#define STATEMENT_NONCE_SIZE 16
#define STATEMENT_DIGEST_SIZE 32
#define STATEMENT_SIGNATURE_SIZE 64
#define STATEMENT_PUBLIC_KEY_SIZE 32            // OFFICER_SIGNING_KEY_SIZE
#define STATEMENT_SIZE_MAX (ACT_SIZE_MAX + 512) // bytes of what is signed
#define STATEMENT_TIME_MAX 253402300799         // seconds since 1970: the end of the year 9999
#define STATEMENT_SKEW_MAX 300           // seconds that an officer's clock may be before hsmd's
#define STATEMENT_LAPSE_MIN 60           // seconds
#define STATEMENT_LAPSE_MAX (30 * 86400) // seconds
#define STATEMENT_LAPSE_DEFAULT (7 * 86400)
#define STATEMENT_LAPSE_ATTACHMENT_MAX 3600 // of a proposal with a PIN or a private key

struct statement {
    struct bytes instance; // STATEMENT_INSTANCE_SIZE
    struct bytes nonce;    // STATEMENT_NONCE_SIZE
    struct bytes proposer; // the officer's name
    uint64_t replaces;     // number of the proposer's own pending proposal that this one changes; 0
    uint64_t lapse;        // seconds since 1970, when it is over
    struct bytes act;      // encoding
};

// What is signed by who proposes. Appends to out, cap STATEMENT_SIZE_MAX at least. ERR_PERM: a
// field is not of its size, no name, or lapse out of bounds; ERR_TEMP: out of memory.
enum err statement_put(const struct statement *statement, struct buf *out);
enum err statement_digest(const struct statement *statement, uint8_t digest[STATEMENT_DIGEST_SIZE]);
// What is signed by who approves (or rejects) proposal number with that digest.
enum err statement_put_verdict(bool is_approval, struct bytes instance, uint64_t number,
                               struct bytes digest, struct buf *out);

// 32 bytes, and not a point of small order, for which anybody could sign.
bool statement_is_key(struct bytes public_key);

// public_key: 32 bytes. ERR_DENIED: no good signature of that key.
enum err statement_check(struct bytes public_key, struct bytes message, struct bytes signature,
                         struct detail *detail);
