// SPDX-License-Identifier: Apache-2.0
// A cursor over BER (X.690), DER included: what a mail from outside may be made of, read without
// recursion, without copies, with a bound on everything. Errors are sticky: read what is expected,
// then ask ber_is_done or is_bad once.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

#define BER_DEPTH_MAX 32            // levels of constructed elements
#define BER_ELEMENTS_MAX (1u << 20) // elements of one object: 50 MB in chunks of 50 bytes
#define BER_STRING_DEPTH_MAX 4      // constructed strings within constructed strings

enum ber_tag { // identifier octets; only low tag numbers occur in CMS
    BER_BOOLEAN = 0x01,
    BER_INTEGER = 0x02,
    BER_BIT_STRING = 0x03,
    BER_OCTET_STRING = 0x04,
    BER_NULL = 0x05,
    BER_OID = 0x06,
    BER_OCTET_STRING_CHUNKED = 0x24,
    BER_SEQUENCE = 0x30,
    BER_SET = 0x31,
    BER_CONTEXT = 0x80,             // | number
    BER_CONTEXT_CONSTRUCTED = 0xa0, // | number
};

struct ber {
    struct bytes left;
    bool is_bad;
};

struct ber_element {
    uint8_t tag;
    struct bytes content;
    struct bytes whole; // with identifier, length and end-of-contents
};

// Walks one object at the start of data and everything constructed in it: lengths that fit in each
// other, no deeper than BER_DEPTH_MAX, no more than BER_ELEMENTS_MAX elements. *used: its length.
// After this the functions below cost no more than the object is long, times its depth.
bool ber_check(struct bytes data, size_t *used);

struct ber ber_open(struct bytes content);
bool ber_is_done(const struct ber *ber); // at the end and nothing was bad
uint8_t ber_peek(const struct ber *ber); // tag of the next element; 0 at the end or if bad

// The next element; it must have that tag, else the cursor is bad and the element empty.
struct ber_element ber_get(struct ber *ber, uint8_t tag);
// The next element whatever it is. False at the end or if bad.
bool ber_next(struct ber *ber, struct ber_element *element);
// Takes the next element if it has that tag.
bool ber_try(struct ber *ber, uint8_t tag, struct ber_element *element);
// The next element, a small non-negative INTEGER.
unsigned ber_get_unsigned(struct ber *ber);

// Length of an octet string's value, constructed or not (tag: of its primitive form, which may be
// context-specific). False: something other than octet strings in it.
bool ber_string_len(const struct ber_element *element, size_t *len);
