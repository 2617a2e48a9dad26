// SPDX-License-Identifier: Apache-2.0
// What a terminal gets to see of foreign text; tables; configuration.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hsmd/base/file.h"
#include "tools/hsmctl_conf.h"
#include "tools/hsmctl_print.h"

#define CURVE "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

static void test_clean(void **state)
{
    (void)state;
    static const struct {
        const char *text, *clean;
    } rows[] = {
        {"plain \"text\"", "plain \"text\""},
        {"M\xc3\xbcnchen \xf0\x9f\x94\x91", "M\xc3\xbcnchen \xf0\x9f\x94\x91"},
        {"\033[2Jx", "\\x1b[2Jx"},
        {"a\rb\x7f", "a\\x0db\\x7f"},
        {"\xc2\x9b", "\\xc2\\x9b"}, // CSI of C1
        {"a\xe2\x80\xae"
         "b",
         "a\\xe2\\x80\\xae"
         "b"}, // right-to-left override
        {"\xff\xc3", "\\xff\\xc3"},
        {"\xc0\xaf", "\\xc0\\xaf"},          // too long a form
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"}, // surrogate
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
        {"two\nlines", "two\\x0alines"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out;
        buf_init(&out, 200);
        assert_int_equal(print_clean(&out, bytes_of_text(rows[i].text), false), ERR_OK);
        assert_string_equal(buf_text(&out), rows[i].clean);
        buf_clear(&out);
    }
    struct buf out;
    buf_init(&out, 200);
    assert_int_equal(print_clean(&out, BYTES_LITERAL("a\nb\033"), true), ERR_OK);
    assert_string_equal(buf_text(&out), "a\nb\\x1b");
    buf_clear(&out);
}

static void test_table(void **state)
{
    (void)state;
    static const struct column columns[] = {
        {"NAME", "name"}, {"LEFT", "left.per_hour"}, {"IN", "places.token"}, {"ON", "on"}};
    char *text = NULL;
    size_t size = 0;
    json_t *json = json_loads("[{\"name\":\"M\xc3\xbcller\",\"left\":{\"per_hour\":5},"
                              "\"places\":[{\"token\":\"a\"},{\"token\":\"b\"}],\"on\":true},"
                              "{\"name\":\"\\u001bx\",\"left\":null,\"places\":[],\"on\":false}]",
                              0, NULL);
    assert_non_null(json);
    FILE *out = open_memstream(&text, &size);
    assert_int_equal(print_table(out, json, columns, 4, "none"), ERR_OK);
    fclose(out);
    assert_string_equal(text, "NAME    LEFT  IN   ON\n"
                              "M\xc3\xbcller  5     a,b  yes\n"
                              "\\x1bx   -     -    no\n");
    free(text);
    out = open_memstream(&text, &size);
    assert_int_equal(print_fields(out, json_array_get(json, 1), columns, 4), ERR_OK);
    fclose(out);
    assert_string_equal(text, "NAME: \\x1bx\nON:   no\n");
    free(text);
    json_decref(json);
    json = json_array();
    out = open_memstream(&text, &size);
    assert_int_equal(print_table(out, json, columns, 4, "none"), ERR_OK);
    fclose(out);
    assert_string_equal(text, "none\n");
    free(text);
    json_decref(json);
}

// A label from a token, or a reason, does nothing to a terminal in JSON either.
static void test_json(void **state)
{
    (void)state;
    char text[200] = "";
    FILE *file = tmpfile();
    json_t *json = json_pack("{s:s}", "label", "\xc2\x9b\xe2\x80\xaeM\xc3\xbc\033");
    assert_non_null(file);
    assert_non_null(json);
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    assert_true(kept >= 0 && dup2(fileno(file), STDOUT_FILENO) >= 0);
    enum err err = print_json(json, NULL);
    fflush(stdout);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    close(kept);
    rewind(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    assert_int_equal(err, ERR_OK);
    assert_string_equal(text, "{\n  \"label\": \"\\u009B\\u202EM\\u00FC\\u001B\"\n}\n");
    fclose(file);
    json_decref(json);
}

static void test_conf(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error; // NULL: good
    } rows[] = {
        {"server-key-file = s.pub\nkey-file = a.key\n", NULL},
        {"endpoint = \"tcp://h:1\"\nserver-key-file = s.pub\nkey-file = /k\ntimeout = 5\n", NULL},
        {"server-key-file = s.pub\n", "key-file is missing"},
        {"key-file = s.pub\n", "server-key-file is missing"},
        {"server-key-file = absent.pub\nkey-file = a.key\n", "absent.pub"},
        {"server-key-file = s.pub\nkey-file = a.key\ntimeout = 0\n", "timeout"},
        {"server-key-file = s.pub\nkey-file = a.key\npassphrase = x\n", "passphrase"},
    };
    char directory[] = "/tmp/sealgate-conf-XXXXXX", path[60], other[60], want[60];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/conf", directory);
    snprintf(other, sizeof other, "%s/s.pub", directory);
    snprintf(want, sizeof want, "%s/a.key", directory);
    assert_int_equal(file_write(other, BYTES_LITERAL(CURVE "\n"), 0600, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hsmctl_conf conf = {0};
        struct detail detail = {0};
        assert_int_equal(file_write(path, bytes_of_text(rows[i].text), 0600, NULL), ERR_OK);
        // By name, and by the environment.
        assert_int_equal(setenv("HSMCTL_CONF", i % 2 ? path : "/nowhere/else", 1), 0);
        enum err err = hsmctl_conf_load(i % 2 ? NULL : path, &conf, &detail);
        if (rows[i].error ? err != ERR_PERM || !strstr(detail.text, rows[i].error) : err != ERR_OK)
            fail_msg("%zu: %s", i, detail.text);
        if (i == 0) {
            assert_string_equal(conf.endpoint, "ipc:///run/hsmd/officers.sock");
            assert_string_equal(conf.key_file, want);
            assert_string_equal(conf.server_key, CURVE);
            assert_int_equal(conf.timeout_ms, 120000);
        } else if (i == 1) {
            assert_string_equal(conf.endpoint, "tcp://h:1");
            assert_string_equal(conf.key_file, "/k");
            assert_int_equal(conf.timeout_ms, 5);
        }
        hsmctl_conf_clear(&conf);
    }
    unlink(path);
    unlink(other);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_conf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
