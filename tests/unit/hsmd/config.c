// SPDX-License-Identifier: Apache-2.0
#include "hsmd/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "hsmd/config.h"
#include "hsmd/registry/registry.h"

#define KEY_1 "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define KEY_2 "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define KEY_3 "abcdefghijklmnopqrstuvwxyz0123456789ABCD"
#define HEX_1 "cb819d5f7ce27a055d3317b74d671255ca04ec70cccd7adf79505e2e4761398c"
#define HEX_2 "3cc588589510ee9c31aefd9e2e5660c86564a960d1923d2aae8f89d5fe820f98"
#define SIGNING_1 "signing-key = \"" HEX_1 "\""
#define SIGNING_2 "signing-key = \"" HEX_2 "\""

static const char good[] = "listen = { \"ipc:///run/x.sock\", \"tcp://127.0.0.1:7011\" }\n"
                           "server-key-file = \"server.key\"\n"
                           "state-directory = \"/var/lib/x\"\n"
                           "token main { module = \"/m.so\" label = \"t\" pin-file = \"pin\" }\n"
                           "key signing { token = main label = \"l\" id = \"01fF\"\n"
                           "    purpose = smime-sign algorithms = { rsa-pkcs1, rsa-pss } }\n"
                           "client gw { public-key = \"" KEY_1 "\" }\n"
                           "grant { client = gw key = signing operations = { sign } }\n";

static char dir[64];
static char path[96];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/config-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/hsmd.conf", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static enum err load(const char *text, struct config **config, struct detail *detail)
{
    assert_int_equal(file_write(path, bytes_of_text(text), 0600, NULL), ERR_OK);
    return config_load(path, config, detail);
}

