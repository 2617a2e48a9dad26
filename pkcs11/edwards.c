// SPDX-License-Identifier: Apache-2.0
// Ed25519 as PKCS#11 3.0 has it (2.3.14), and as tokens have it: the curve is told in one of three
// ways, the point in one of three.
#include "pkcs11/internal.h"

#include <string.h>

#include <openssl/evp.h>

static const struct {
    uint8_t der[16];
    size_t len;
} names[EDWARDS_NAMES] = {
    {"\x06\x03\x2b\x65\x70", 5}, // id-Ed25519, RFC 8410, 3; PKCS#11 3.1
    {"\x13\x0c"
     "edwards25519",
     14},                                                 // a PrintableString, PKCS#11 3.0
    {"\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01", 11}, // 1.3.6.1.4.1.11591.15.1, PKCS#11 3.0
};

struct bytes edwards_name(unsigned which)
{
    return bytes_of(names[which].der, names[which].len);
}

EVP_PKEY *edwards_build(struct bytes params, struct bytes point)
{
    static const struct {
        uint8_t bytes[3];
        size_t len;
    } fronts[] = {{"", 0}, {"\x04\x20", 2}, {"\x03\x21\x00", 3}}; // bare, OCTET STRING, BIT STRING
    bool is_known = false;
    for (unsigned i = 0; i < EDWARDS_NAMES; i++)
        is_known = is_known || bytes_equal(params, edwards_name(i));
    for (size_t i = 0; is_known && i < sizeof fronts / sizeof *fronts; i++) {
        if (point.len == fronts[i].len + EDWARDS_SIZE &&
            memcmp(point.data, fronts[i].bytes, fronts[i].len) == 0)
            return EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, point.data + fronts[i].len,
                                                  EDWARDS_SIZE);
    }
    return NULL;
}

CK_KEY_TYPE key_type_number(enum token_key_type type)
{
    switch (type) {
    case TOKEN_KEY_RSA:
        return CKK_RSA;
    case TOKEN_KEY_EC:
        return CKK_EC;
    case TOKEN_KEY_ED25519:
        break;
    }
    return CKK_EC_EDWARDS;
}

const char *key_type_openssl(CK_KEY_TYPE type)
{
    switch (type) {
    case CKK_RSA:
        return "RSA";
    case CKK_EC:
        return "EC";
    case CKK_EC_EDWARDS:
        return "ED25519";
    default:
        return NULL;
    }
}
