// SPDX-License-Identifier: Apache-2.0
// hsmbench-direct's callers: what they do over and over, and whether the first and the last
// time is right.
#include "tools/bench_direct.h"

#include <string.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/rand.h>

struct caller {
    enum bench_operation operation;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key;
    CK_KEY_TYPE type;
    CK_BYTE input[BENCH_BYTES_MAX]; // what is signed, unwrapped; the peer's point
    CK_ULONG input_len;
    CK_BYTE secret[BENCH_BYTES_MAX]; // what is to come out of unwrap and agree
    CK_ULONG secret_len;
    CK_BYTE output[BENCH_BYTES_MAX];
    CK_ULONG output_len;
};

static const CK_BYTE sha256_prefix[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                        0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};

static size_t prefix_of(const struct caller *caller)
{
    return caller->type == CKK_RSA && caller->operation == BENCH_SIGN ? sizeof sha256_prefix : 0;
}

static bool sign_once(struct caller *caller)
{
    CK_RSA_PKCS_PSS_PARAMS params = {CKM_SHA256, CKG_MGF1_SHA256, BENCH_DIGEST_SIZE};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS, NULL, 0};
    if (caller->operation == BENCH_SIGN_PSS)
        mechanism = (CK_MECHANISM){CKM_RSA_PKCS_PSS, &params, sizeof params};
    else if (caller->type == CKK_EC)
        mechanism.mechanism = CKM_ECDSA;
    else if (caller->type == CKK_EC_EDWARDS)
        mechanism.mechanism = CKM_EDDSA;
    caller->output_len = sizeof caller->output;
    return direct_check(direct.module->C_SignInit(caller->session, &mechanism, caller->key),
                        "C_SignInit") &&
           direct_check(direct.module->C_Sign(caller->session, caller->input, caller->input_len,
                                              caller->output, &caller->output_len),
                        "C_Sign");
}

static bool is_secret(const struct caller *caller)
{
    return (caller->output_len == caller->secret_len &&
            memcmp(caller->output, caller->secret, caller->secret_len) == 0) ||
           direct_fail("what comes out does not fit the public half of the key");
}

static bool unwrap_once(struct caller *caller)
{
    CK_RSA_PKCS_OAEP_PARAMS params = {
        .hashAlg = CKM_SHA_1, .mgf = CKG_MGF1_SHA1, .source = CKZ_DATA_SPECIFIED};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS, NULL, 0};
    if (caller->operation == BENCH_UNWRAP_OAEP)
        mechanism = (CK_MECHANISM){CKM_RSA_PKCS_OAEP, &params, sizeof params};
    caller->output_len = sizeof caller->output;
    return direct_check(direct.module->C_DecryptInit(caller->session, &mechanism, caller->key),
                        "C_DecryptInit") &&
           direct_check(direct.module->C_Decrypt(caller->session, caller->input, caller->input_len,
                                                 caller->output, &caller->output_len),
                        "C_Decrypt") &&
           is_secret(caller);
}

static CK_RV derive(struct caller *caller, CK_OBJECT_HANDLE *secret)
{
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class},
                               {CKA_KEY_TYPE, &type, sizeof type},
                               {CKA_TOKEN, &no, sizeof no},
                               {CKA_SENSITIVE, &no, sizeof no},
                               {CKA_EXTRACTABLE, &yes, sizeof yes},
                               {CKA_VALUE_LEN, &caller->secret_len, sizeof(CK_ULONG)}};
    CK_ECDH1_DERIVE_PARAMS params = {
        .kdf = CKD_NULL, .ulPublicDataLen = caller->input_len, .pPublicData = caller->input};
    CK_MECHANISM mechanism = {CKM_ECDH1_DERIVE, &params, sizeof params};
    return direct.module->C_DeriveKey(caller->session, &mechanism, caller->key, template, 6,
                                      secret);
}

// The shared secret as a session object, read and destroyed.
static bool agree_once(struct caller *caller)
{
    CK_OBJECT_HANDLE secret = 0;
    if (!direct_check(derive(caller, &secret), "C_DeriveKey"))
        return false;
    bool ok = direct_get(caller->session, secret, CKA_VALUE, caller->output, &caller->output_len) ||
              direct_fail("the shared secret cannot be read");
    return direct_check(direct.module->C_DestroyObject(caller->session, secret),
                        "C_DestroyObject") &&
           ok && is_secret(caller);
}

static bool do_once(struct caller *caller)
{
    switch (caller->operation) {
    case BENCH_UNWRAP:
    case BENCH_UNWRAP_OAEP:
        return unwrap_once(caller);
    case BENCH_AGREE:
        return agree_once(caller);
    default:
        return sign_once(caller);
    }
}

bool direct_once(void *argument)
{
    struct caller *caller = argument;
    bool ok = do_once(caller);
    if (!ok)
        caller->output_len = 0;
    return ok;
}

static bool make_ciphertext(struct caller *caller)
{
    caller->input_len = sizeof caller->input;
    caller->secret_len = BENCH_SECRET_SIZE;
    return RAND_bytes(caller->secret, BENCH_SECRET_SIZE) == 1 &&
           bench_public_encrypt(direct.public_key, caller->operation, caller->secret, caller->input,
                                &caller->input_len);
}