static void test_values(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct detail detail = {0};
    char expected[128];
    enum err err = load(good, &config, &detail);
    assert_string_equal(detail.text, "");
    assert_int_equal(err, ERR_OK);
    assert_int_equal(config->listen_count, 2);
    assert_string_equal(config->listen[1], "tcp://127.0.0.1:7011");
    snprintf(expected, sizeof expected, "%s/server.key", dir);
    assert_string_equal(config->server_key_file, expected);
    assert_string_equal(config->audit_log, "/var/lib/x/audit.log");
    assert_int_equal(config->request_timeout, 10000);
    assert_int_equal(config->log_level, LOG_LEVEL_NOTICE);
    assert_int_equal(config->token_count, 1);
    snprintf(expected, sizeof expected, "%s/pin", dir);
    assert_string_equal(config->tokens[0].pin_file, expected);
    assert_null(config->tokens[0].serial);
    assert_int_equal(config->tokens[0].sessions, 4);
    const struct config_key *key = &config->keys[0];
    assert_string_equal(key->name, "signing");
    assert_int_equal(key->id_len, 2);
    assert_memory_equal(key->id, "\x01\xff", 2);
    assert_int_equal(key->purpose, WIRE_SMIME_SIGN);
    assert_int_equal(key->state, WIRE_ENABLED);
    assert_true(key->algorithms == (REGISTRY_SET(WIRE_RSA_PKCS1) | REGISTRY_SET(WIRE_RSA_PSS)));
    assert_null(key->certificate_file);
    assert_true(config->grants[0].operations == REGISTRY_SET(WIRE_SIGN));
    assert_true(config->grants[0].algorithms == REGISTRY_ALL);
    config_free(config);
}

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *said;
    } rows[] = {
        {"server-key-file = \"server.key\"", "", "server-key-file is missing"},
        {"state-directory = \"/var/lib/x\"", "", "state-directory is missing"},
        {"listen = { \"ipc:///run/x.sock\", \"tcp://127.0.0.1:7011\" }", "", "listen is missing"},
        {"tcp://", "udp://", ":1: listen: \"udp://127.0.0.1:7011\" is not"},
        {"ipc:///run", "ipc://run", ":1: listen: \"ipc://run/x.sock\" is not"},
        {"/run/x.sock",
         "/ppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"
         "pppppppppppppppppppppppppppp",
         "107 characters"},
        {"state-directory", "state-dir", ":3: no such option"},
        {"token main", "token .main", "\".main\" is not a name"},
        {"token main", "token \"a b\"", "\"a b\" is not a name"},
        {"token = main", "token = other",
         "key signing: token must name a token section, not 'other'"},
        {"module = \"/m.so\"", "", "token main: module is missing"},
        {"module = \"/m.so\"", "module = \"\"", ":4: module: \"\" is not a value"},
        {"label = \"t\"", "", "label or serial"},
        {"pin-file = \"pin\"", "pin-file = \"pin\" pin-credential = \"pin\"",
         "either pin-file or pin-credential"},
        {"pin-file = \"pin\"", "pin-credential = \"../pin\"", "is not a name"},
        {"key signing",
         "token b { module = \"/m.so\" label = \"u\" init-args = \"x\" }\nkey signing",
         ":5: token b: init-args must be those of token main"},
        {"pin-file = \"pin\" }",
         "init-args = \"x\" }\ntoken b { module = \"m2.so\" label = \"u\" }\n"
         "token c { module = \"/m.so\" label = \"u\" }",
         ":6: token c: init-args must be those of token main"},
        {"pin-file = \"pin\" }",
         "init-args = \"x\" }\ntoken b { module = \"/m.so\" label = \"u\" init-args = \"y\" }",
         ":5: token b: init-args must be those of token main"},
        {"pin-file", "sessions = 0 pin-file", ":4: sessions must be 1 to 64, not 0"},
        {"pin-file", "sessions = 65 pin-file", "sessions must be 1 to 64, not 65"},
        {"01fF", "01f", "is not hex"},
        {"smime-sign", "smime", ":6: purpose: \"smime\" is not"},
        {"purpose = smime-sign", "", "purpose is missing"},
        {"purpose = smime-sign", "purpose = smime-sign state = destroyed", "state: \"destroyed\""},
        {"rsa-pss", "rsa-psss", ":6: algorithms: \"rsa-psss\" is not"},
        {"label = \"l\"", "", "key signing: label is missing"},
        {KEY_1, "short", ":7: public-key: \"short\" is not"},
        {"public-key = \"" KEY_1 "\"", "", "either public-key or public-key-file"},
        {"public-key = \"" KEY_1 "\"", "public-key-file = \"none\"", "client gw: "},
        {"public-key = \"" KEY_1 "\"", "public-key-file = \"hsmd.conf\"", "no CURVE key"},
        {"client = gw", "client = other", "client must name a client section, not 'other'"},
        {"key = signing", "key = other", "key must name a key section, not 'other'"},
        {"client = gw ", "", "client is missing"},
        {"operations = { sign }", "", "at least one"},
        {"operations = { sign }", "operations = { list }", "\"list\" is not sign"},
        {"operations = { sign }", "operations = { sign, sing }", ":8: operations: \"sing\""},
        {"state-directory", "request-timeout = 99\nstate-directory", ":3: request-timeout must be"},
        {"state-directory", "log = nowhere\nstate-directory", "log: \"nowhere\" is not"},
        {"state-directory", "log-level = loud\nstate-directory", "log-level: \"loud\" is not"},
        {"state-directory", "audit-sync = maybe\nstate-directory",
         ":3: audit-sync: \"maybe\" is not always, batch or off"},
        {"state-directory", "audit-checkpoint-lines = 0\nstate-directory",
         ":3: audit-checkpoint-lines must be"},
        {"state-directory", "audit-checkpoint-seconds = 86401\nstate-directory",
         ":3: audit-checkpoint-seconds must be"},
        {"client gw", "audit-key { label = \"a\" }\nclient gw", "audit-key: token must name"},
        {"client gw", "audit-key { token = main }\nclient gw", "audit-key: label is missing"},
        {"client gw", "audit-key { token = main purpose = general }\nclient gw", "no such option"},
        {"client gw",
         "audit-key { token = main label = \"a\" }\naudit-key { token = main label = \"b\" }\n"
         "client gw",
         "there can be only one"},
        {"key = signing", "key = audit-key", "key must name"},
        {"grant {", "client gw { public-key = \"" KEY_2 "\" }\ngrant {", "gw"},
        {"state-directory", "officers-listen = { \"ipc:///o\" }\nstate-directory",
         "officers-server-key-file is missing"},
        {"state-directory",
         "officers-listen = { \"ipc:///run/x.sock\" }\nofficers-server-key-file = o.key\n"
         "state-directory",
         "listen and officers-listen are both ipc:///run/x.sock"},
        {"state-directory", "officers-listen = { \"udp://x\" }\nstate-directory",
         ":3: officers-listen: \"udp://x\" is not"},
        {"state-directory", "officers-server-key-file = server.key\nstate-directory",
         "must not be server-key-file"},
        {"state-directory", "officers-timeout = 99\nstate-directory", ":3: officers-timeout must"},
        {"state-directory", "quorum = 0\nstate-directory", ":3: quorum must be 1 to"},
        {"state-directory", "proposal-lapse = 59\nstate-directory", ":3: proposal-lapse must be"},
        {"state-directory", "proposal-lapse = 2592001\nstate-directory", "proposal-lapse must be"},
        {"pin-file", "healing = maybe pin-file", "healing"},
        {"client gw", "officer a { role = boss }\nclient gw", "\"boss\" is not officer or auditor"},
        {"client gw", "officer a { signing-key = 00 }\nclient gw", "is not an Ed25519 public key"},
        {"client gw", "officer a { " SIGNING_1 " }\nclient gw", "officer a: role is missing"},
        {"client gw", "officer a { role = officer " SIGNING_1 " }\nclient gw",
         "officer a: either file, or"},
        {"client gw", "officer a { role = officer file = x " SIGNING_1 " }\nclient gw",
         "officer a: either file, or"},
        {"client gw", "officer a { role = officer file = none }\nclient gw", "officer a: "},
        {"client gw", "officer a { role = officer file = hsmd.conf }\nclient gw", "officer a: "},
        {"client gw",
         "officer a { role = officer " SIGNING_1 " public-key = \"" KEY_1 "\" }\nclient gw",
         "officer a and client gw have the same key"},
        {"client gw",
         "officer a { role = officer " SIGNING_1 " public-key = \"" KEY_2 "\" }\n"
         "officer b { role = officer " SIGNING_2 " public-key = \"" KEY_2 "\" }\nclient gw",
         "officers a and b have the same key"},
        {"client gw",
         "officer a { role = officer " SIGNING_1 " public-key = \"" KEY_2 "\" }\n"
         "officer b { role = officer " SIGNING_1 " public-key = \"" KEY_3 "\" }\nclient gw",
         "officers a and b have the same key"},
        {"client gw",
         "quorum = 2\nofficer a { role = officer " SIGNING_1 " public-key = \"" KEY_2 "\" }\n"
         "officer b { role = auditor " SIGNING_2 " public-key = \"" KEY_3 "\" }\nclient gw",
         "quorum is 2, and there are 1 officers"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[4096];
        struct config *config = NULL;
        struct detail detail = {0};
        const char *at = strstr(good, rows[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, rows[i].to,
                 at + strlen(rows[i].from));
        enum err err = load(text, &config, &detail);
        if (err != ERR_PERM || !strstr(detail.text, rows[i].said) || !strstr(detail.text, path))
            print_error("row %zu: %s, \"%s\" instead of \"%s\"\n", i, err_name(err), detail.text,
                        rows[i].said);
        assert_int_equal(err, ERR_PERM);
        assert_non_null(strstr(detail.text, rows[i].said));
        assert_non_null(strstr(detail.text, path));
    }
}

// What libConfuse makes of a dollar sign in double quotes; in single quotes it is one.
static void test_quotes(void **state)
{
    (void)state;
    static const char key[] = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/${H8]}f7";
    char text[4096];
    struct config *config = NULL;
    struct detail detail = {0};
    const char *at = strstr(good, "\"" KEY_1 "\"");
    for (int is_single = 0; is_single < 2; is_single++) {
        const char quote = is_single ? '\'' : '"';
        snprintf(text, sizeof text, "%.*s%c%s%c%s", (int)(at - good), good, quote, key, quote,
                 at + strlen(KEY_1) + 2);
        assert_int_equal(load(text, &config, &detail), is_single ? ERR_OK : ERR_PERM);
    }
    assert_string_equal(config->clients[0].public_key, key);
    config_free(config);
}

