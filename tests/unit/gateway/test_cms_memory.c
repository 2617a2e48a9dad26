// SPDX-License-Identifier: Apache-2.0
// Out of memory, at every one of our allocations in turn: a temporary failure, nothing released,
// and the next try works.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gateway/certstore.h"
#include "gateway/identity.h"
#include "hsmd/base/alloc.h"
#include "tests/unit/gateway/cms_fixture.h"

#define ALLOCATIONS_MAX 200 // more than any of these makes

static const struct bytes content = {(const uint8_t *)CONTENT, sizeof CONTENT - 1};
static struct spool *signed_object, *encrypted_object;

static enum err run_sign(struct spool *out)
{
    struct cms_signer signer = {pki_key(PKI_EC_P256), fixture.ec, fixture.chain, HASH_SHA256,
                                false};
    return cms_sign(&signer, content, false, out, NULL);
}

static enum err run_encrypt(struct spool *out)
{
    STACK_OF(X509) *recipients = sk_X509_new_null();
    sk_X509_push(recipients, fixture.to_ec);
    struct cms_encryption encryption = {CMS_AES_256_GCM, false, recipients};
    enum err err = cms_encrypt(&encryption, content, out, NULL);
    sk_X509_free(recipients);
    return err;
}

static enum err run_decrypt(struct spool *out)
{
    struct cms_identity identity = {"ec", pki_key(PKI_EC_P256), fixture.to_ec};
    size_t used = 0;
    return cms_decrypt(spool_bytes(encrypted_object), &identity, 1, out, &used, NULL);
}

static enum err run_verify(struct spool *out)
{
    struct cms_verification v;
    enum err err = cms_verify(spool_bytes(signed_object), bytes_of(NULL, 0), fixture.trust, NULL,
                              NULL, time(NULL), out, &v, NULL);
    if (err == ERR_OK)
        assert_int_equal(v.verdict, CMS_GOOD);
    cms_verification_clear(&v);
    return err;
}

static enum err run_trust(struct spool *out)
{
    struct trust *trust = NULL;
    enum err err = trust_load(fixture_path("ca.pem"), &trust, NULL);
    (void)out;
    assert_int_equal(trust != NULL, err == ERR_OK);
    trust_free(trust);
    return err;
}

static enum err run_identity(struct spool *out)
{
    char uri[250];
    struct identity *identity = NULL;
    struct identity_material material = {0};
    (void)out;
    snprintf(uri, sizeof uri, "file:%s", fixture_path("ec.key"));
    struct identity_conf conf = {"ec", uri, fixture_path("ec.pem")};
    enum err err = identity_open(&conf, &identity, NULL);
    if (err == ERR_OK)
        err = identity_get(identity, &material, NULL);
    identity_close(identity);
    return err;
}

static enum err run_store(struct spool *out)
{
    struct certstore *store = NULL;
    STACK_OF(X509) *certs = NULL;
    (void)out;
    enum err err = certstore_open(fixture_path("store.db"), &store, NULL);
    if (err == ERR_OK)
        err = certstore_add(store, "to-ec", fixture.to_ec, NULL);
    if (err == ERR_OK)
        err = certstore_find(store, "dave@b.example", time(NULL), &certs, NULL);
    sk_X509_pop_free(certs, X509_free);
    certstore_close(store);
    return err;
}

static void test_every_allocation(void **state)
{
    static const struct {
        const char *name;
        enum err (*run)(struct spool *out);
    } rows[] = {
        {"sign", run_sign},     {"encrypt", run_encrypt}, {"decrypt", run_decrypt},
        {"verify", run_verify}, {"trust", run_trust},     {"identity", run_identity},
        {"store", run_store},
    };
    (void)state;
    signed_object = spool_make();
    encrypted_object = spool_make();
    assert_int_equal(run_sign(signed_object), ERR_OK);
    assert_int_equal(run_encrypt(encrypted_object), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsigned n = 1;
        enum err err = ERR_TEMP;
        for (; err == ERR_TEMP && n < ALLOCATIONS_MAX; n++) {
            struct spool *out = spool_make();
            mem_fail_at(n);
            err = rows[i].run(out);
            mem_fail_at(0);
            if (err != ERR_OK && spool_len(out) != 0)
                fail_msg("%s, allocation %u: released something", rows[i].name, n);
            spool_free(out);
        }
        if (err != ERR_OK || n < 3)
            fail_msg("%s, allocation %u: %s", rows[i].name, n, err_name(err));
    }
    spool_free(signed_object);
    spool_free(encrypted_object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests_name("cms memory", tests, fixture_setup, fixture_teardown);
}
