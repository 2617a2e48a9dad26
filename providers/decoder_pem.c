// SPDX-License-Identifier: Apache-2.0
// Two decoders: from PEM to DER, as the default provider's does it for the names that it knows, and
// from DER to the key, one for each type. Whatever is not for them is left to others: they say that
// they are done, without an object. What hsmd says of a key decides its type; so the decoders of
// the other types find that it is not theirs, and it is asked for each.
#include "providers/decoder_pem.h"

#include <string.h>

#include <openssl/asn1.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/pem.h>

#include "hsmd/base/text.h"
#include "providers/key.h"

#define BLOCK_MAX 4096 // bytes of a PEM block of ours
#define LINE_MAX_SIZE 512
#define DER_MAX 256

static void *decoder_newctx(void *provctx)
{
    return provctx;
}

static void decoder_freectx(void *vctx)
{
    (void)vctx;
}

// A private key, and so a public one.
static int decoder_does_selection(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0;
}

// One line; 0: the end.
static bool read_line(const struct provider *prov, OSSL_CORE_BIO *in, char line[LINE_MAX_SIZE])
{
    return prov->bio_gets(in, line, LINE_MAX_SIZE) > 0;
}

// The next block, if it is one of ours, and no byte more: what follows is for the next one who
// reads. False: another one, or none.
static bool read_block(const struct provider *prov, OSSL_CORE_BIO *in, struct buf *block)
{
    static const char begin[] = "-----BEGIN ", ours[] = "-----BEGIN " DECODER_PEM_NAME "-----";
    char line[LINE_MAX_SIZE];
    do {
        if (!read_line(prov, in, line))
            return false;
    } while (strncmp(line, begin, sizeof begin - 1) != 0);
    if (strncmp(line, ours, sizeof ours - 1) != 0)
        return false;
    do {
        if (buf_put_text(block, line) != ERR_OK)
            return false;
        if (strncmp(line, "-----END ", 9) == 0)
            return true;
    } while (read_line(prov, in, line));
    return false;
}

static int give_der(const unsigned char *der, long len, OSSL_CALLBACK *callback, void *arg)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_DATA, (void *)der, (size_t)len),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_STRUCTURE,
                                         (char *)DECODER_STRUCTURE, 0),
        OSSL_PARAM_END};
    return callback(params, arg);
}

static int pem_decode(void *vctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *callback,
                      void *arg, OSSL_PASSPHRASE_CALLBACK *passphrase, void *passphrase_arg)
{
    const struct provider *prov = vctx;
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long len = 0;
    struct buf block;
    int ok = 1;
    (void)selection;
    (void)passphrase;
    (void)passphrase_arg;
    if (!prov->bio_gets)
        return 1;
    buf_init(&block, BLOCK_MAX);
    BIO *memory = read_block(prov, in, &block) ? BIO_new_mem_buf(block.data, (int)block.len) : NULL;
    ERR_set_mark();
    if (memory && PEM_read_bio(memory, &name, &header, &der, &len) == 1)
        ok = give_der(der, len, callback, arg);
    ERR_pop_to_mark();
    BIO_free(memory);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    buf_clear(&block);
    return ok;
}

static const char *name_of(const unsigned char *der, size_t len, char name[TEXT_NAME_MAX + 1])
{
    static const char scheme[] = PROVIDER_SCHEME ":";
    const unsigned char *at = der;
    ASN1_UTF8STRING *text = d2i_ASN1_UTF8STRING(NULL, &at, (long)len);
    const char *uri = text ? (const char *)ASN1_STRING_get0_data(text) : "";
    size_t size = text ? (size_t)ASN1_STRING_length(text) : 0, skip = sizeof scheme - 1;
    bool ok = text && at == der + len && size > skip && memcmp(uri, scheme, skip) == 0 &&
              text_is_name(uri + skip, size - skip);
    if (ok) {
        memcpy(name, uri + skip, size - skip);
        name[size - skip] = 0;
    }
    ASN1_UTF8STRING_free(text);
    return ok ? name : NULL;
}

static int give_key(struct key *key, OSSL_CALLBACK *callback, void *arg)
{
    int type = OSSL_OBJECT_PKEY;
    struct key_reference reference = {key};
    OSSL_PARAM params[] = {OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
                           OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE,
                                                            (char *)key_type_name(key->type), 0),
                           OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE,
                                                             &reference, sizeof reference),
                           OSSL_PARAM_END};
    return callback(params, arg);
}

static int der_decode(struct provider *prov, enum wire_key_type type, OSSL_CORE_BIO *in,
                      OSSL_CALLBACK *callback, void *arg)
{
    unsigned char der[DER_MAX];
    char name[TEXT_NAME_MAX + 1];
    size_t len = 0, got = 0;
    int ok = 1;
    if (!prov->bio_read_ex)
        return 1;
    while (len < sizeof der && prov->bio_read_ex(in, der + len, sizeof der - len, &got) && got)
        len += got;
    ERR_set_mark(); // other DER is no mistake
    bool is_ours = len < sizeof der && name_of(der, len, name);
    ERR_pop_to_mark();
    if (!is_ours)
        return 1;
    struct key *key = key_fetch(prov, name);
    if (key && key->type == type)
        ok = give_key(key, callback, arg);
    else if (!key)
        ok = 0;
    key_free(key);
    return ok;
}

#define DER_DECODE(suffix, type)                                                               \
    static int der_decode_##suffix(void *vctx, OSSL_CORE_BIO *in, int selection,               \
                                   OSSL_CALLBACK *callback, void *arg,                         \
                                   OSSL_PASSPHRASE_CALLBACK *passphrase, void *passphrase_arg) \
    {                                                                                          \
        (void)selection;                                                                       \
        (void)passphrase;                                                                      \
        (void)passphrase_arg;                                                                  \
        return der_decode(vctx, type, in, callback, arg);                                      \
    }                                                                                          \
    const OSSL_DISPATCH decoder_##suffix##_functions[] = {                                     \
        DISPATCH(OSSL_FUNC_DECODER_NEWCTX, decoder_newctx),                                    \
        DISPATCH(OSSL_FUNC_DECODER_FREECTX, decoder_freectx),                                  \
        DISPATCH(OSSL_FUNC_DECODER_DOES_SELECTION, decoder_does_selection),                    \
        DISPATCH(OSSL_FUNC_DECODER_DECODE, der_decode_##suffix), DISPATCH_LAST};
DER_DECODE(rsa, WIRE_KEY_RSA)
DER_DECODE(ec, WIRE_KEY_EC)
DER_DECODE(ed25519, WIRE_KEY_ED25519)

const OSSL_DISPATCH decoder_pem_functions[] = {DISPATCH(OSSL_FUNC_DECODER_NEWCTX, decoder_newctx),
                                               DISPATCH(OSSL_FUNC_DECODER_FREECTX, decoder_freectx),
                                               DISPATCH(OSSL_FUNC_DECODER_DECODE, pem_decode),
                                               DISPATCH_LAST};
