// SPDX-License-Identifier: Apache-2.0
// Command lines and the acts they mean, or what is said of them.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pkcs12.h>

#include "hsmd/base/file.h"
#include "hsmd/custody/issue.h"
#include "tests/support/act_json.h"
#include "tests/support/pki.h"
#include "tools/hsmctl.h"

#define WORDS 24
#define CURVE "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define PASSPHRASE "open sesame"

static char directory[] = "/tmp/sealgate-parse-XXXXXX";

// Words with ' around them may have spaces; @ before / stands for the directory.
static int split(const char *line, char **argv, char *room, size_t size)
{
    int argc = 1;
    char *at = room;
    argv[0] = (char *)"hsmctl";
    while (*line) {
        char end = *line == '\'' ? '\'' : ' ';
        line += end == '\'';
        argv[argc++] = at;
        for (; *line && *line != end; line++) {
            if (line[0] == '@' && line[1] == '/')
                at += sprintf(at, "%s", directory);
            else
                *at++ = *line;
        }
        *at++ = 0;
        assert_true((size_t)(at - room) < size && argc < WORDS);
        line += *line == '\'';
        line += *line == ' ';
    }
    return argc;
}

static enum err build(const char *line, json_t **json, struct detail *detail)
{
    char *argv[WORDS];
    char room[2048];
    struct call call = {0};
    struct act act;
    struct buf encoding;
    buf_init(&encoding, ACT_SIZE_MAX);
    int argc = split(line, argv, room, sizeof room);
    enum err err = call_parse(&call, argc, argv, detail);
    if (err == ERR_OK && !call.command->kind)
        err = err_set(detail, ERR_BUG, "no act");
    if (err == ERR_OK)
        err = call_build(&call, &act, detail);
    if (err == ERR_OK)
        err = act_encode(&act, &encoding, detail);
    if (err == ERR_OK && act.kind == ACT_KEY_REQUEST)
        err = issue_check(&act, detail);
    if (err == ERR_OK)
        *json = act_json(&act);
    buf_clear(&encoding);
    call_clear(&call);
    return err;
}

struct row {
    const char *line;
    const char *want; // members of the act as JSON, or what the error says
};

static const struct row acts[] = {
    {"key generate edwards --type ed25519 --purpose general --token main --algorithms ed25519",
     "{'kind':'key-generate','name':'edwards','tokens':['main'],'type':'ed25519',"
     "'purpose':'general','algorithms':['ed25519']}"},
    {"key generate signing --type rsa:3072 --purpose smime-sign --token main",
     "{'kind':'key-generate','name':'signing','tokens':['main'],'type':'rsa:3072',"
     "'purpose':'smime-sign','algorithms':null}"},
    {"--type=ec:p384 key generate --purpose=general d --token main --algorithms ecdsa",
     "{'kind':'key-generate','name':'d','type':'ec:p384','purpose':'general',"
     "'algorithms':['ecdsa']}"},
    {"key adopt old --token main --label 'Old Key' --id 0aFF --purpose smime-decrypt",
     "{'kind':'key-adopt','tokens':['main'],'label':'Old Key','id':'0aff',"
     "'purpose':'smime-decrypt'}"},
    {"key place old --token second --label x", "{'kind':'key-place','name':'old','label':'x'}"},
    {"key csr signing --common-name mail.a.example --organization 'A & B' --country DE "
     "--domains a.example,b.example --emails x@a.example --hash sha384 --pss",
     "{'kind':'key-csr','common_name':'mail.a.example','organization':'A & B','country':'DE',"
     "'domains':['a.example','b.example'],'emails':['x@a.example'],'hash':'sha384','pss':true,"
     "'any_name':false}"},
    {"key self-sign signing --common-name a.example --days 30",
     "{'kind':'key-self-sign','days':30,'hash':'sha256','pss':false}"},
    {"key enable signing", "{'kind':'key-enable','name':'signing'}"},
    {"key disable signing", "{'kind':'key-disable','name':'signing'}"},
    {"key retire signing", "{'kind':'key-retire','name':'signing'}"},
    {"key destroy signing --name-again signing",
     "{'kind':'key-destroy','name':'signing','tokens':[]}"},
    {"key limit signing --per-hour 10 --total 0",
     "{'kind':'key-limit','per_hour':10,'total':null,'per_minute':null}"},
    {"client add gw1 --public-key " CURVE,
     "{'kind':'client-add','name':'gw1','public_key':'" CURVE "'}"},
    {"client add gw1 --public-key-file @/gw1.pub",
     "{'kind':'client-add','public_key':'" CURVE "'}"},
    {"client revoke gw1", "{'kind':'client-revoke','name':'gw1'}"},
    {"grant gw1 signing sign", "{'kind':'grant','name':'gw1','key':'signing','operations':['sign'],"
                               "'algorithms':null,'per_minute':null}"},
    {"grant gw1 k unwrap,agree --algorithms rsaes-oaep,ecdh-x963 --failures-per-hour 5",
     "{'operations':['unwrap','agree'],'algorithms':['rsaes-oaep','ecdh-x963'],"
     "'failures_per_hour':5}"},
    {"ungrant gw1 signing", "{'kind':'ungrant','name':'gw1','key':'signing'}"},
    {"officer add bob --file @/bob.pub", "{'kind':'officer-add','name':'bob','role':'officer'}"},
    {"officer add bob --file @/bob.pub --role auditor", "{'kind':'officer-add','role':'auditor'}"},
    {"officer remove bob", "{'kind':'officer-remove','name':'bob'}"},
    {"quorum 2", "{'kind':'quorum','number':2}"},
    {"lock main", "{'kind':'lock','name':'main'}"},
    {"unlock main --pin-fd 100", "{'kind':'unlock','name':'main'}"},
    {"-- lock main", "{'kind':'lock','name':'main'}"},
};

