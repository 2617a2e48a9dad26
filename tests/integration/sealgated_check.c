// SPDX-License-Identifier: Apache-2.0
// What sealgated -t finds in a configuration.
#include "tests/integration/sealgated_process.h"
#include "tests/support/organisation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsmd/base/file.h"

static struct organisation organisation;

// In what is added to the configuration, ~ is the folder.
static void test_check(void **state)
{
    (void)state;
    static const struct {
        const char *name, *more;
        int status;
        const char *said;
    } cases[] = {
        {"fine", "", 0, "identity expired: the certificate has expired"},
        {"unknown option", "colour = red\n", 78, "colour"},
        {"decryption certificate for signing",
         "identity x { key = \"hsmd:x\" certificate-file = \"decryption.pem\" use = sign }\n", 78,
         "identity x: "},
        {"signing certificate for decryption",
         "identity x { key = \"hsmd:x\" certificate-file = \"signing.pem\" use = decrypt }\n", 78,
         "identity x: "},
        {"no such certificate",
         "identity x { key = \"hsmd:x\" certificate-file = \"nothing.pem\" use = sign }\n", 78,
         "nothing.pem"},
        {"no trust anchors", "trust-anchors = \"nothing.pem\"\n", 78, "nothing.pem"},
        {"no spool", "spool-directory = \"nowhere\"\n", 78, "spool directory"},
        {"no store", "store = \"nowhere/store.db\"\n", 78, "store.db"},
        {"no provider",
         "identity x { key = \"hsmd:x\" certificate-file = \"signing.pem\" use = sign }\n", 78,
         "identity x: the provider hsmd is not loaded"},
        {"no such key",
         "identity x { key = \"file:~/nothing.key\" certificate-file = \"signing.pem\" use = sign "
         "}\n",
         78, "identity x: "},
        {"key of another certificate",
         "identity x { key = \"file:~/personal.key\" certificate-file = \"signing.pem\" use = sign "
         "}\n",
         78, "do not match"},
        {"no such port", "listen = \"inet:99999999@foo\"\n", 78, "listen: "},
        {"no port", "listen = \"inet:@127.0.0.1\"\n", 78, "listen: "},
        {"other socket", "listen = \"tcp:7301\"\n", 78, "listen: "},
        {"socket in a folder", "listen = \"unix:/run/x\"\n", 0, ""},
        {"socket of IPv6", "listen = \"inet6:7301@::1\"\n", 0, ""},
        {"reinject by HTTP", "reinject = \"http://foo\"\n", 78, "reinject: "},
        {"reinject to no port", "reinject = \"smtp://foo:0\"\n", 78, "reinject: "},
        {"reinject to nobody", "reinject = \"smtp://:25\"\n", 78, "reinject: "},
        {"reinject to IPv6", "reinject = \"smtp://[::1]:25\"\n", 0, ""},
        {"forging authserv-id", "authserv-id = \"mx a;\\n x\"\n", 78, "authserv-id: "},
        {"bad network", "internal-networks = { \"10.1.0.0/8\" }\n", 78, "10.1.0.0/8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf said;
        const char *path = organisation_path(&organisation, "check.conf");
        const char *log = organisation_path(&organisation, "check.log");
        FILE *from = fopen(organisation_path(&organisation, "sealgate.conf"), "r");
        FILE *to = fopen(path, "w");
        char line[400];
        assert_true(from && to);
        while (fgets(line, sizeof line, from)) {
            char *absent = strstr(line, "hsmd:absent");
            if (absent) // without a provider that is an error; all of them have one RSA key
                sprintf(absent, "file:%s\" }\n", organisation_path(&organisation, "signing.key"));
            fputs(line, to);
        }
        for (const char *c = cases[i].more; *c; c++) {
            if (*c == '~')
                fputs(organisation.directory, to);
            else
                fputc(*c, to);
        }
        fclose(from);
        fclose(to);
        buf_init(&said, 1 << 16);
        int status = sealgated_check(path, log);
        assert_int_equal(file_read(log, &said, NULL), ERR_OK);
        if (status != cases[i].status || !strstr(buf_text(&said), cases[i].said))
            fail_msg("%s: %d %s", cases[i].name, status, buf_text(&said));
        buf_clear(&said);
    }
}

static int setup(void **state)
{
    (void)state;
    organisation_open(&organisation, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    organisation_close(&organisation);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_check)};
    return cmocka_run_group_tests_name("sealgated_check", tests, setup, teardown);
}
