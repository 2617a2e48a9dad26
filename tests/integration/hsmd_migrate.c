// SPDX-License-Identifier: Apache-2.0
// A former configuration brought into the registry by the real hsmd, and every way in which that
// fails: then file and registry are as they were.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "hsmd/audit/audit_resume.h"
#include "hsmd/base/file.h"
#include "hsmd/config.h"
#include "hsmd/migrate.h"
#include "hsmd/officers/keyfile.h"
#include "hsmd/registry/store.h"
#include "tests/integration/migrate_fixture.h"
#include "tests/support/pki.h"

static enum err see_key(void *context, const struct store_key *key)
{
    (void)context;
    const struct store_place *place = &key->places[0];
    assert_int_equal(key->place_count, 1);
    return buf_printf(&seen, "%s %s %s %llx %u/%u/%u/%u %s %s %s %s %zu %02x\n", key->name,
                      wire_purpose_name(key->purpose), wire_state_name(key->state),
                      (unsigned long long)key->algorithms, key->limits.per_minute,
                      key->limits.per_hour, key->limits.total, key->limits.failures_per_hour,
                      key->public_key.len ? "seen" : "unseen",
                      key->certificates.len ? "certified" : "bare", place->token, place->label,
                      place->id_len, place->id_len ? place->id[place->id_len - 1] : 0);
}

static enum err see_client(void *context, const struct store_client *client)
{
    (void)context;
    return buf_printf(&seen, "%s %s\n", client->name, client->public_key);
}

static enum err see_grant(void *context, const struct store_grant *grant)
{
    (void)context;
    return buf_printf(&seen, "%s %s %llx %llx %u\n", grant->client, grant->key,
                      (unsigned long long)grant->operations, (unsigned long long)grant->algorithms,
                      grant->limits.total);
}

static enum err check_public_key(void *context, const struct store_key *key)
{
    (void)context;
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(pki_key(PKI_RSA_2048), &der);
    assert_true(len > 0);
    assert_true(bytes_equal(key->public_key, bytes_of(der, (size_t)len)));
    OPENSSL_free(der);
    return ERR_OK;
}

static void see_all(void)
{
    struct store *store = open_store();
    buf_reset(&seen);
    assert_int_equal(store_each_key(store, NULL, see_key, NULL, &detail), ERR_OK);
    assert_int_equal(store_each_client(store, NULL, see_client, NULL, &detail), ERR_OK);
    assert_int_equal(store_each_grant(store, NULL, NULL, see_grant, NULL, &detail), ERR_OK);
    store_close(store);
}

static void test_everything(void **state)
{
    (void)state;
    static const char expected[] =
        "audit audit enabled ffffffffffffffff 0/0/0/0 unseen bare main aud 1 06\n"
        "old smime-decrypt retired ffffffffffffffff 0/0/0/0 unseen bare main old 0 00\n"
        "signing smime-sign enabled 6 5/6/7/8 seen certified main a } label 2 ff\n"
        "archive " KEY_2 "\n"
        "gw " KEY_1 "\n"
        "archive old c 20000 0\n"
        "gw signing 2 ffffffffffffffff 9\n";
    run_well();
    assert_non_null(strstr(buf_text(&said), "3 keys, 2 clients and 2 grants are now in "));
    assert_non_null(strstr(buf_text(&said), "is called \"audit\""));
    assert_file("hsmd.conf", rewritten);
    assert_file("hsmd.conf.before-migration", good);
    see_all();
    assert_string_equal(buf_text(&seen), expected);
    struct store *store = open_store();
    assert_int_equal(store_each_key(store, "signing", check_public_key, NULL, &detail), ERR_OK);
    store_close(store);
    // Once is enough, and says so.
    assert_int_equal(run(NULL, 0), EX_CONFIG);
    assert_non_null(strstr(buf_text(&said), "has no keys, clients or grants to bring"));
    assert_file("hsmd.conf", rewritten);
}

