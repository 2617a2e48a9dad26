// SPDX-License-Identifier: Apache-2.0
// The provider itself: init, configuration, the list of what it does, errors.
#include "providers/provider.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/text.h"
#include "providers/clients.h"
#include "providers/decoder_pem.h"

static const struct {
    const char *parameter, *variable;
    bool needed;
} setting_rows[SETTING_COUNT] = {
#define X(symbol, parameter, variable, needed) [symbol] = {parameter, variable, needed},
    PROVIDER_SETTINGS(X)
#undef X
};

int provider_raise(const struct provider *prov, const char *file, int line, const char *function,
                   enum reason reason, const char *fmt, ...)
{
    va_list ap;
    if (!prov->new_error || !prov->vset_error)
        return 0;
    va_start(ap, fmt);
    prov->new_error(prov->handle);
    if (prov->set_error_debug)
        prov->set_error_debug(prov->handle, file, line, function);
    prov->vset_error(prov->handle, (uint32_t)reason, fmt, ap);
    va_end(ap);
    return 0;
}

// The environment goes before openssl.cnf, but not in programs that run with other rights than
// their caller's.
static const char *setting_get(const struct provider *prov, enum setting setting)
{
    const char *value = secure_getenv(setting_rows[setting].variable);
    if (!value || !*value)
        value = prov->settings[setting];
    return value && *value ? value : NULL;
}

static bool timeout_get(const struct provider *prov, unsigned *ms)
{
    const char *text = setting_get(prov, SETTING_TIMEOUT);
    *ms = 0;
    if (!text)
        return true;
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || *text < '0' || *text > '9' || value == 0 || value > INT_MAX)
        return RAISE(
            prov, REASON_CONFIGURATION,
            "timeout (or HSMD_TIMEOUT) must be a number of milliseconds above 0, not %.40s", text);
    *ms = (unsigned)value;
    return true;
}

static struct client *client_get(struct provider *prov)
{
    struct client *client = atomic_load(&prov->client);
    const char *values[SETTING_COUNT];
    struct detail detail = {0};
    if (client)
        return client;
    for (int i = 0; i < SETTING_COUNT; i++) {
        values[i] = setting_get(prov, (enum setting)i);
        if (!values[i] && setting_rows[i].needed) {
            RAISE(prov, REASON_CONFIGURATION,
                  "%s is not set: neither in the provider's section of openssl.cnf nor as %s in "
                  "the environment",
                  setting_rows[i].parameter, setting_rows[i].variable);
            return NULL;
        }
    }
    struct client_conf conf = {.endpoints = values[SETTING_ENDPOINTS],
                               .server_key_file = values[SETTING_SERVER_KEY_FILE],
                               .public_key_file = values[SETTING_PUBLIC_KEY_FILE],
                               .secret_key_file = values[SETTING_SECRET_KEY_FILE]};
    if (!timeout_get(prov, &conf.timeout_ms))
        return NULL;
    enum err err = clients_get(&conf, &client, &detail);
    if (err != ERR_OK) {
        RAISE(prov, err == ERR_TEMP ? REASON_TEMP : REASON_CONFIGURATION, "%s", detail.text);
        return NULL;
    }
    struct client *none = NULL;
    if (!atomic_compare_exchange_strong(&prov->client, &none, client)) {
        clients_put(client); // another thread was faster, and got the same one
        client = none;
    }
    return client;
}

static struct bytes request_key(const struct wire_request *request)
{
    switch (request->operation) {
    case WIRE_SIGN:
        return request->sign.key;
    case WIRE_UNWRAP:
        return request->unwrap.key;
    case WIRE_AGREE:
        return request->agree.key;
    case WIRE_DESCRIBE:
        return request->describe.key;
    case WIRE_LIST:
        break;
    }
    return bytes_of(NULL, 0);
}

enum err provider_call(struct provider *prov, struct wire_request *request, const char *hint,
                       struct buf *frame, struct wire_reply *reply)
{
    static const enum reason reasons[] = {[ERR_TEMP] = REASON_TEMP,
                                          [ERR_PERM] = REASON_PERM,
                                          [ERR_DENIED] = REASON_DENIED,
                                          [ERR_BUG] = REASON_BUG};
    char name[TEXT_QUOTED_SIZE];
    struct detail detail = {0};
    struct client *client = client_get(prov);
    if (!client)
        return ERR_TEMP;
    enum err err = client_call(client, request, frame, reply, &detail);
    if (err == ERR_OK)
        return ERR_OK;
    struct bytes key = request_key(request);
    text_quote((const char *)key.data, key.len, name, sizeof name);
    bool is_hinted = hint && (err == ERR_PERM || err == ERR_DENIED);
    RAISE(prov, reasons[err], "%s%s%s: %s%s%s%s", wire_operation_name(request->operation),
          key.len ? " with key " : "", name, detail.text, is_hinted ? " (" : "",
          is_hinted ? hint : "", is_hinted ? ")" : "");
    return err;
}

