// SPDX-License-Identifier: Apache-2.0
// What the CMS tests share: an organisation's certificates, spools, files of the corpus, and the
// openssl command as a second opinion.
#pragma once

#include "gateway/cms.h"
#include "tests/support/pki.h"

struct fixture {
    X509 *ca, *intermediate;
    X509 *rsa, *rsa_b, *ec, *ec384;             // signers, by the intermediate
    X509 *to_rsa, *to_rsa_b, *to_ec, *to_ec384; // recipients, by the CA
    STACK_OF(X509) * chain;                     // the intermediate
    struct trust *trust;                        // the CA
    char directory[64];
};

extern struct fixture fixture;
extern const struct spool_conf test_spool_conf;

int fixture_setup(void **state); // group setup and teardown for cmocka
int fixture_teardown(void **state);

struct spool *spool_make(void);
struct bytes spool_bytes(struct spool *spool);

#define CONTENT "Content-Type: text/plain\r\n\r\nWe meet at noon.\r\n"

// A path below the fixture's directory; the result is good until the fourth next call.
const char *fixture_path(const char *name);
void fixture_write(const char *name, struct bytes content);
// Runs a command of printf form in the fixture's directory; its exit status.
int fixture_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// Against the fixture's trust; a failure that is no verdict fails the test. out may be NULL.
struct cms_verification fixture_verify(struct bytes der, struct bytes detached_content,
                                       const char *from, time_t now, struct spool *out);
// reason: some words of it; "": it has none.
void fixture_assert_verdict(const char *name, const struct cms_verification *v,
                            enum cms_verdict verdict, const char *reason);

// A file of the corpus, or NULL if the corpus is not there. The caller's.
struct spool *corpus_read(const char *name);
bool corpus_is_there(void);
X509 *corpus_certificate(const char *name);
EVP_PKEY *corpus_key(const char *name);
