// SPDX-License-Identifier: Apache-2.0
#include "gateway/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/alloc.h"

static char directory[] = "/tmp/sealgate-conf-XXXXXX";
static char path[sizeof directory + 20];

#define MINIMUM "authserv-id = mx\ntrust-anchors = ca.pem\n"
#define SIGNER "identity s { key = \"hsmd:s\" use = sign }\n"

static struct conf *read_text(const char *text, struct detail *detail)
{
    struct conf *conf = NULL;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    enum err err = conf_read(path, &conf, detail);
    assert_int_equal(err == ERR_OK, conf != NULL);
    return conf;
}

static void test_minimum_has_defaults(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct conf *conf = read_text(MINIMUM, &detail);
    char anchors[100];
    snprintf(anchors, sizeof anchors, "%s/ca.pem", directory);
    assert_non_null(conf);
    assert_string_equal(conf->authserv_id, "mx");
    assert_string_equal(conf->trust_anchors, anchors);
    assert_string_equal(conf->store, "/var/lib/sealgate/certificates.db");
    assert_string_equal(conf->listen, "inet:7301@127.0.0.1");
    assert_null(conf->reinject);
    assert_int_equal(conf->message_max, 52428800);
    assert_int_equal(conf->depth, 8);
    assert_int_equal(conf->network_count, 2);
    assert_int_equal(conf->originating_daemons.count, 1);
    assert_null(conf->outbound_profile);
    assert_null(conf->profile_header);
    assert_true(conf->protects_local);
    assert_true(conf->verify && conf->decrypt && conf->keep_signature && !conf->allow_legacy);
    conf_free(conf);
}

static void test_everything(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct conf *conf = read_text(
        "domains = { \"a.example\", \"*.a.example\" }\n"
        "authserv-id = \"mx.a.example\"\n"
        "store = \"s.db\"\n"
        "trust-anchors = \"/etc/ca.pem\"\n"
        "listen = \"unix:/run/m.sock\"\n"
        "reinject = \"smtp://127.0.0.1:7302\"\n"
        "reinject-timeout = 500\n"
        "internal-networks = {}\n"
        "originating-daemons = { \"A\", \"B\" }\n"
        "spool-directory = spool  spool-memory = 10  message-max = 20  depth = 3\n"
        "log = stderr  log-level = debug\n"
        "identity signing { key = \"hsmd:signing\"  certificate-file = \"signing.pem\"  use = sign "
        "}\n"
        "identity both { key = \"hsmd:both\"  use = { sign, decrypt } }\n"
        "profile p { mode = triple  signer = { both, signing }  sign-mode = opaque\n"
        "  missing-key = split  cipher = aes-128-gcm  oaep = true  pss = on  hash = sha512 }\n"
        "profile q { mode = encrypt }\n"
        "outbound { profile = p  profile-header = \"X-Profile\"  local-recipients = clear }\n"
        "inbound { verify = no  decrypt = no  signature = remove  legacy-ciphers = yes }\n",
        &detail);
    assert_string_equal(detail.text, "");
    assert_non_null(conf);
    assert_int_equal(conf->network_count, 0);
    assert_int_equal(conf->originating_daemons.count, 2);
    assert_int_equal(conf->reinject_timeout, 500);
    assert_int_equal(conf->log_level, LOG_LEVEL_DEBUG);
    assert_true(conf_is_local(conf, "x@a.example") && conf_is_local(conf, "x@b.a.example"));
    assert_false(conf_is_local(conf, "x@b.example"));
    assert_true(conf->identities[0].can_sign && !conf->identities[0].can_decrypt);
    assert_true(conf->identities[1].can_sign && conf->identities[1].can_decrypt);
    assert_null(conf->identities[1].identity.certificate_file);
    const struct profile *p = conf->outbound_profile;
    assert_ptr_equal(p, conf_profile(conf, "p"));
    assert_int_equal(p->mode, PROFILE_TRIPLE);
    assert_int_equal(p->signer_count, 2);
    assert_int_equal(p->signers[0], 1);
    assert_int_equal(p->signers[1], 0);
    assert_true(p->is_opaque && p->oaep && p->pss);
    assert_int_equal(p->missing_key, MISSING_KEY_SPLIT);
    assert_int_equal(p->cipher, CMS_AES_128_GCM);
    assert_int_equal(p->hash, HASH_SHA512);
    assert_true(profile_signs(p) && profile_encrypts(p));
    assert_false(profile_signs(conf_profile(conf, "q")));
    assert_null(conf_profile(conf, "none"));
    assert_string_equal(conf->profile_header, "X-Profile");
    assert_false(conf->verify || conf->decrypt || conf->keep_signature || conf->protects_local);
    assert_true(conf->allow_legacy);
    conf_free(conf);
}