// Some tokens want the point in an OCTET STRING.
static void try_forms(struct caller *caller)
{
    CK_OBJECT_HANDLE secret = 0;
    if (derive(caller, &secret) == CKR_OK) {
        direct.module->C_DestroyObject(caller->session, secret);
        return;
    }
    CK_ULONG front = caller->input_len < 0x80 ? 2 : 3;
    memmove(caller->input + front, caller->input, caller->input_len);
    caller->input[1] = 0x81; // stays if the length takes a byte of its own
    caller->input[front - 1] = (CK_BYTE)caller->input_len;
    caller->input[0] = 0x04;
    caller->input_len += front;
}

static bool make_peer(struct caller *caller)
{
    unsigned char *point = NULL;
    EVP_PKEY *peer = bench_public_peer(direct.public_key);
    size_t len = peer ? EVP_PKEY_get1_encoded_public_key(peer, &point) : 0;
    caller->secret_len = sizeof caller->secret;
    bool ok =
        len > 0 && len + 3 <= sizeof caller->input &&
        bench_public_agree(peer, direct.public_key, false, caller->secret, &caller->secret_len);
    if (ok) {
        memcpy(caller->input, point, len);
        caller->input_len = len;
        try_forms(caller);
    }
    OPENSSL_free(point);
    EVP_PKEY_free(peer);
    return ok;
}

static bool make_input(struct caller *caller)
{
    bool is_rsa = caller->type == CKK_RSA, ok = false;
    size_t prefix = prefix_of(caller);
    switch (caller->operation) {
    case BENCH_UNWRAP:
    case BENCH_UNWRAP_OAEP:
        ok = is_rsa && make_ciphertext(caller);
        break;
    case BENCH_AGREE:
        ok = caller->type == CKK_EC && make_peer(caller);
        break;
    default:
        memcpy(caller->input, sha256_prefix, prefix);
        caller->input_len = prefix + BENCH_DIGEST_SIZE;
        ok = (is_rsa || caller->operation == BENCH_SIGN) &&
             RAND_bytes(caller->input + prefix, BENCH_DIGEST_SIZE) == 1;
    }
    return ok || direct_fail("the key is not for this operation");
}

// Both numbers, as PKCS#11 has them, in DER.
static bool encode_ecdsa(struct caller *caller)
{
    int half = (int)caller->output_len / 2, len = 0;
    unsigned char *end = caller->output;
    ECDSA_SIG *signature = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(caller->output, half, NULL);
    BIGNUM *s = BN_bin2bn(caller->output + half, half, NULL);
    if (signature && r && s && ECDSA_SIG_set0(signature, r, s) == 1)
        len = i2d_ECDSA_SIG(signature, &end);
    ECDSA_SIG_free(signature);
    caller->output_len = len > 0 ? (CK_ULONG)len : 0;
    return len > 0;
}

// What is there, if anything, and then no more.
static bool is_right(struct caller *caller)
{
    size_t prefix = prefix_of(caller);
    bool is_signature = caller->operation == BENCH_SIGN || caller->operation == BENCH_SIGN_PSS;
    if (!is_signature || !caller->output_len) // once looks at it
        return true;
    bool ok = (caller->type != CKK_EC || encode_ecdsa(caller)) &&
              bench_public_verify(direct.public_key, caller->operation, caller->input + prefix,
                                  caller->input_len - prefix, caller->output, caller->output_len);
    caller->output_len = 0;
    return ok || direct_fail("a signature does not fit the public half of the key");
}

static bool copy_key(struct caller *caller)
{
    CK_BBOOL no = CK_FALSE;
    CK_ATTRIBUTE template = {CKA_TOKEN, &no, sizeof no};
    CK_OBJECT_HANDLE copy = 0;
    if (!direct_check(
            direct.module->C_CopyObject(caller->session, caller->key, &template, 1, &copy),
            "C_CopyObject"))
        return false;
    caller->key = copy;
    return true;
}

void *direct_open(const struct bench_half *half)
{
    struct caller *caller = calloc(1, sizeof *caller);
    CK_ATTRIBUTE type = {CKA_KEY_TYPE, NULL, sizeof(CK_KEY_TYPE)};
    if (!caller)
        return NULL;
    caller->operation = half->operation;
    type.pValue = &caller->type;
    if (direct_check(direct.module->C_OpenSession(direct.slot, CKF_SERIAL_SESSION, NULL, NULL,
                                                  &caller->session),
                     "C_OpenSession") &&
        (direct_find(caller->session, CKO_PRIVATE_KEY, &caller->key) ||
         direct_fail("no private key of that label in the token")) &&
        direct_check(direct.module->C_GetAttributeValue(caller->session, caller->key, &type, 1),
                     "C_GetAttributeValue") &&
        make_input(caller) && (!direct.is_copied || copy_key(caller)) && direct_once(caller) &&
        is_right(caller))
        return caller;
    free(caller);
    return NULL;
}

bool direct_close(void *argument)
{
    struct caller *caller = argument;
    bool ok = is_right(caller);
    direct.module->C_CloseSession(caller->session);
    free(caller);
    return ok;
}
