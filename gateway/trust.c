// SPDX-License-Identifier: Apache-2.0
#include "gateway/trust.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "gateway/certificate.h"
#include "hsmd/base/alloc.h"

#define CHAIN_MAX 10     // certificates between the end entity and the anchor
#define SECURITY_LEVEL 2 // 112 bits: RSA 2048, no SHA-1 in certificates

struct trust {
    X509_STORE *store;
};

// What one check found out besides libcrypto's yes or no.
struct finding {
    enum trust_purpose purpose;
    bool has_date_fault;
};

// An intermediate for any purpose is fine (RFC 8550, 4.4.4); libcrypto wants emailProtection.
static bool is_for_any_purpose(const X509 *cert)
{
    EXTENDED_KEY_USAGE *usage = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL);
    bool is_any = false;
    for (int i = 0; i < sk_ASN1_OBJECT_num(usage) && !is_any; i++)
        is_any = OBJ_obj2nid(sk_ASN1_OBJECT_value(usage, i)) == NID_anyExtendedKeyUsage;
    EXTENDED_KEY_USAGE_free(usage);
    return is_any && X509_check_ca((X509 *)cert) == 1;
}

// Goes on over wrong dates, so that every other fault is found too; decides the end entity's usage
// by our own rules, because libcrypto's do not know keys for key agreement.
static int on_verify(int ok, X509_STORE_CTX *ctx)
{
    struct finding *finding = X509_STORE_CTX_get_app_data(ctx);
    if (ok)
        return 1;
    switch (X509_STORE_CTX_get_error(ctx)) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        finding->has_date_fault = true;
        return 1;
    case X509_V_ERR_INVALID_PURPOSE:
        if (X509_STORE_CTX_get_error_depth(ctx) == 0)
            return 1; // usage_check
        return is_for_any_purpose(X509_STORE_CTX_get_current_cert(ctx));
    default:
        return 0;
    }
}

static enum err usage_check(X509 *cert, enum trust_purpose purpose, struct detail *detail)
{
    return purpose == TRUST_SIGN ? certificate_check_signing(cert, detail)
                                 : certificate_check_encryption(cert, detail);
}

enum err trust_load(const char *path, struct trust **trust, struct detail *detail)
{
    STACK_OF(X509) *anchors = NULL;
    enum err err = certificate_read(path, &anchors, detail);
    if (err != ERR_OK)
        return err;
    struct trust *made = mem_calloc(1, sizeof *made);
    if (made)
        made->store = X509_STORE_new();
    bool is_good = made && made->store;
    for (int i = 0; i < sk_X509_num(anchors) && is_good; i++)
        is_good = X509_STORE_add_cert(made->store, sk_X509_value(anchors, i)) == 1;
    // An anchor may be an intermediate, or a partner's own certificate.
    is_good = is_good && X509_STORE_set_flags(made->store, X509_V_FLAG_PARTIAL_CHAIN) == 1;
    sk_X509_pop_free(anchors, X509_free);
    if (!is_good) {
        trust_free(made);
        return err_openssl(detail, ERR_TEMP, "%s", path);
    }
    *trust = made;
    return ERR_OK;
}

void trust_free(struct trust *trust)
{
    if (!trust)
        return;
    X509_STORE_free(trust->store);
    mem_free(trust);
}

static bool context_prepare(X509_STORE_CTX *ctx, const struct trust *trust, X509 *cert,
                            STACK_OF(X509) * intermediates, struct finding *finding, time_t at)
{
    if (!ctx || X509_STORE_CTX_init(ctx, trust->store, cert, intermediates) != 1)
        return false;
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, at);
    X509_VERIFY_PARAM_set_depth(param, CHAIN_MAX);
    X509_VERIFY_PARAM_set_auth_level(param, SECURITY_LEVEL);
    X509_STORE_CTX_set_verify_cb(ctx, on_verify);
    int purpose =
        finding->purpose == TRUST_SIGN ? X509_PURPOSE_SMIME_SIGN : X509_PURPOSE_SMIME_ENCRYPT;
    return X509_STORE_CTX_set_app_data(ctx, finding) == 1 &&
           X509_VERIFY_PARAM_set_purpose(param, purpose) == 1;
}

enum err trust_check(const struct trust *trust, X509 *cert, STACK_OF(X509) * intermediates,
                     enum trust_purpose purpose, time_t at, bool *is_expired, struct detail *detail)
{
    struct finding finding = {.purpose = purpose};
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    enum err err = ERR_OK;
    *is_expired = false;
    ERR_clear_error();
    if (!context_prepare(ctx, trust, cert, intermediates, &finding, at)) {
        err = err_openssl(detail, ERR_TEMP, "cannot check the certificate");
        goto out;
    }
    if (X509_verify_cert(ctx) != 1) {
        // Without the certificate's name: the text comes to stand in Authentication-Results, and
        // anybody can make a certificate with any name.
        err = err_set(detail, ERR_PERM, "not trusted: %s",
                      X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        goto out;
    }
    err = usage_check(cert, purpose, detail);
    if (err == ERR_OK && finding.has_date_fault) {
        *is_expired = true;
        err = err_set(detail, ERR_PERM, "a certificate of the chain is not in date");
    }
out:
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return err;
}