static void test_errors_name_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"", "authserv-id is missing"},
        {"authserv-id = x\n", "trust-anchors is missing"},
        {MINIMUM "colour = red\n", "colour"},
        {MINIMUM "depth = 0\n", "depth cannot be 0"},
        {MINIMUM "depth = 33\n", "depth cannot be over"},
        {MINIMUM "message-max = -1\n", "message-max"},
        {MINIMUM "message-max = big\n", "message-max"},
        {MINIMUM "log = paper\n", "log cannot be \"paper\""},
        {MINIMUM "log-level = loud\n", "log-level cannot be"},
        {MINIMUM "internal-networks = { \"10.0.0.0/99\" }\n", "internal-networks"},
        {MINIMUM "store = \"\"\n", "store is missing"},
        {MINIMUM "identity s { use = sign }\n", "key is missing"},
        {MINIMUM "identity s { key = k }\n", "use is missing"},
        {MINIMUM "identity s { key = k use = fly }\n", "use cannot be \"fly\""},
        {MINIMUM "identity \"a b\" { key = k use = sign }\n", "not a name"},
        {MINIMUM SIGNER SIGNER, ""},
        {MINIMUM "profile p { signer = x }\n", "mode is missing"},
        {MINIMUM "profile p { mode = hide }\n", "mode cannot be \"hide\""},
        {MINIMUM "profile p { mode = sign }\n", "has no signer"},
        {MINIMUM "profile p { mode = sign signer = { s } }\n", "no identity \"s\""},
        {MINIMUM "identity d { key = k use = decrypt }\n"
                 "profile p { mode = sign signer = { d } }\n",
         "not for signing"},
        {MINIMUM "profile none { mode = encrypt }\n", "cannot be the name"},
        {MINIMUM "profile p { mode = encrypt cipher = des3 }\n", "cipher cannot be"},
        {MINIMUM "profile p { mode = encrypt hash = md5 }\n", "hash cannot be"},
        {MINIMUM "profile p { mode = encrypt hash = sha1 }\n", "hash cannot be"},
        {MINIMUM "profile p { mode = encrypt sign-mode = x }\n", "sign-mode cannot be"},
        {MINIMUM "profile p { mode = encrypt missing-key = x }\n", "missing-key cannot be"},
        {MINIMUM "outbound { profile = p }\n", "no profile \"p\""},
        {MINIMUM "outbound { local-recipients = p }\n", "local-recipients cannot be"},
        {MINIMUM "inbound { signature = eat }\n", "signature cannot be"},
        {MINIMUM "inbound { verify = 7 }\n", "verify"},
        {MINIMUM "profile p {\n", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct detail detail = {0};
        struct conf *conf = read_text(cases[i].text, &detail);
        if (conf || !strstr(detail.text, cases[i].reason) || !strstr(detail.text, path))
            fail_msg("case %zu: \"%s\" in place of \"%s\"", i, detail.text, cases[i].reason);
    }
}

static void test_absent_file(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct conf *conf = NULL;
    assert_int_equal(conf_read("/nonexistent/sealgate.conf", &conf, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "/nonexistent/sealgate.conf"));
}

static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    struct detail detail = {0};
    conf_free(read_text(MINIMUM SIGNER "profile p { mode = sign signer = { s } }\n", &detail));
    for (unsigned n = 1;; n++) {
        struct conf *conf = NULL;
        mem_fail_at(n);
        enum err err = conf_read(path, &conf, &detail);
        mem_fail_at(0);
        if (err == ERR_OK) {
            assert_true(n > 10);
            conf_free(conf);
            return;
        }
        assert_int_equal(err, ERR_TEMP);
    }
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/sealgate.conf", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimum_has_defaults),     cmocka_unit_test(test_everything),
        cmocka_unit_test(test_errors_name_the_reason),   cmocka_unit_test(test_absent_file),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