// Every path is taken from the file's directory.
static void test_relative_module(void **state)
{
    (void)state;
    char text[4096];
    char expected[128];
    struct config *config = NULL;
    const char *at = strstr(good, "/m.so");
    snprintf(text, sizeof text, "%.*slib/m.so%s", (int)(at - good), good, at + 5);
    assert_int_equal(load(text, &config, NULL), ERR_OK);
    snprintf(expected, sizeof expected, "%s/lib/m.so", dir);
    assert_string_equal(config->tokens[0].module, expected);
    config_free(config);
}

// As NSS wants them, with quotes within quotes. Tokens of one module say the same.
static void test_init_args(void **state)
{
    (void)state;
    static const char args[] = "configdir='sql:/var/lib/nss' certPrefix='' flags=";
    char text[4096];
    struct config *config = NULL;
    struct detail detail = {0};
    const char *at = strstr(good, "pin-file");
    snprintf(
        text, sizeof text,
        "%.*sinit-args = \"%s\" %stoken b { module = \"/m.so\" label = \"u\" init-args = \"%s\" "
        "}\ntoken c { module = \"/other.so\" label = \"u\" }\n"
        "token d { module = \"/other.so\" label = \"v\" init-args = \"\" }\n",
        (int)(at - good), good, args, at, args);
    assert_int_equal(load(text, &config, &detail), ERR_OK);
    assert_int_equal(config->token_count, 4);
    assert_string_equal(config->tokens[0].init_args, args);
    assert_string_equal(config->tokens[1].init_args, args);
    assert_null(config->tokens[2].init_args);
    assert_null(config->tokens[3].init_args);
    config_free(config);
}