static void provider_teardown(void *provctx)
{
    struct provider *prov = provctx;
    if (!prov)
        return;
    clients_put(atomic_load(&prov->client));
    for (int i = 0; i < HASH_COUNT; i++)
        EVP_MD_free(prov->digests[i]);
    if (prov->base)
        OSSL_PROVIDER_unload(prov->base);
    OSSL_LIB_CTX_free(prov->libctx);
    for (int i = 0; i < SETTING_COUNT; i++)
        mem_free(prov->settings[i]);
    mem_free(prov);
}

static const OSSL_PARAM *provider_gettable_params(void *provctx)
{
    static const OSSL_PARAM params[] = {OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, NULL, 0),
                                        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, NULL, 0),
                                        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_BUILDINFO, NULL, 0),
                                        OSSL_PARAM_int(OSSL_PROV_PARAM_STATUS, NULL),
                                        OSSL_PARAM_END};
    (void)provctx;
    return params;
}

static int provider_get_params(void *provctx, OSSL_PARAM params[])
{
    OSSL_PARAM *p;
    (void)provctx;
    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_NAME)) &&
        !OSSL_PARAM_set_utf8_ptr(p, "Sealgate hsmd provider"))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_VERSION)) &&
        !OSSL_PARAM_set_utf8_ptr(p, SEALGATE_VERSION))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_BUILDINFO)) &&
        !OSSL_PARAM_set_utf8_ptr(p, SEALGATE_VERSION))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS)) && !OSSL_PARAM_set_int(p, 1))
        return 0;
    return 1;
}

static const OSSL_ALGORITHM *provider_query(void *provctx, int operation, int *no_cache)
{
    static const OSSL_ALGORITHM keymgmts[] = {
        {PROVIDER_RSA_NAMES, PROVIDER_PROPERTIES, keymgmt_rsa_functions, "RSA keys in hsmd"},
        {PROVIDER_EC_NAMES, PROVIDER_PROPERTIES, keymgmt_ec_functions, "EC keys in hsmd"},
        {PROVIDER_ED25519_NAMES, PROVIDER_PROPERTIES, keymgmt_ed25519_functions,
         "Ed25519 keys in hsmd"},
        {NULL, NULL, NULL, NULL}};
    static const OSSL_ALGORITHM signatures[] = {
        {PROVIDER_RSA_NAMES, PROVIDER_PROPERTIES, signature_rsa_functions, "PKCS #1 v1.5 and PSS"},
        {"ECDSA", PROVIDER_PROPERTIES, signature_ecdsa_functions, "ECDSA"},
        {PROVIDER_ED25519_NAMES, PROVIDER_PROPERTIES, signature_ed25519_functions, "Ed25519"},
        {NULL, NULL, NULL, NULL}};
    static const OSSL_ALGORITHM ciphers[] = {{PROVIDER_RSA_NAMES, PROVIDER_PROPERTIES,
                                              asymcipher_rsa_functions, "PKCS #1 v1.5 and OAEP"},
                                             {NULL, NULL, NULL, NULL}};
    static const OSSL_ALGORITHM exchanges[] = {
        {"ECDH", PROVIDER_PROPERTIES, exchange_ecdh_functions, "ECDH with the X9.63 KDF"},
        {NULL, NULL, NULL, NULL}};
    static const OSSL_ALGORITHM encoders[] = {
        {PROVIDER_RSA_NAMES, PROVIDER_PROPERTIES ",output=text", encoder_text_functions, NULL},
        {PROVIDER_EC_NAMES, PROVIDER_PROPERTIES ",output=text", encoder_text_functions, NULL},
        {PROVIDER_ED25519_NAMES, PROVIDER_PROPERTIES ",output=text", encoder_text_functions, NULL},
        {NULL, NULL, NULL, NULL}};
#define DECODER_DER PROVIDER_PROPERTIES ",input=der,structure=" DECODER_STRUCTURE
    static const OSSL_ALGORITHM decoders[] = {
        {"DER", PROVIDER_PROPERTIES ",input=pem", decoder_pem_functions, NULL},
        {PROVIDER_RSA_NAMES, DECODER_DER, decoder_rsa_functions, NULL},
        {PROVIDER_EC_NAMES, DECODER_DER, decoder_ec_functions, NULL},
        {PROVIDER_ED25519_NAMES, DECODER_DER, decoder_ed25519_functions, NULL},
        {NULL, NULL, NULL, NULL}};
    static const OSSL_ALGORITHM stores[] = {
        {PROVIDER_SCHEME, PROVIDER_PROPERTIES, store_functions, "keys and certificates of hsmd"},
        {NULL, NULL, NULL, NULL}};
    (void)provctx;
    *no_cache = 0;
    switch (operation) {
    case OSSL_OP_KEYMGMT:
        return keymgmts;
    case OSSL_OP_SIGNATURE:
        return signatures;
    case OSSL_OP_ASYM_CIPHER:
        return ciphers;
    case OSSL_OP_KEYEXCH:
        return exchanges;
    case OSSL_OP_ENCODER:
        return encoders;
    case OSSL_OP_DECODER:
        return decoders;
    case OSSL_OP_STORE:
        return stores;
    default:
        return NULL;
    }
}

