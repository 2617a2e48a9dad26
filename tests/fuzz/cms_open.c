// SPDX-License-Identifier: Apache-2.0
// Objects from outside, decrypted and verified with keys in memory. Nobody can forge: what is good,
// or opens with its integrity checked, is what the seeds' makers put in. What fails releases
// nothing.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>

#include "gateway/cms.h"

#define NOW 1800000000 // January 2027: the keys' certificates are valid for a hundred years
#define CONTENT "Content-Type: text/plain\r\n\r\nWe meet at noon.\r\n"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct spool_conf bounds = {
    .directory = "/tmp", .memory_max = 1 << 20, .max = 1 << 20};
static struct cms_identity identities[2];
static STACK_OF(X509) * extra;
static struct trust *trust;

static void end(void)
{
    for (size_t i = 0; i < 2; i++) {
        EVP_PKEY_free(identities[i].key);
        X509_free(identities[i].cert);
    }
    sk_X509_free(extra);
    trust_free(trust);
}

static void identity_load(struct cms_identity *identity, const char *name)
{
    char path[500];
    identity->name = name;
    snprintf(path, sizeof path, "%s/cms/%s.key", TEST_DATA, name);
    FILE *file = fopen(path, "re");
    if (!file || !(identity->key = PEM_read_PrivateKey(file, NULL, NULL, NULL)))
        abort();
    fclose(file);
    snprintf(path, sizeof path, "%s/cms/%s.pem", TEST_DATA, name);
    file = fopen(path, "re");
    if (!file || !(identity->cert = PEM_read_X509(file, NULL, NULL, NULL)))
        abort();
    fclose(file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    identity_load(&identities[0], "rsa");
    identity_load(&identities[1], "ec");
    extra = sk_X509_new_null();
    if (!extra || sk_X509_push(extra, identities[0].cert) <= 0 ||
        trust_load(TEST_DATA "/cms/anchors.pem", &trust, NULL) != ERR_OK)
        abort();
    atexit(end);
    return 0;
}

static void decrypt(struct bytes object, bool has_integrity)
{
    struct bytes view;
    struct detail detail = {0};
    size_t used = 0;
    struct spool *out = spool_new(&bounds);
    if (!out)
        abort();
    enum err err = cms_decrypt(object, identities, 2, out, &used, &detail);
    if (err == ERR_OK) {
        if (spool_view(out, &view, NULL) != ERR_OK || used > 1)
            abort();
        if (has_integrity && !bytes_equal(view, BYTES_LITERAL(CONTENT)))
            abort();
    } else if (err != ERR_PERM || spool_len(out) != 0 || !*detail.text) {
        abort();
    }
    spool_free(out);
}

static void verify(struct bytes object, struct bytes content)
{
    struct bytes view;
    struct cms_verification v;
    struct detail detail = {0};
    struct spool *out = spool_new(&bounds);
    if (!out)
        abort();
    enum err err =
        cms_verify(object, content, trust, extra, "rsa@a.example", NOW, out, &v, &detail);
    if (err != ERR_OK && err != ERR_PERM)
        abort();
    if (err == ERR_OK && v.verdict == CMS_GOOD) {
        if (spool_view(out, &view, NULL) != ERR_OK || !v.signer)
            abort();
        if (!bytes_equal(content.len ? content : view, BYTES_LITERAL(CONTENT)))
            abort();
    }
    if (err == ERR_OK && v.verdict != CMS_GOOD && !*v.reason)
        abort();
    cms_verification_clear(&v);
    spool_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cms_summary summary;
    struct bytes object = bytes_of(data, size);
    (void)cms_inspect(object, true, &summary, NULL);
    switch (summary.type) {
    case CMS_TYPE_ENVELOPED:
    case CMS_TYPE_AUTH_ENVELOPED:
        decrypt(object, summary.type == CMS_TYPE_AUTH_ENVELOPED);
        break;
    case CMS_TYPE_SIGNED:
        verify(object, summary.is_detached ? BYTES_LITERAL(CONTENT) : bytes_of(NULL, 0));
        break;
    case CMS_TYPE_COMPRESSED:
    case CMS_TYPE_OTHER:
        break;
    }
    return 0;
}
