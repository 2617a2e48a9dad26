// SPDX-License-Identifier: Apache-2.0
// A reader of DER (X.690, 10 and 11) that takes nothing else: definite lengths in their shortest
// form, low or minimal high tags, universal types primitive or constructed as they must be.
#pragma once

#include <stdint.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

#define DER_OCTET_STRING 0x04
#define DER_OID 0x06
#define DER_UTC_TIME 0x17
#define DER_GENERALIZED_TIME 0x18
#define DER_SEQUENCE 0x30
#define DER_SET 0x31

struct der {
    uint8_t tag;          // first identifier octet
    struct bytes whole;   // with identifier and length
    struct bytes content; // without
};

// Takes one element off the front of rest. ERR_PERM: not one.
enum err der_take(struct bytes *rest, struct der *out);
// As der_take, of this one tag.
enum err der_take_tag(struct bytes *rest, uint8_t tag, struct der *out);
// Everything inside is well-formed down to depth levels of nesting.
enum err der_check(struct der element, unsigned depth);
// Strictly ascending in the order of a SET OF (X.690, 11.6): before, then after. Equal is not.
bool der_is_ascending(struct bytes before, struct bytes after);
// The content octets of an object identifier.
bool der_is_oid(struct bytes content);
