// SPDX-License-Identifier: Apache-2.0
#include "providers/params.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/params.h>

static bool get_digits(const char *text, int *value)
{
    char *end = NULL;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (end == text || *end || errno || number < INT_MIN || number > INT_MAX)
        return false;
    *value = (int)number;
    return true;
}

bool params_get_choice(const struct provider *prov, const OSSL_PARAM params[], const char *key,
                       const struct params_choice *choices, int *value)
{
    const char *text = NULL;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, key);
    if (!p)
        return true;
    if (p->data_type == OSSL_PARAM_INTEGER || p->data_type == OSSL_PARAM_UNSIGNED_INTEGER) {
        if (OSSL_PARAM_get_int(p, value))
            return true;
        return RAISE(prov, REASON_PARAMETER, "%s is out of range", key);
    }
    if (OSSL_PARAM_get_utf8_string_ptr(p, &text) && text) {
        for (; choices->name; choices++) {
            if (strcmp(choices->name, text) == 0) {
                *value = choices->value;
                return true;
            }
        }
        if (get_digits(text, value))
            return true;
    }
    return RAISE(prov, REASON_PARAMETER, "%s cannot be %.40s", key, text ? text : "of this type");
}

bool params_set_choice(OSSL_PARAM params[], const char *key, const struct params_choice *choices,
                       int value)
{
    char digits[16];
    OSSL_PARAM *p = OSSL_PARAM_locate(params, key);
    if (!p)
        return true;
    if (p->data_type != OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_set_int(p, value);
    for (; choices->name; choices++) {
        if (choices->value == value)
            return OSSL_PARAM_set_utf8_string(p, choices->name);
    }
    snprintf(digits, sizeof digits, "%d", value);
    return OSSL_PARAM_set_utf8_string(p, digits);
}

bool params_get_hash(const struct provider *prov, const OSSL_PARAM params[], const char *key,
                     enum hash *hash)
{
    const char *name = NULL;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, key);
    if (!p)
        return true;
    enum hash found =
        OSSL_PARAM_get_utf8_string_ptr(p, &name) && name ? hash_by_name(name) : HASH_NONE;
    if (found == HASH_NONE)
        return RAISE(prov, REASON_DIGEST, "%s: %.40s is not supported", key, name ? name : "this");
    *hash = found;
    return true;
}

bool params_set_hash(OSSL_PARAM params[], const char *key, enum hash hash)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, key);
    return !p || OSSL_PARAM_set_utf8_string(p, hash == HASH_NONE ? "" : hash_name(hash));
}

bool params_get_octets(const struct provider *prov, const OSSL_PARAM params[], const char *key,
                       struct buf *out)
{
    const void *data = NULL;
    size_t len = 0;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, key);
    if (!p)
        return true;
    buf_reset(out);
    // An empty one comes without data, which OSSL_PARAM_get_octet_string_ptr takes for an error.
    if (p->data_type == OSSL_PARAM_OCTET_STRING && p->data_size == 0)
        return true;
    if (!OSSL_PARAM_get_octet_string_ptr(p, &data, &len))
        return RAISE(prov, REASON_PARAMETER, "%s must be octets", key);
    if (buf_put(out, data, len) != ERR_OK)
        return RAISE(prov, REASON_LENGTH, "%s of %zu bytes, at most %zu", key, len, out->max);
    return true;
}
