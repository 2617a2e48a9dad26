// SPDX-License-Identifier: Apache-2.0
// A key of hsmd as text for people: openssl pkey -in hsmd:NAME -noout -text. Every other encoding
// is of the public half, and the default provider does it.
#include <openssl/bio.h>
#include <openssl/core_dispatch.h>

#include "providers/key.h"

static void *text_newctx(void *provctx)
{
    return provctx;
}

static void text_freectx(void *vctx)
{
    (void)vctx;
}

static int text_does_selection(void *provctx, int selection)
{
    (void)provctx;
    (void)selection;
    return 1;
}

static bool print(BIO *out, const struct key *key)
{
    if (key->name &&
        BIO_printf(out, "Private-Key: in hsmd, name %s, purpose %s, state %s\n", key->name,
                   wire_purpose_name(key->purpose), wire_state_name(key->state)) <= 0)
        return false;
    return EVP_PKEY_print_public(out, key->public_half, 0, NULL) > 0;
}

static int text_encode(void *vctx, OSSL_CORE_BIO *core_bio, const void *raw,
                       const OSSL_PARAM abstract[], int selection, OSSL_PASSPHRASE_CALLBACK *cb,
                       void *cbarg)
{
    const struct provider *prov = vctx;
    const struct key *key = raw;
    (void)selection;
    (void)cb;
    (void)cbarg;
    if (abstract || !key || !key->public_half || !prov->bio_write_ex)
        return 0;
    BIO *memory = BIO_new(BIO_s_mem());
    char *text = NULL;
    size_t written = 0;
    int ok = 0;
    if (memory && print(memory, key)) {
        long len = BIO_get_mem_data(memory, &text);
        ok = len > 0 && prov->bio_write_ex(core_bio, text, (size_t)len, &written) &&
             written == (size_t)len;
    }
    BIO_free(memory);
    return ok;
}

const OSSL_DISPATCH encoder_text_functions[] = {
    DISPATCH(OSSL_FUNC_ENCODER_NEWCTX, text_newctx),
    DISPATCH(OSSL_FUNC_ENCODER_FREECTX, text_freectx),
    DISPATCH(OSSL_FUNC_ENCODER_DOES_SELECTION, text_does_selection),
    DISPATCH(OSSL_FUNC_ENCODER_ENCODE, text_encode), DISPATCH_LAST};
