// SPDX-License-Identifier: Apache-2.0
#include "gateway/cms_ber.h"

#include <stdint.h>

#define CONSTRUCTED 0x20
#define END_OF_CONTENTS 0x00

struct head {
    uint8_t tag;
    bool is_indefinite;
    size_t head_len;
    size_t len; // of the content, if definite
};

static bool head_parse(struct bytes data, struct head *head)
{
    if (data.len < 2 || (data.data[0] & 0x1f) == 0x1f)
        return false;
    *head = (struct head){.tag = data.data[0], .head_len = 2, .len = data.data[1]};
    if (data.data[1] < 0x80)
        return head->len <= data.len - 2;
    if (data.data[1] == 0x80) {
        head->is_indefinite = true;
        head->len = 0;
        return (head->tag & CONSTRUCTED) != 0;
    }
    size_t octets = data.data[1] & 0x7f;
    if (octets > sizeof(uint64_t) || octets > data.len - 2)
        return false;
    uint64_t len = 0;
    for (size_t i = 0; i < octets; i++)
        len = len << 8 | data.data[2 + i];
    head->head_len += octets;
    if (len > data.len - head->head_len)
        return false;
    head->len = (size_t)len;
    return true;
}

// One walk serves both questions. With into_definite every constructed element is entered; without,
// those of definite length are stepped over. ends[]: where the open elements end; NULL: by
// end-of-contents.
static bool walk(struct bytes data, bool into_definite, size_t *used)
{
    const uint8_t *ends[BER_DEPTH_MAX];
    size_t depth = 0;
    unsigned elements = 0;
    const uint8_t *at = data.data;
    const uint8_t *limit = data.data + data.len; // no element may go beyond this
    do {
        struct head head;
        if (++elements > BER_ELEMENTS_MAX || !head_parse(bytes_of(at, (size_t)(limit - at)), &head))
            return false;
        at += head.head_len;
        if (head.tag == END_OF_CONTENTS) {
            if (head.len != 0 || head.head_len != 2 || depth == 0 || ends[depth - 1] != NULL)
                return false;
            depth--;
        } else if (head.is_indefinite || (into_definite && (head.tag & CONSTRUCTED))) {
            if (depth == BER_DEPTH_MAX)
                return false;
            ends[depth++] = head.is_indefinite ? NULL : at + head.len;
        } else {
            at += head.len;
        }
        while (depth > 0 && ends[depth - 1] == at)
            depth--;
        limit = data.data + data.len;
        for (size_t i = depth; i > 0; i--) {
            if (ends[i - 1]) {
                limit = ends[i - 1];
                break;
            }
        }
    } while (depth > 0);
    *used = (size_t)(at - data.data);
    return true;
}

bool ber_check(struct bytes data, size_t *used)
{
    return data.len > 0 && data.data[0] != END_OF_CONTENTS && walk(data, true, used);
}

struct ber ber_open(struct bytes content)
{
    return (struct ber){.left = content};
}

bool ber_is_done(const struct ber *ber)
{
    return !ber->is_bad && ber->left.len == 0;
}

uint8_t ber_peek(const struct ber *ber)
{
    return ber->is_bad || ber->left.len == 0 ? 0 : ber->left.data[0];
}

bool ber_next(struct ber *ber, struct ber_element *element)
{
    struct head head;
    *element = (struct ber_element){0};
    if (ber->is_bad || ber->left.len == 0)
        return false;
    size_t whole = 0;
    if (!head_parse(ber->left, &head) || head.tag == END_OF_CONTENTS ||
        (head.is_indefinite && !walk(ber->left, false, &whole))) {
        ber->is_bad = true;
        return false;
    }
    size_t len = head.is_indefinite ? whole - head.head_len - 2 : head.len;
    if (!head.is_indefinite)
        whole = head.head_len + head.len;
    element->tag = head.tag;
    element->content = bytes_of(ber->left.data + head.head_len, len);
    element->whole = bytes_of(ber->left.data, whole);
    ber->left = bytes_of(ber->left.data + whole, ber->left.len - whole);
    return true;
}

struct ber_element ber_get(struct ber *ber, uint8_t tag)
{
    struct ber_element element = {0};
    if (ber_peek(ber) != tag || !ber_next(ber, &element)) {
        ber->is_bad = true;
        element = (struct ber_element){0};
    }
    return element;
}

bool ber_try(struct ber *ber, uint8_t tag, struct ber_element *element)
{
    *element = (struct ber_element){0};
    return ber_peek(ber) == tag && ber_next(ber, element);
}

unsigned ber_get_unsigned(struct ber *ber)
{
    struct ber_element element = ber_get(ber, BER_INTEGER);
    unsigned value = 0;
    if (element.content.len == 0 || element.content.len > 2 || (element.content.data[0] & 0x80)) {
        ber->is_bad = true;
        return 0;
    }
    for (size_t i = 0; i < element.content.len; i++)
        value = value << 8 | element.content.data[i];
    return value;
}

bool ber_string_len(const struct ber_element *element, size_t *len)
{
    struct ber levels[BER_STRING_DEPTH_MAX];
    size_t depth = 0;
    *len = 0;
    if (!(element->tag & CONSTRUCTED)) {
        *len = element->content.len;
        return true;
    }
    levels[depth++] = ber_open(element->content);
    while (depth > 0) {
        struct ber_element part;
        struct ber *level = &levels[depth - 1];
        if (!ber_next(level, &part)) {
            if (level->is_bad)
                return false;
            depth--;
        } else if (part.tag == BER_OCTET_STRING) {
            *len += part.content.len;
        } else if (part.tag == BER_OCTET_STRING_CHUNKED && depth < BER_STRING_DEPTH_MAX) {
            levels[depth++] = ber_open(part.content);
        } else {
            return false;
        }
    }
    return true;
}
