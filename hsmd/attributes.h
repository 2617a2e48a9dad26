// SPDX-License-Identifier: Apache-2.0
// SignedAttributes (RFC 5652, 5.3, 5.4, 11) as hsmd insists on them before it signs: promise 4.
#pragma once

#include <time.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/hash.h"

// How far signing-time may be from now, in seconds. A day forgives any time zone set wrongly, and
// keeps a stolen right to ask from making signatures for next year or last year.
#define ATTRIBUTES_TIME_SLACK 86400
#define ATTRIBUTES_DEPTH_MAX 16 // nesting inside a value
#define ATTRIBUTES_COUNT_MAX 64

struct attributes {
    struct bytes content_type;   // the OID's content octets
    struct bytes message_digest; // as long as the hash
    bool has_signing_time;
    time_t signing_time;
};

// Parses the DER of the SET OF that is hashed (tag 0x31). Bytes of the result point into der.
//
// ERR_PERM unless: DER all the way down (definite, shortest lengths; the attributes, and the values
// of each, in the order of DER), nothing past the end, each attribute type once, content-type and
// message-digest there, these and signing-time with one value each of the right type, the digest
// as long as the hash, and signing-time within ATTRIBUTES_TIME_SLACK of now. Other attributes are
// allowed if well-formed.
enum err attributes_parse(struct bytes der, enum hash hash, time_t now, struct attributes *out,
                          struct detail *detail);
