// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/gateway/cms_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>

#include "hsmd/base/file.h"

struct fixture fixture;
const struct spool_conf test_spool_conf = {
    .directory = "/tmp", .memory_max = 1 << 16, .max = 64 << 20};

const char *fixture_path(const char *name)
{
    static char paths[4][200];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", fixture.directory, name);
    return path;
}

void fixture_write(const char *name, struct bytes content)
{
    struct detail detail = {0};
    assert_int_equal(file_write(fixture_path(name), content, 0600, &detail), ERR_OK);
}

int fixture_run(const char *fmt, ...)
{
    char command[1000], line[1200];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    assert_true(n > 0 && (size_t)n < sizeof command);
    snprintf(line, sizeof line,
             "cd %s && export OPENSSL_CONF=/dev/null && { %s; } >command.log 2>&1",
             fixture.directory, command);
    int status = system(line); // NOLINT: the line is the test's own
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int fixture_setup(void **state)
{
    struct fixture *f = &fixture;
    struct detail detail = {0};
    (void)state;
    snprintf(f->directory, sizeof f->directory, "/tmp/sealgate-cms-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    EVP_PKEY *ca_key = pki_key(PKI_EC_P256_C), *inter_key = pki_key(PKI_EC_P256_B);
    f->ca = pki_ca("CA", PKI_EC_P256_C); // P-256: by far the fastest to verify
    f->intermediate = pki_intermediate("Intermediate", PKI_EC_P256_B, f->ca, ca_key);
    f->rsa = pki_signer("rsa", PKI_RSA_2048, "email:bob@a.example", f->intermediate, inter_key);
    f->rsa_b = pki_signer("rsa-b", PKI_RSA_2048_B, "DNS:*.b.example,DNS:b.example", f->intermediate,
                          inter_key);
    f->ec = pki_signer("ec", PKI_EC_P256, "DNS:a.example", f->intermediate, inter_key);
    f->ec384 = pki_signer("ec384", PKI_EC_P384, "DNS:a.example", f->intermediate, inter_key);
    f->to_rsa = pki_recipient("to-rsa", PKI_RSA_2048, "DNS:b.example", f->ca, ca_key);
    f->to_rsa_b = pki_recipient("to-rsa-b", PKI_RSA_2048_B, "DNS:b.example", f->ca, ca_key);
    f->to_ec = pki_recipient("to-ec", PKI_EC_P256, "DNS:b.example", f->ca, ca_key);
    f->to_ec384 = pki_recipient("to-ec384", PKI_EC_P384, "DNS:b.example", f->ca, ca_key);
    f->chain = sk_X509_new_null();
    sk_X509_push(f->chain, f->intermediate);
    pki_write_certificates(fixture_path("ca.pem"), f->ca, NULL);
    pki_write_certificates(fixture_path("to-rsa.pem"), f->to_rsa, NULL);
    pki_write_certificates(fixture_path("to-ec.pem"), f->to_ec, NULL);
    pki_write_certificates(fixture_path("to-ec384.pem"), f->to_ec384, NULL);
    pki_write_certificates(fixture_path("rsa.pem"), f->rsa, NULL);
    pki_write_certificates(fixture_path("ec.pem"), f->ec, NULL);
    pki_write_certificates(fixture_path("intermediate.pem"), f->intermediate, NULL);
    pki_write_key(fixture_path("rsa.key"), pki_key(PKI_RSA_2048));
    pki_write_key(fixture_path("ec.key"), pki_key(PKI_EC_P256));
    pki_write_key(fixture_path("ec384.key"), pki_key(PKI_EC_P384));
    assert_int_equal(trust_load(fixture_path("ca.pem"), &f->trust, &detail), ERR_OK);
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = &fixture;
    X509 *certs[] = {f->ca,    f->intermediate, f->rsa,      f->rsa_b, f->ec,
                     f->ec384, f->to_rsa,       f->to_rsa_b, f->to_ec, f->to_ec384};
    (void)state;
    fixture_run("rm -rf %s", f->directory);
    for (size_t i = 0; i < sizeof certs / sizeof *certs; i++)
        X509_free(certs[i]);
    sk_X509_free(f->chain);
    trust_free(f->trust);
    return 0;
}

struct spool *spool_make(void)
{
    struct spool *spool = spool_new(&test_spool_conf);
    assert_non_null(spool);
    return spool;
}

struct bytes spool_bytes(struct spool *spool)
{
    struct bytes view;
    assert_int_equal(spool_view(spool, &view, NULL), ERR_OK);
    return view;
}

struct cms_verification fixture_verify(struct bytes der, struct bytes detached_content,
                                       const char *from, time_t now, struct spool *out)
{
    struct cms_verification v;
    struct detail detail = {0};
    if (cms_verify(der, detached_content, fixture.trust, NULL, from, now, out, &v, &detail) !=
        ERR_OK)
        fail_msg("%s", detail.text);
    return v;
}

void fixture_assert_verdict(const char *name, const struct cms_verification *v,
                            enum cms_verdict verdict, const char *reason)
{
    if (v->verdict != verdict || (*reason ? !strstr(v->reason, reason) : *v->reason))
        fail_msg("%s: verdict %d, \"%s\"", name, v->verdict, v->reason);
}

bool corpus_is_there(void)
{
    return access(TEST_CORPUS "/README.md", R_OK) == 0;
}

static void corpus_path(const char *name, char *path, size_t size)
{
    assert_true((size_t)snprintf(path, size, "%s/%s", TEST_CORPUS, name) < size);
}

struct spool *corpus_read(const char *name)
{
    char path[300];
    struct buf file;
    struct detail detail = {0};
    corpus_path(name, path, sizeof path);
    buf_init(&file, 64 << 20);
    if (file_read(path, &file, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    struct spool *spool = spool_make();
    assert_int_equal(spool_put(spool, buf_bytes(&file), NULL), ERR_OK);
    buf_clear(&file);
    return spool;
}

X509 *corpus_certificate(const char *name)
{
    char path[300];
    STACK_OF(X509) *certs = NULL;
    struct detail detail = {0};
    corpus_path(name, path, sizeof path);
    if (certificate_read(path, &certs, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    X509 *cert = sk_X509_shift(certs);
    sk_X509_pop_free(certs, X509_free);
    return cert;
}

EVP_PKEY *corpus_key(const char *name)
{
    char path[300];
    corpus_path(name, path, sizeof path);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(key);
    return key;
}