static const OSSL_ITEM *provider_reason_strings(void *provctx)
{
    static const OSSL_ITEM items[] = {
#define X(symbol, number, text) {symbol, (char *)(text)},
        PROVIDER_REASONS(X)
#undef X
            {0, NULL}};
    (void)provctx;
    return items;
}

static bool settings_load(struct provider *prov, OSSL_FUNC_core_get_params_fn *get_params)
{
    char *values[SETTING_COUNT] = {NULL};
    OSSL_PARAM params[SETTING_COUNT + 1];
    for (int i = 0; i < SETTING_COUNT; i++)
        params[i] = OSSL_PARAM_construct_utf8_ptr(setting_rows[i].parameter, &values[i], 0);
    params[SETTING_COUNT] = OSSL_PARAM_construct_end();
    if (get_params && !get_params(prov->handle, params))
        return false;
    for (int i = 0; i < SETTING_COUNT; i++) {
        if (values[i] && !(prov->settings[i] = mem_strdup(values[i])))
            return false;
    }
    return true;
}

static bool libctx_open(struct provider *prov)
{
    prov->libctx = OSSL_LIB_CTX_new();
    prov->base = prov->libctx ? OSSL_PROVIDER_load(prov->libctx, "default") : NULL;
    if (!prov->base)
        return false;
    for (unsigned i = HASH_NONE + 1; i < HASH_COUNT; i++) {
        prov->digests[i] = EVP_MD_fetch(prov->libctx, hash_name((enum hash)i), NULL);
        if (!prov->digests[i])
            return false;
    }
    return true;
}

// Runs while openssl.cnf is being read: it must neither connect nor touch the caller's context.
__attribute__((visibility("default"))) int OSSL_provider_init(const OSSL_CORE_HANDLE *handle,
                                                              const OSSL_DISPATCH *in,
                                                              const OSSL_DISPATCH **out,
                                                              void **provctx)
{
    static const OSSL_DISPATCH functions[] = {
        DISPATCH(OSSL_FUNC_PROVIDER_TEARDOWN, provider_teardown),
        DISPATCH(OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, provider_gettable_params),
        DISPATCH(OSSL_FUNC_PROVIDER_GET_PARAMS, provider_get_params),
        DISPATCH(OSSL_FUNC_PROVIDER_QUERY_OPERATION, provider_query),
        DISPATCH(OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, provider_reason_strings),
        DISPATCH_LAST};
    OSSL_FUNC_core_get_params_fn *get_params = NULL;
    struct provider *prov = mem_calloc(1, sizeof *prov);
    if (!prov)
        return 0;
    prov->handle = handle;
    for (; in->function_id; in++) {
        switch (in->function_id) {
        case OSSL_FUNC_CORE_GET_PARAMS:
            get_params = OSSL_FUNC_core_get_params(in);
            break;
        case OSSL_FUNC_CORE_NEW_ERROR:
            prov->new_error = OSSL_FUNC_core_new_error(in);
            break;
        case OSSL_FUNC_CORE_SET_ERROR_DEBUG:
            prov->set_error_debug = OSSL_FUNC_core_set_error_debug(in);
            break;
        case OSSL_FUNC_CORE_VSET_ERROR:
            prov->vset_error = OSSL_FUNC_core_vset_error(in);
            break;
        case OSSL_FUNC_BIO_READ_EX:
            prov->bio_read_ex = OSSL_FUNC_BIO_read_ex(in);
            break;
        case OSSL_FUNC_BIO_GETS:
            prov->bio_gets = OSSL_FUNC_BIO_gets(in);
            break;
        case OSSL_FUNC_BIO_WRITE_EX:
            prov->bio_write_ex = OSSL_FUNC_BIO_write_ex(in);
            break;
        default:
            break;
        }
    }
    if (!settings_load(prov, get_params) || !libctx_open(prov)) {
        provider_teardown(prov);
        return 0;
    }
    *out = functions;
    *provctx = prov;
    return 1;
}