static const struct row mistakes[] = {
    {"", "no command given"},
    {"keys", "there is no command \"keys\""},
    {"key", "key ...?"},
    {"key frob", "key: there is no \"frob\""},
    {"key generate", "key generate needs --type"},
    {"key generate a --type rsa:3072", "key generate needs --purpose"},
    {"key generate a --type ed448 --purpose general --token t",
     "--type: not rsa:2048 to rsa:8192, ec:p256, ec:p384, ec:p521 or ed25519"},
    {"key generate a --type ed25519 --purpose audit --token t", "not for the purpose audit"},
    {"key generate --type rsa:3072 --purpose general", "key generate needs NAME"},
    {"key generate a --type rsa:1024 --purpose general --token t", "--type: not rsa:2048"},
    {"key generate a --type rsa:3072 --purpose smime --token t", "--purpose: not one of"},
    {"key generate a --type rsa:3072 --purpose general --token t --algorithms rot13",
     "no such algorithm: rot13"},
    {"key generate a b --type rsa:3072 --purpose general", "\"b\" is too much"},
    {"key generate .. --type rsa:3072 --purpose general --token t", "name"},
    {"key enable a --pss", "key enable takes no --pss"},
    {"key enable a --pas", "there is no option --pas"},
    {"key enable a --json=1", "--json takes no value"},
    {"key enable a --json --json", "--json is there twice"},
    {"key enable a --lapse", "--lapse needs its DURATION"},
    {"key enable 'a\033[2J'", "\\x1b[2J"},
    {"key destroy a --name-again b", "not the name of the key"},
    {"key limit a", "key limit needs a limit"},
    {"key limit a --total -1", "--total: \"-1\" is no number"},
    {"key limit a --total 1x", "--total: \"1x\" is no number"},
    {"key csr a --common-name a.example --hash sha1", "--hash: not one of"},
    {"key csr a --common-name localhost", "localhost"},
    {"key csr a --common-name a.example --country de", "country"},
    {"key certificate a @/gw1.pub", "no certificate in PEM"},
    {"key certificate a @/absent", "absent"},
    {"key certificate a @/torn.pem", "cannot be read"},
    {"key import a --pkcs12 @/a.p12 --purpose general --token t --import-passphrase-fd 101",
     "wrong passphrase"},
    {"key import a --pkcs12 @/gw1.pub --purpose general --token t --import-passphrase-fd 100",
     "no PKCS#12 file"},
    {"key adopt a --token t --purpose general", "label or id"},
    {"key adopt a --token t --purpose general --id 0g", "--id: not hexadecimal"},
    {"client add a", "needs either --public-key or"},
    {"client add a --public-key b", "no CURVE key"},
    {"client add a --public-key " CURVE " --public-key-file @/gw1.pub", "needs either"},
    {"grant gw1 k decrypt", "operations are sign, unwrap, agree"},
    {"grant gw1 k list", "operations are sign, unwrap, agree"},
    {"grant gw1 k ,", "no operation given"},
    {"officer add eve --file @/bob.pub", "is the key of bob"},
    {"officer add bob --file @/gw1.pub", "gw1.pub"},
    {"officer add bob --file @/bob.pub --role king", "--role: neither"},
    {"quorum 0", "quorum: not a number"},
    {"quorum two", "quorum: not a number"},
    {"unlock main --pin-fd 102", "nothing to read"},
    {"unlock main --pin-fd x", "--pin-fd: \"x\" is no number"},
};

static json_t *json_of(const char *text)
{
    char room[1024];
    size_t n = 0;
    for (; *text; text++)
        room[n++] = *text == '\'' ? '"' : *text;
    room[n] = 0;
    json_t *json = json_loads(room, 0, NULL);
    assert_non_null(json);
    return json;
}

