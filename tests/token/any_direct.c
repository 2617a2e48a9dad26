// SPDX-License-Identifier: Apache-2.0
// What a token answers without the code under test: the module's own functions, with templates that
// say as little as can be said.
#include "tests/token/any.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <p11-kit/pkcs11.h>

#include "pkcs11/rv.h"

#define SLOTS_MAX 64

static CK_FUNCTION_LIST *functions;
static CK_SLOT_ID slot;

// The module is loaded already; this is a second look at it.
void any_direct_begin(const char *module, const char *label)
{
    CK_C_GetFunctionList get = NULL;
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    assert_non_null(handle);
    *(void **)&get = dlsym(handle, "C_GetFunctionList");
    assert_int_equal(get(&functions), CKR_OK);
    assert_int_equal(functions->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (functions->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
            strncmp((char *)info.label, label, strlen(label)) == 0)
            slot = slots[i];
    }
    dlclose(handle);
}

bool any_offers(unsigned long mechanism, unsigned long flags)
{
    CK_MECHANISM_INFO info;
    return functions->C_GetMechanismInfo(slot, mechanism, &info) == CKR_OK &&
           (info.flags & flags) == flags;
}

bool any_sizes(unsigned long mechanism, unsigned long *min, unsigned long *max)
{
    CK_MECHANISM_INFO info;
    if (functions->C_GetMechanismInfo(slot, mechanism, &info) != CKR_OK)
        return false;
    *min = info.ulMinKeySize;
    *max = info.ulMaxKeySize;
    return true;
}

// Private keys with that label, in a session to be closed by the caller.
static CK_SESSION_HANDLE find_directly(const char *label, bool is_token, CK_OBJECT_HANDLE *first,
                                       CK_ULONG *count)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_BBOOL token = is_token ? CK_TRUE : CK_FALSE;
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class},
                            {CKA_TOKEN, &token, sizeof token},
                            {CKA_LABEL, (void *)label, strlen(label)}};
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE objects[64];
    assert_int_equal(functions->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session), 0);
    assert_int_equal(functions->C_FindObjectsInit(session, match, 3), CKR_OK);
    assert_int_equal(functions->C_FindObjects(session, objects, 64, count), CKR_OK);
    assert_int_equal(functions->C_FindObjectsFinal(session), CKR_OK);
    *first = objects[0];
    return session;
}

static CK_RV said_so(const char *function, CK_RV rv, char *said)
{
    snprintf(said, ANY_SAID_SIZE, "%s: %s", function, rv_name(rv));
    return rv;
}

unsigned long any_sign_directly(const char *label, unsigned long type, struct bytes data,
                                char *said)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_BYTE signature[TOKEN_SIGNATURE_MAX];
    CK_OBJECT_HANDLE object;
    CK_ULONG count = 0, len = sizeof signature;
    CK_SESSION_HANDLE session = find_directly(label, true, &object, &count);
    assert_int_equal(count, 1);
    CK_RV rv = said_so("C_SignInit", functions->C_SignInit(session, &mechanism, object), said);
    if (rv == CKR_OK)
        rv = said_so("C_Sign",
                     functions->C_Sign(session, (CK_BYTE *)data.data, data.len, signature, &len),
                     said);
    assert_int_equal(functions->C_CloseSession(session), CKR_OK);
    return rv;
}

// A session that may write, until close_directly.
static CK_SESSION_HANDLE open_directly(void)
{
    CK_SESSION_HANDLE session;
    assert_int_equal(
        functions->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
        CKR_OK);
    return session;
}

static void close_directly(CK_SESSION_HANDLE session, CK_RV rv, const CK_OBJECT_HANDLE *made,
                           unsigned count)
{
    for (unsigned i = 0; i < count && rv == CKR_OK; i++)
        assert_int_equal(functions->C_DestroyObject(session, made[i]), CKR_OK);
    assert_int_equal(functions->C_CloseSession(session), CKR_OK);
}

// CKA_EC_PARAMS: the curve's object identifier (RFC 5480, RFC 8410).
static CK_ATTRIBUTE curve_of(enum token_key_type type, unsigned bits, unsigned char *room)
{
    int nid = type == TOKEN_KEY_ED25519 ? NID_ED25519
              : bits == 256             ? NID_X9_62_prime256v1
              : bits == 384             ? NID_secp384r1
                                        : NID_secp521r1;
    unsigned char *at = room;
    int len = i2d_ASN1_OBJECT(OBJ_nid2obj(nid), &at);
    return (CK_ATTRIBUTE){CKA_EC_PARAMS, room, (CK_ULONG)len};
}