static void test_json(void **state)
{
    (void)state;
    char text[4096];
    const char *at = strstr(good, "audit-key {");
    const char *end = strchr(at, '\n');
    // The names audit and audit-key: the first is taken.
    snprintf(text, sizeof text, "%.*skey audit { token = main label = x purpose = general }\n%s",
             (int)(at - good), good, at);
    write_text("hsmd.conf", text);
    assert_int_equal(run("--json", 0), 0);
    json_t *object = json_loads(buf_text(&said), 0, NULL);
    assert_non_null(object);
    assert_int_equal(json_integer_value(json_object_get(object, "keys")), 4);
    assert_int_equal(json_integer_value(json_object_get(object, "clients")), 2);
    assert_int_equal(json_integer_value(json_object_get(object, "grants")), 2);
    assert_string_equal(json_string_value(json_object_get(object, "audit_key")), "audit-key");
    assert_non_null(json_object_get(object, "registry"));
    json_decref(object);
    // Without one.
    unlink(in_dir("hsmd.conf.before-migration"));
    unlink(in_dir("state/" STORE_FILE));
    snprintf(text, sizeof text, "%.*s%s", (int)(at - good), good, end + 1);
    write_text("hsmd.conf", text);
    assert_int_equal(run("--json", 0), 0);
    object = json_loads(buf_text(&said), 0, NULL);
    assert_true(json_is_null(json_object_get(object, "audit_key")));
    json_decref(object);
}

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } rows[] = {
        {"signing.pem", "none.pem", "key signing: "},
        {"certificate-file = signing.pem", "certificate-file = gw.pub", "no certificate in it"},
        {"log = stderr", "grant { client = gw key = signing operations = { sign } }",
         "two grants of client gw for key signing allow the same"},
        {"label = old", "label = aud id = 06",
         "key audit: it is the same key in the token as key old: a key has one name"},
        {"audit-key {",
         "key twin { token = main label = twin purpose = smime-sign certificate-file = signing.pem "
         "}\naudit-key {",
         "key twin: certificate: its certificate is of the same key as that of key signing"},
        {"state-directory = state", "state-directory = '/'", "others may enter it"},
        {KEY_2, KEY_1, "has the same public CURVE key"},
        {"key old {",
         "key audit-key { token = main label = y purpose = general }\n"
         "key audit { token = main label = x purpose = general }\nkey old {",
         "rename one of them"},
        {"label = old",
         "label = "
         "llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll"
         "llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll",
         "label is longer than"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[4096];
        const char *at = strstr(good, rows[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, rows[i].to,
                 at + strlen(rows[i].from));
        write_text("hsmd.conf", text);
        assert_int_equal(chmod(in_dir("hsmd.conf"), 0640), 0);
        assert_int_equal(run(NULL, 0), EX_CONFIG);
        if (!strstr(buf_text(&said), rows[i].says))
            fail_msg("row %zu: \"%s\"", i, buf_text(&said));
        assert_unchanged(text);
        assert_int_not_equal(access(in_dir("hsmd.conf.before-migration"), F_OK), 0);
        assert_int_not_equal(access(in_dir("state/" STORE_FILE), F_OK), 0);
    }
    // Nor is a directory left that was not there.
    assert_int_equal(rmdir(in_dir("state")), 0);
    assert_int_equal(run(NULL, 0), EX_CONFIG);
    assert_int_not_equal(access(in_dir("state"), F_OK), 0);
}

static void test_former(void **state)
{
    (void)state;
    write_text("hsmd.conf.before-migration", "precious\n");
    assert_int_equal(chmod(in_dir("hsmd.conf.before-migration"), 0640), 0);
    assert_int_equal(run(NULL, 0), EX_CONFIG);
    assert_non_null(strstr(buf_text(&said), "is there already"));
    assert_unchanged(good);
    assert_file("hsmd.conf.before-migration", "precious\n");
}

static void test_in_use(void **state)
{
    (void)state;
    struct store_client client = {.name = "other"};
    struct store *store = open_store();
    snprintf(client.public_key, sizeof client.public_key, "%s", KEY_1);
    assert_int_equal(run(NULL, 0), EX_TEMPFAIL);
    assert_non_null(strstr(buf_text(&said), "in use by another process"));
    assert_unchanged(good);
    assert_int_equal(store_add_client(store, &client, &detail), ERR_OK);
    store_close(store);
    assert_int_equal(run(NULL, 0), EX_CONFIG);
    assert_non_null(strstr(buf_text(&said), "the registry has clients already (\"other\")"));
    assert_unchanged(good);
    see_all();
    assert_string_equal(buf_text(&seen), "other " KEY_1 "\n");
}

// The disk is full when the registry is made; and when all is written but the registry's own end.
static void test_full(void **state)
{
    (void)state;
    char text[4096];
    struct stat st;
    assert_int_equal(run(NULL, 9000), EX_TEMPFAIL);
    assert_unchanged(good);
    assert_int_not_equal(access(in_dir("state/" STORE_FILE), F_OK), 0);
    store_close(open_store());
    assert_int_equal(stat(in_dir("state/" STORE_FILE), &st), 0);
    const char *at = strstr(good, "signing.pem");
    snprintf(text, sizeof text, "%.*slong.pem%s", (int)(at - good), good, at + 11);
    write_text("hsmd.conf", text);
    assert_int_equal(chmod(in_dir("hsmd.conf"), 0640), 0);
    assert_int_equal(run(NULL, (size_t)st.st_size), EX_TEMPFAIL);
    assert_unchanged(text);
    assert_int_not_equal(access(in_dir("hsmd.conf.before-migration"), F_OK), 0);
    see_all();
    assert_string_equal(buf_text(&seen), "");
    // With room it works.
    run_well();
}

static struct config *load(void)
{
    static char file[128];
    struct config *config = NULL;
    snprintf(file, sizeof file, "%s", in_dir("hsmd.conf"));
    assert_int_equal(config_load(file, &config, &detail), ERR_OK);
    return config;
}

static enum err check_start(const struct config *config)
{
    struct store *store = open_store();
    enum err err = migrate_check(config, store, &detail);
    store_close(store);
    see_all();
    return err;
}

// Killed before COMMIT: hsmd says so, and the command can be given again.
static void test_killed(void **state)
{
    (void)state;
    run_well();
    assert_int_equal(unlink(in_dir("state/" STORE_FILE)), 0);
    struct config *config = load();
    assert_int_equal(check_start(config), ERR_PERM);
    assert_non_null(strstr(detail.text, "hsmd migrate -c "));
    run_well();
    assert_non_null(strstr(buf_text(&said), "3 keys, 2 clients and 2 grants are now in "));
    assert_file("hsmd.conf", rewritten);
    assert_file("hsmd.conf.before-migration", good);
    assert_int_equal(check_start(config), ERR_OK);
    // Killed before the new file had its name: one file of two names.
    assert_int_equal(rename(in_dir("hsmd.conf.before-migration"), config->path), 0);
    assert_int_equal(link(config->path, in_dir("hsmd.conf.before-migration")), 0);
    assert_int_equal(unlink(in_dir("state/" STORE_FILE)), 0);
    assert_int_equal(check_start(config), ERR_OK);
    assert_int_equal(access(in_dir("hsmd.conf.before-migration"), F_OK), 0); // it only looks
    config_free(config);
    run_well();
    assert_file("hsmd.conf", rewritten);
}

// A registry that was lost long after the migration, as the audit log knows: what was revoked since
// is not brought back.
static void test_lost(void **state)
{
    (void)state;
    static const char *const known[] = {"start\",\"instance\":\"00112233445566778899aabbccddeeff",
                                        "act\",\"act\":\"quorum"};
    char text[2000];
    snprintf(text, sizeof text, "%saudit-log = audit.log\n", good);
    write_text("hsmd.conf", text);
    run_well();
    assert_int_equal(unlink(in_dir("state/" STORE_FILE)), 0);
    struct config *config = load();
    assert_int_equal(check_start(config), ERR_PERM); // hsmd has not run since
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        snprintf(text, sizeof text,
                 "{\"seq\":1,\"time\":\"2026-11-22T05:00:00.000Z\",\"event\":\"%s\","
                 "\"prev\":\"%064d\"}\n",
                 known[i], 0);
        write_text("audit.log", text);
        assert_int_equal(check_start(config), ERR_OK); // lineage_open_audit says more
        assert_int_equal(run(NULL, 0), EX_CONFIG);
        assert_non_null(strstr(buf_text(&said), "hsmd found -c "));
        assert_int_equal(check_start(config), ERR_OK);
        assert_string_equal(buf_text(&seen), "");
    }
    config_free(config);
}

