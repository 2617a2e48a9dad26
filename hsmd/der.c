// SPDX-License-Identifier: Apache-2.0
#include "hsmd/der.h"

#include <string.h>

#define CONSTRUCTED 0x20
#define CLASS_MASK 0xc0
#define NUMBER_MASK 0x1f

// The octets of the tag; 0: not one. High tag numbers are minimal base 128 and above 30.
static size_t tag_length(struct bytes from)
{
    if (from.len == 0)
        return 0;
    if ((from.data[0] & NUMBER_MASK) != NUMBER_MASK)
        return 1;
    if ((from.data[0] & CLASS_MASK) == 0)
        return 0; // no universal type has such a number
    if (from.len < 2 || from.data[1] == 0x80 || from.data[1] < 31)
        return 0;
    for (size_t i = 1; i < from.len && i < 6; i++) {
        if (!(from.data[i] & 0x80))
            return i + 1;
    }
    return 0;
}

// X.690, 10.2: strings are primitive; 8.9 to 8.12: sequences and sets are constructed.
static bool is_form_right(uint8_t tag)
{
    if (tag & CLASS_MASK)
        return true;
    bool constructed = tag & CONSTRUCTED;
    switch (tag & NUMBER_MASK) {
    case 0: // end-of-contents
    case 15:
        return false;
    case 8:  // EXTERNAL
    case 11: // EMBEDDED PDV
    case 16:
    case 17:
    case 29: // CHARACTER STRING
        return constructed;
    default:
        return !constructed;
    }
}

enum err der_take(struct bytes *rest, struct der *out)
{
    size_t at = tag_length(*rest);
    if (at == 0 || at >= rest->len || !is_form_right(rest->data[0]))
        return ERR_PERM;
    size_t len = rest->data[at++];
    if (len & 0x80) {
        size_t octets = len & 0x7f;
        if (octets == 0 || octets > 4 || octets > rest->len - at || rest->data[at] == 0)
            return ERR_PERM;
        len = 0;
        for (size_t i = 0; i < octets; i++)
            len = len << 8 | rest->data[at++];
        if (len < 0x80)
            return ERR_PERM;
    }
    if (len > rest->len - at)
        return ERR_PERM;
    out->tag = rest->data[0];
    out->whole = bytes_of(rest->data, at + len);
    out->content = bytes_of(rest->data + at, len);
    *rest = bytes_of(rest->data + at + len, rest->len - at - len);
    return ERR_OK;
}

enum err der_take_tag(struct bytes *rest, uint8_t tag, struct der *out)
{
    struct der element;
    struct bytes after = *rest;
    if (der_take(&after, &element) != ERR_OK || element.tag != tag)
        return ERR_PERM;
    *out = element;
    *rest = after;
    return ERR_OK;
}

bool der_is_oid(struct bytes content)
{
    bool at_start = true;
    for (size_t i = 0; i < content.len; i++) {
        if (at_start && content.data[i] == 0x80)
            return false;
        at_start = !(content.data[i] & 0x80);
    }
    return content.len > 0 && at_start;
}

static bool is_primitive_right(struct der element)
{
    switch (element.tag) {
    case 0x01: // BOOLEAN
        return element.content.len == 1 &&
               (element.content.data[0] == 0 || element.content.data[0] == 0xff);
    case 0x02: // INTEGER, ENUMERATED: shortest
    case 0x0a:
        if (element.content.len < 2)
            return element.content.len == 1;
        return !(element.content.data[0] == 0 && !(element.content.data[1] & 0x80)) &&
               !(element.content.data[0] == 0xff && (element.content.data[1] & 0x80));
    case 0x03: // BIT STRING
        return element.content.len > 0 && element.content.data[0] < 8 &&
               (element.content.len > 1 || element.content.data[0] == 0);
    case 0x05: // NULL
        return element.content.len == 0;
    case DER_OID:
        return der_is_oid(element.content);
    default:
        return true;
    }
}

enum err der_check(struct der element, unsigned depth)
{
    if (!(element.tag & CONSTRUCTED))
        return is_primitive_right(element) ? ERR_OK : ERR_PERM;
    if (depth == 0)
        return ERR_PERM;
    while (element.content.len) {
        struct der inner;
        if (der_take(&element.content, &inner) != ERR_OK || der_check(inner, depth - 1) != ERR_OK)
            return ERR_PERM;
    }
    return ERR_OK;
}

bool der_is_ascending(struct bytes before, struct bytes after)
{
    // X.690 pads the shorter with zeros; one that is a prefix of the other cannot occur, since both
    // tell their length.
    size_t shorter = before.len < after.len ? before.len : after.len;
    return memcmp(before.data, after.data, shorter) < 0;
}