// Of the former configuration; what hsmd migrate brings into the registry.
static void test_former_content(void **state)
{
    (void)state;
    char text[4096];
    struct config *config = NULL;
    struct detail detail = {0};
    snprintf(
        text, sizeof text, "%s%s", good,
        "key other { token = main label = \"x\" purpose = general state = retired }\n"
        "client b { public-key = \"" KEY_2 "\" }\n"
        "grant { client = b key = other operations = { unwrap } algorithms = { rsaes-oaep } }\n"
        "grant { client = b key = other operations = { sign } algorithms = { rsa-pss } }\n");
    assert_int_equal(load(text, &config, &detail), ERR_OK);
    assert_true(config->has_former);
    assert_int_equal(config_check_former(config, &detail), ERR_PERM);
    assert_non_null(strstr(detail.text, "hsmd.conf:5: "));
    assert_int_equal(config->key_count, 2);
    assert_int_equal(config->client_count, 2);
    assert_int_equal(config->grant_count, 3);
    assert_int_equal(config->keys[0].algorithms,
                     REGISTRY_SET(WIRE_RSA_PKCS1) | REGISTRY_SET(WIRE_RSA_PSS));
    assert_int_equal(config->keys[1].state, WIRE_RETIRED);
    assert_int_equal(config->keys[1].purpose, WIRE_GENERAL);
    assert_string_equal(config->clients[1].public_key, KEY_2);
    static const struct {
        const char *client, *key;
        uint64_t operations, algorithms;
    } rows[] = {
        {"gw", "signing", REGISTRY_SET(WIRE_SIGN), REGISTRY_ALL},
        {"b", "other", REGISTRY_SET(WIRE_UNWRAP), REGISTRY_SET(WIRE_RSAES_OAEP)},
        {"b", "other", REGISTRY_SET(WIRE_SIGN), REGISTRY_SET(WIRE_RSA_PSS)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_string_equal(config->grants[i].client, rows[i].client);
        assert_string_equal(config->grants[i].key, rows[i].key);
        assert_int_equal(config->grants[i].operations, rows[i].operations);
        assert_int_equal(config->grants[i].algorithms, rows[i].algorithms);
    }
    config_free(config);
}

// What is left for the file when keys, clients and grants are in the registry.
static void test_officers(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct detail detail = {0};
    char expected[128];
    char file[96];
    snprintf(file, sizeof file, "%s/bob.pub", dir);
    assert_int_equal(
        file_write(file, BYTES_LITERAL("officer-1 bob " HEX_2 " " KEY_3 "\n"), 0600, NULL), ERR_OK);
    enum err err =
        load("listen = { \"ipc:///run/x.sock\" }\nserver-key-file = server.key\n"
             "officers-listen = { \"ipc:///run/o.sock\" }\n"
             "officers-server-key-file = officers.key\nstate-directory = state\nquorum = 2\n"
             "token main { module = \"/m.so\" label = t healing = false }\n"
             "officer alice { role = officer " SIGNING_1 " public-key = '" KEY_2 "' }\n"
             "officer bob { role = officer file = bob.pub }\n"
             "officer carol { role = auditor " SIGNING_1 " public-key = '" KEY_1 "' }\n",
             &config, &detail);
    assert_int_equal(err, ERR_PERM); // one key twice
    err = load("listen = { \"ipc:///run/x.sock\" }\nserver-key-file = server.key\n"
               "officers-listen = { \"ipc:///run/o.sock\" }\n"
               "officers-server-key-file = officers.key\nstate-directory = state\nquorum = 2\n"
               "token main { module = \"/m.so\" label = t healing = false }\n"
               "officer alice { role = officer " SIGNING_1 " public-key = '" KEY_2 "' }\n"
               "officer bob { role = officer file = bob.pub }\n",
               &config, &detail);
    if (err != ERR_OK)
        fail_msg("%s", detail.text);
    assert_int_equal(config->officers_listen_count, 1);
    assert_string_equal(config->officers_listen[0], "ipc:///run/o.sock");
    snprintf(expected, sizeof expected, "%s/officers.key", dir);
    assert_string_equal(config->officers_server_key_file, expected);
    assert_int_equal(config->officers_timeout, 120000);
    assert_int_equal(config->quorum, 2);
    assert_int_equal(config->proposal_lapse, 604800);
    assert_false(config->tokens[0].healing);
    assert_null(config->tokens[0].pin_file);
    assert_null(config->tokens[0].pin_credential);
    assert_int_equal(config->officer_count, 2);
    assert_string_equal(config->officers[1].name, "bob");
    assert_int_equal(config->officers[1].role, OFFICER_OFFICER);
    assert_int_equal(config->officers[1].signing_key[0], 0x3c);
    assert_int_equal(config->officers[0].signing_key[31], 0x8c);
    assert_string_equal(config->officers[1].curve_key, KEY_3);
    assert_int_equal(config->key_count, 0);
    assert_false(config->has_former);
    assert_int_equal(config_check_former(config, &detail), ERR_OK);
    config_free(config);
    unlink(file);
}

static void test_former(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct detail detail = {0};
    char expected[400];
    assert_int_equal(load(good, &config, &detail), ERR_OK);
    assert_true(config->has_former);
    assert_true(config->tokens[0].healing);
    assert_int_equal(config_check_former(config, &detail), ERR_PERM);
    snprintf(expected, sizeof expected, "%s:5: ", path);
    assert_ptr_equal(strstr(detail.text, expected), detail.text);
    snprintf(expected, sizeof expected, "'hsmd migrate -c %s'", path);
    assert_non_null(strstr(detail.text, expected));
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),    cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_quotes),    cmocka_unit_test(test_relative_module),
        cmocka_unit_test(test_init_args), cmocka_unit_test(test_former_content),
        cmocka_unit_test(test_officers),  cmocka_unit_test(test_former),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