static unsigned count(const char *file, const char *text)
{
    struct buf read;
    unsigned times = 0;
    buf_init(&read, 1 << 16);
    assert_int_equal(file_read(in_dir(file), &read, &detail), ERR_OK);
    for (const char *at = buf_text(&read); (at = strstr(at, text)) != NULL; at++)
        times++;
    buf_clear(&read);
    return times;
}

// Nobody has voted for it: the audit log has it, and it is not done where officers vote.
static void test_told(void **state)
{
    (void)state;
    static const char mistake[] = "grant { client = gw key = old operations = { unwrap } }\n"
                                  "grant { client = gw key = old operations = { unwrap } }\n";
    char text[2000];
    snprintf(text, sizeof text, "%s%s", good, mistake);
    write_text("hsmd.conf", text);
    assert_int_equal(run(NULL, 0), EX_CONFIG);
    assert_int_not_equal(access(in_dir("state/audit.log"), F_OK), 0);
    write_text("hsmd.conf", good);
    run_well();
    assert_int_equal(count("state/audit.log", "\"event\":\"migrate\""), 7);
    assert_int_equal(
        count("state/audit.log", "\"client\":\"gw\",\"what\":\"grant of sign; by user"), 1);
    assert_int_equal(count("state/audit.log", "\"what\":\"client with public key " KEY_2), 1);
    assert_int_equal(count("state/audit.log",
                           "\"what\":\"key for smime-decrypt, retired, in token \\\"main\\\", "
                           "label \\\"old\\\"; by user"),
                     1);
    assert_int_equal(count("state/audit.log", "\"key\":\"audit\""), 1);
}