// Descriptors 100 to 102: a good line, a wrong one, nothing.
static void give_lines(void)
{
    static const char *const lines[] = {PASSPHRASE "\nmore\n", "wrong\n", ""};
    for (int i = 0; i < 3; i++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write(ends[1], lines[i], strlen(lines[i])), (ssize_t)strlen(lines[i]));
        close(ends[1]);
        assert_int_equal(dup2(ends[0], 100 + i), 100 + i);
        close(ends[0]);
    }
}

static void test_acts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        struct detail detail = {0};
        json_t *json = NULL;
        const char *name = NULL;
        json_t *value = NULL;
        give_lines();
        if (build(acts[i].line, &json, &detail) != ERR_OK)
            fail_msg("%s: %s", acts[i].line, detail.text);
        json_t *want = json_of(acts[i].want);
        json_object_foreach(want, name, value)
        {
            if (!json_equal(value, json_object_get(json, name)))
                fail_msg("%s: %s: %s", acts[i].line, name, json_dumps(json, 0));
        }
        json_decref(want);
        json_decref(json);
    }
}

static void test_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        struct detail detail = {0};
        json_t *json = NULL;
        give_lines();
        enum err err = build(mistakes[i].line, &json, &detail);
        if (err == ERR_OK || err == ERR_BUG || !strstr(detail.text, mistakes[i].want))
            fail_msg("%s: %s: \"%s\"", mistakes[i].line, err_name(err), detail.text);
    }
}

// The file of a private key and what comes of it: the key is the attachment, in the act are only
// public things.
static void test_import(void **state)
{
    (void)state;
    char *argv[WORDS];
    char room[2048];
    struct call call = {0};
    struct act act;
    struct detail detail = {0};
    give_lines();
    int argc = split("key import a --pkcs12 @/a.p12 --purpose smime-sign --token t,u "
                     "--import-passphrase-fd 100",
                     argv, room, sizeof room);
    assert_int_equal(call_parse(&call, argc, argv, &detail), ERR_OK);
    if (call_build(&call, &act, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
    const uint8_t *at = call.attachment.data;
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)call.attachment.len);
    assert_non_null(info);
    assert_ptr_equal(at, call.attachment.data + call.attachment.len);
    EVP_PKEY *key = EVP_PKCS82PKEY(info);
    assert_int_equal(EVP_PKEY_eq(key, pki_key(PKI_EC_P256)), 1);
    at = act.public_key.data;
    EVP_PKEY *public = d2i_PUBKEY(NULL, &at, (long)act.public_key.len);
    assert_int_equal(EVP_PKEY_eq(public, key), 1);
    // Its own certificate and the CA's.
    at = act.certificates.data;
    X509 *own = d2i_X509(NULL, &at, (long)act.certificates.len);
    X509 *ca = d2i_X509(NULL, &at, (long)(act.certificates.data + act.certificates.len - at));
    assert_non_null(ca);
    assert_ptr_equal(at, act.certificates.data + act.certificates.len);
    assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(own), key), 1);
    assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(ca), pki_key(PKI_RSA_2048)), 1);
    X509_free(own);
    X509_free(ca);
    EVP_PKEY_free(public);
    EVP_PKEY_free(key);
    PKCS8_PRIV_KEY_INFO_free(info);
    call_clear(&call);
}

static void test_lapse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t seconds; // 0: wrong
        enum act_kind kind;
    } rows[] = {
        {NULL, 3600, ACT_UNLOCK},
        {NULL, 3600, ACT_KEY_IMPORT},
        {"10m", 600, ACT_UNLOCK},
        {"1h", 3600, ACT_KEY_IMPORT},
        {"3601s", 0, ACT_KEY_IMPORT},
        {"7d", 0, ACT_UNLOCK},
        {NULL, STATEMENT_LAPSE_DEFAULT, ACT_LOCK},
        {"60", 60, ACT_LOCK},
        {"90s", 90, ACT_LOCK},
        {"30m", 1800, ACT_LOCK},
        {"2h", 7200, ACT_LOCK},
        {"7d", 7 * 86400, ACT_LOCK},
        {"59", 0, ACT_LOCK},
        {"31d", 0, ACT_LOCK},
        {"-1h", 0, ACT_LOCK},
        {"2hh", 0, ACT_LOCK},
        {"2w", 0, ACT_LOCK},
        {"", 0, ACT_LOCK},
        {"99999999999999999999d", 0, ACT_LOCK},
        {"h", 0, ACT_LOCK},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct call call = {.option[OPTION_LAPSE] = rows[i].text};
        struct detail detail = {0};
        uint64_t seconds = 0;
        enum err err = call_lapse(&call, rows[i].kind, &seconds, &detail);
        if ((err == ERR_OK) != (rows[i].seconds != 0) || (!err && seconds != rows[i].seconds))
            fail_msg("%s: %s", rows[i].text ? rows[i].text : "none", detail.text);
    }
}

