// SPDX-License-Identifier: Apache-2.0
#include "hsmd/attributes.h"

#include <string.h>

#include "hsmd/der.h"

// id-contentType, id-messageDigest, id-signingTime: 1.2.840.113549.1.9.{3,4,5}
#define PKCS9 "\x2a\x86\x48\x86\xf7\x0d\x01\x09"

struct parser {
    struct attributes found;
    enum hash hash;
    time_t now;
    struct bytes types[ATTRIBUTES_COUNT_MAX];
    size_t count;
    struct detail *detail;
};

static enum err fail(struct parser *parser, const char *problem)
{
    return err_set(parser->detail, ERR_PERM, "signed attributes: %s", problem);
}

// So many decimal digits off the front of text; -1: others.
static int take_digits(struct bytes *text, size_t count)
{
    int value = 0;
    if (text->len < count)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (text->data[i] < '0' || text->data[i] > '9')
            return -1;
        value = value * 10 + (text->data[i] - '0');
    }
    *text = bytes_of(text->data + count, text->len - count);
    return value;
}

// RFC 5652, 11.3: UTCTime for 1950 to 2049 as YYMMDDHHMMSSZ, else GeneralizedTime YYYYMMDDHHMMSSZ.
static bool parse_time(struct der value, time_t *out)
{
    struct bytes text = value.content;
    bool is_utc = value.tag == DER_UTC_TIME;
    if (!is_utc && value.tag != DER_GENERALIZED_TIME)
        return false;
    int year = take_digits(&text, is_utc ? 2 : 4);
    int month = take_digits(&text, 2);
    int day = take_digits(&text, 2);
    int hour = take_digits(&text, 2);
    int minute = take_digits(&text, 2);
    int second = take_digits(&text, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 ||
        minute < 0 || minute > 59 || second < 0 || second > 59 || text.len != 1 ||
        text.data[0] != 'Z')
        return false;
    if (is_utc)
        year += year < 50 ? 2000 : 1900;
    else if (year >= 1950 && year <= 2049)
        return false;
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_sec = second};
    *out = timegm(&tm);
    return tm.tm_mday == day; // else there is no such day and timegm went on to the next month
}

static enum err take_signing_time(struct parser *parser, struct der value)
{
    if (!parse_time(value, &parser->found.signing_time))
        return fail(parser, "signing-time is no time");
    time_t distance = parser->found.signing_time - parser->now;
    if (distance > ATTRIBUTES_TIME_SLACK || distance < -ATTRIBUTES_TIME_SLACK)
        return fail(parser, "signing-time is not near now");
    parser->found.has_signing_time = true;
    return ERR_OK;
}

static enum err take_known(struct parser *parser, uint8_t last, struct der value)
{
    switch (last) {
    case 3:
        if (value.tag != DER_OID)
            return fail(parser, "content-type is no object identifier");
        parser->found.content_type = value.content;
        return ERR_OK;
    case 4:
        if (value.tag != DER_OCTET_STRING)
            return fail(parser, "message-digest is no octet string");
        if (value.content.len != hash_size(parser->hash))
            return fail(parser, "message-digest is not as long as the hash");
        parser->found.message_digest = value.content;
        return ERR_OK;
    default:
        return take_signing_time(parser, value);
    }
}

// Every value well-formed and in order; how many; the last one of them.
static enum err check_values(struct parser *parser, struct bytes values, size_t *count,
                             struct der *value)
{
    struct bytes before = {0};
    for (*count = 0; values.len; (*count)++) {
        if (der_take(&values, value) != ERR_OK || der_check(*value, ATTRIBUTES_DEPTH_MAX) != ERR_OK)
            return fail(parser, "a value is not DER");
        if (before.len && !der_is_ascending(before, value->whole))
            return fail(parser, "values not in the order of DER");
        before = value->whole;
    }
    return *count ? ERR_OK : fail(parser, "an attribute without a value");
}

static enum err remember_type(struct parser *parser, struct bytes type)
{
    if (!der_is_oid(type))
        return fail(parser, "an attribute's type is no object identifier");
    for (size_t i = 0; i < parser->count; i++) {
        if (bytes_equal(parser->types[i], type))
            return fail(parser, "an attribute is there twice");
    }
    if (parser->count == ATTRIBUTES_COUNT_MAX)
        return fail(parser, "too many attributes");
    parser->types[parser->count++] = type;
    return ERR_OK;
}

static enum err take_attribute(struct parser *parser, struct bytes content)
{
    static const struct bytes pkcs9 = {(const uint8_t *)PKCS9, sizeof PKCS9 - 1};
    struct der type;
    struct der values;
    struct der value = {0};
    size_t count = 0;
    if (der_take_tag(&content, DER_OID, &type) != ERR_OK ||
        der_take_tag(&content, DER_SET, &values) != ERR_OK || content.len)
        return fail(parser, "an attribute is not a type and a set of values");
    enum err err = remember_type(parser, type.content);
    if (err == ERR_OK)
        err = check_values(parser, values.content, &count, &value);
    if (err != ERR_OK)
        return err;
    struct bytes oid = type.content;
    uint8_t last = oid.data[oid.len - 1];
    if (oid.len != pkcs9.len + 1 || memcmp(oid.data, pkcs9.data, pkcs9.len) != 0 || last < 3 ||
        last > 5)
        return ERR_OK;
    if (count != 1)
        return fail(parser, "content-type, message-digest or signing-time with several values");
    return take_known(parser, last, value);
}

enum err attributes_parse(struct bytes der, enum hash hash, time_t now, struct attributes *out,
                          struct detail *detail)
{
    struct parser parser = {.hash = hash, .now = now, .detail = detail};
    struct der set;
    struct bytes before = {0};
    if (der_take_tag(&der, DER_SET, &set) != ERR_OK)
        return fail(&parser, "not the DER of a SET OF");
    if (der.len)
        return fail(&parser, "bytes past the end");
    while (set.content.len) {
        struct der attribute;
        if (der_take_tag(&set.content, DER_SEQUENCE, &attribute) != ERR_OK)
            return fail(&parser, "an attribute is not DER");
        if (before.len && !der_is_ascending(before, attribute.whole))
            return fail(&parser, "not in the order of DER");
        enum err err = take_attribute(&parser, attribute.content);
        if (err != ERR_OK)
            return err;
        before = attribute.whole;
    }
    if (!parser.found.content_type.len)
        return fail(&parser, "no content-type");
    if (!parser.found.message_digest.len)
        return fail(&parser, "no message-digest");
    *out = parser.found;
    return ERR_OK;
}