static void test_officers(void **state)
{
    (void)state;
    struct store_officer alice = {.name = "alice", .role = OFFICER_OFFICER, .curve_key = KEY_1};
    struct officer_key key = {0};
    struct store *store = open_store();
    assert_int_equal(officer_key_generate(&key, &detail), ERR_OK);
    memcpy(alice.signing_key, key.public_signing, sizeof alice.signing_key);
    officer_key_clear(&key);
    assert_int_equal(store_add_officer(store, &alice, &detail), ERR_OK);
    store_close(store);
    assert_int_equal(run(NULL, 0), EX_CONFIG);
    assert_non_null(strstr(buf_text(&said), "the registry has officers already (\"alice\")"));
    assert_unchanged(good);
    see_all();
    assert_string_equal(buf_text(&seen), "");
    // Nor where the log knows of them, and the registry was removed.
    assert_int_equal(unlink(in_dir("state/" STORE_FILE)), 0);
    write_text("state/audit.log",
               "{\"seq\":1,\"time\":\"2026-11-22T05:00:00.000Z\",\"event\":\"act\",\"act\":"
               "\"quorum\",\"prev\":\"0000000000000000000000000000000000000000000000000000000000000"
               "000\"}\n");
    assert_int_equal(run(NULL, 0), EX_CONFIG);
    assert_non_null(strstr(buf_text(&said), "there have been officers by the audit log"));
    assert_unchanged(good);
    assert_int_not_equal(access(in_dir("state/" STORE_FILE), F_OK), 0);
}

// A log that has one line, and was moved away while hsmd was down.
static void move_log(enum audit_event event)
{
    char path[128], head[128], from[PATH_MAX];
    struct audit *audit = NULL;
    snprintf(path, sizeof path, "%s", in_dir("state/audit.log"));
    snprintf(head, sizeof head, "%s", in_dir("state/" AUDIT_HEAD_FILE));
    unlink(head);
    assert_int_equal(audit_open_last(path, head, from, &audit, &detail), ERR_OK);
    assert_int_equal(audit_write(audit, &(struct audit_record){.event = event}, &detail), ERR_OK);
    audit_close(audit);
    assert_int_equal(rename(path, in_dir("state/audit.log-1")), 0);
}

static void test_moved_log(void **state)
{
    (void)state;
    store_close(open_store());
    move_log(AUDIT_ACT);
    assert_int_equal(run(NULL, 0), EX_CONFIG);
    assert_non_null(strstr(buf_text(&said), "there have been officers by the audit log"));
    assert_unchanged(good);
    move_log(AUDIT_USE);
    run_well();
    assert_int_equal(count("state/audit.log-1", "\"event\":\"migrate\""), 7);
    assert_int_not_equal(access(in_dir("state/audit.log"), F_OK), 0);
}

// What is replaced is the file, not the link to it.
static void test_link(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(rename(in_dir("hsmd.conf"), in_dir("real.conf")), 0);
    assert_int_equal(symlink("real.conf", in_dir("hsmd.conf")), 0);
    run_well();
    assert_int_equal(lstat(in_dir("hsmd.conf"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_file("real.conf", rewritten);
    assert_file("real.conf.before-migration", good);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_everything), TEST(test_json), TEST(test_mistakes), TEST(test_former),
        TEST(test_in_use),     TEST(test_full), TEST(test_link),     TEST(test_killed),
        TEST(test_lost),       TEST(test_told), TEST(test_officers), TEST(test_moved_log)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