unsigned long any_generate_directly(enum token_key_type type, unsigned bits, char *said)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ULONG modulus_bits = bits;
    unsigned char curve[16];
    CK_MECHANISM mechanism = {type == TOKEN_KEY_RSA  ? CKM_RSA_PKCS_KEY_PAIR_GEN
                              : type == TOKEN_KEY_EC ? CKM_EC_KEY_PAIR_GEN
                                                     : CKM_EC_EDWARDS_KEY_PAIR_GEN,
                              NULL, 0};
    CK_ATTRIBUTE of_public[] = {{CKA_TOKEN, &yes, sizeof yes},
                                {CKA_MODULUS_BITS, &modulus_bits, sizeof modulus_bits}};
    CK_ATTRIBUTE of_private[] = {{CKA_TOKEN, &yes, sizeof yes}};
    CK_OBJECT_HANDLE made[2];
    if (type != TOKEN_KEY_RSA)
        of_public[1] = curve_of(type, bits, curve);
    CK_SESSION_HANDLE session = open_directly();
    CK_RV rv = said_so("C_GenerateKeyPair",
                       functions->C_GenerateKeyPair(session, &mechanism, of_public, 2, of_private,
                                                    1, &made[0], &made[1]),
                       said);
    close_directly(session, rv, made, 2);
    return rv;
}

static CK_ULONG put_numbers(EVP_PKEY *pkey, CK_ATTRIBUTE *template)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
    } rsa[] = {{CKA_MODULUS, OSSL_PKEY_PARAM_RSA_N},
               {CKA_PUBLIC_EXPONENT, OSSL_PKEY_PARAM_RSA_E},
               {CKA_PRIVATE_EXPONENT, OSSL_PKEY_PARAM_RSA_D},
               {CKA_PRIME_1, OSSL_PKEY_PARAM_RSA_FACTOR1},
               {CKA_PRIME_2, OSSL_PKEY_PARAM_RSA_FACTOR2},
               {CKA_EXPONENT_1, OSSL_PKEY_PARAM_RSA_EXPONENT1},
               {CKA_EXPONENT_2, OSSL_PKEY_PARAM_RSA_EXPONENT2},
               {CKA_COEFFICIENT, OSSL_PKEY_PARAM_RSA_COEFFICIENT1}};
    static unsigned char numbers[8][512];
    unsigned count = EVP_PKEY_is_a(pkey, "RSA") ? 8 : 1;
    for (unsigned i = 0; i < count; i++) {
        const char *name = count == 1 ? OSSL_PKEY_PARAM_PRIV_KEY : rsa[i].name;
        BIGNUM *number = NULL;
        assert_int_equal(EVP_PKEY_get_bn_param(pkey, name, &number), 1);
        int len = count == 1 ? (EVP_PKEY_get_bits(pkey) + 7) / 8 : BN_num_bytes(number);
        assert_int_equal(BN_bn2binpad(number, numbers[i], len), len);
        template[i] = (CK_ATTRIBUTE){count == 1 ? CKA_VALUE : rsa[i].type, numbers[i], len};
        BN_clear_free(number);
    }
    return count;
}

unsigned long any_create_directly(EVP_PKEY *pkey, char *said)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_KEY_TYPE key_type = CKK_RSA;
    CK_BBOOL yes = CK_TRUE;
    unsigned char curve[16], raw[32];
    size_t len = sizeof raw;
    CK_OBJECT_HANDLE made;
    CK_ATTRIBUTE template[12] = {{CKA_CLASS, &class, sizeof class},
                                 {CKA_KEY_TYPE, &key_type, sizeof key_type},
                                 {CKA_TOKEN, &yes, sizeof yes}};
    CK_ULONG count = 3;
    if (EVP_PKEY_is_a(pkey, "ED25519")) {
        key_type = CKK_EC_EDWARDS;
        template[count++] = curve_of(TOKEN_KEY_ED25519, 256, curve);
        assert_int_equal(EVP_PKEY_get_raw_private_key(pkey, raw, &len), 1);
        template[count++] = (CK_ATTRIBUTE){CKA_VALUE, raw, len};
    } else {
        if (EVP_PKEY_is_a(pkey, "EC")) {
            key_type = CKK_EC;
            template[count++] = curve_of(TOKEN_KEY_EC, EVP_PKEY_get_bits(pkey), curve);
        }
        count += put_numbers(pkey, template + count);
    }
    CK_SESSION_HANDLE session = open_directly();
    CK_RV rv =
        said_so("C_CreateObject", functions->C_CreateObject(session, template, count, &made), said);
    close_directly(session, rv, &made, 1);
    return rv;
}

unsigned long any_copy_directly(const char *label, unsigned *copies)
{
    CK_BBOOL no = CK_FALSE;
    CK_ATTRIBUTE template = {CKA_TOKEN, &no, sizeof no};
    CK_OBJECT_HANDLE object, copy;
    CK_ULONG count = 0;
    assert_int_equal(functions->C_CloseSession(find_directly(label, false, &object, &count)), 0);
    *copies = (unsigned)count;
    CK_SESSION_HANDLE session = find_directly(label, true, &object, &count);
    assert_int_equal(count, 1);
    CK_RV rv = functions->C_CopyObject(session, object, &template, 1, &copy);
    assert_int_equal(functions->C_CloseSession(session), CKR_OK);
    return rv;
}