static void test_number(void **state)
{
    static const struct {
        const char *text;
        uint64_t max;
        bool is_good;
        uint64_t number;
    } rows[] = {
        {"0", 0, true, 0},
        {"007", 7, true, 7},
        {"1000", 1000, true, 1000},
        {"1001", 1000, false, 0},
        {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0},
        {"", 9, false, 0},
        {"-1", UINT64_MAX, false, 0},
        {"+1", 9, false, 0},
        {" 1", 9, false, 0},
        {"1 ", 9, false, 0},
        {"0x1", 9, false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t number = 0;
        if (number_get(rows[i].text, rows[i].max, &number) != rows[i].is_good ||
            number != rows[i].number)
            fail_msg("\"%s\": %ju", rows[i].text, (uintmax_t)number);
    }
}

// What the usage line has is what the command takes.
static void test_arguments(void **state)
{
    static const struct {
        const char *words;
        unsigned min, max;
    } rows[] = {{"status", 0, 0},          {"proposals", 0, 1}, {"approve", 1, 1},
                {"key certificate", 2, 2}, {"grant", 3, 3},     {"unlock", 0, 1},
                {"audit verify", 0, 0}};
    size_t seen = 0;
    const struct command *command = NULL;
    (void)state;
    for (size_t i = 0; (command = command_at(i)); i++) {
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            unsigned min = 99;
            unsigned max = 99;
            if (strcmp(rows[r].words, command->words) != 0)
                continue;
            command_arguments(command, &min, &max);
            assert_int_equal(min, rows[r].min);
            assert_int_equal(max, rows[r].max);
            seen++;
        }
    }
    assert_int_equal(seen, sizeof rows / sizeof *rows);
}

// No command's options are given to it twice, and every option is taken by some command.
static void test_table(void **state)
{
    (void)state;
    uint64_t used = OPTION_SET(OPTION_VERSION);
    unsigned min = 0;
    unsigned max = 0;
    const struct command *command = NULL;
    assert_true(OPTION_COUNT <= 64);
    for (size_t i = 0; (command = command_at(i)); i++) {
        assert_true((command->run != NULL) + (command->kind != 0) + (command->raw != NULL) == 1);
        command_arguments(command, &min, &max);
        assert_true(max <= CALL_ARGUMENTS_MAX && min <= max);
        assert_int_equal(command->needed & command->allowed, 0);
        assert_true(!command->kind || act_kind_name(command->kind));
        used |= command_options(command);
    }
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        if (!(used & OPTION_SET(i)))
            fail_msg("no command takes --%s", option_at((enum option_index)i)->name);
    }
}

static void write_text(const char *name, const char *text)
{
    char path[300];
    struct detail detail = {0};
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (file_write(path, bytes_of_text(text), 0600, &detail) != ERR_OK)
        fail_msg("%s", detail.text);
}

static void write_pkcs12(void)
{
    char path[300];
    X509 *ca = pki_ca("CA", PKI_RSA_2048);
    X509 *own = pki_signer("a", PKI_EC_P256, "email:a@a.example", ca, pki_key(PKI_RSA_2048));
    STACK_OF(X509) *others = sk_X509_new_null();
    sk_X509_push(others, ca);
    PKCS12 *pkcs12 =
        PKCS12_create(PASSPHRASE, "a", pki_key(PKI_EC_P256), own, others, 0, 0, 0, 0, 0);
    snprintf(path, sizeof path, "%s/a.p12", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(i2d_PKCS12_fp(file, pkcs12), 1);
    fclose(file);
    PKCS12_free(pkcs12);
    sk_X509_free(others);
    X509_free(own);
    X509_free(ca);
}

static int set_up(void **state)
{
    (void)state;
    struct officer_key key = {0};
    struct officer_public public;
    struct detail detail = {0};
    char path[300];
    assert_non_null(mkdtemp(directory));
    write_text("gw1.pub", CURVE "\n");
    write_text("torn.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    write_pkcs12();
    assert_int_equal(officer_key_generate(&key, &detail), ERR_OK);
    assert_int_equal(officer_public_of(&key, "bob", &public, &detail), ERR_OK);
    snprintf(path, sizeof path, "%s/bob.pub", directory);
    assert_int_equal(officer_public_write(&public, path, &detail), ERR_OK);
    officer_key_clear(&key);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"gw1.pub", "torn.pem", "a.p12", "bob.pub"};
    char path[300];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acts),   cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_import), cmocka_unit_test(test_lapse),
        cmocka_unit_test(test_number), cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
