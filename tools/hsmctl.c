// SPDX-License-Identifier: Apache-2.0
#include "tools/hsmctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hsmd/base/log.h"

static const char help[] =
    "usage: hsmctl COMMAND ...\n"
    "\n"
    "  audit verify --key FILE|--no-key [--expect-seq N] [--expect-hash HEX] [--closed]\n"
    "               [--json] FILE...\n"
    "                        check an audit log; FILEs in the order they were written\n"
    "  audit show [--key-name NAME] [--client NAME] [--event EVENT] [--since TIME]\n"
    "             [--json] FILE...\n"
    "                        print an audit log as a table\n"
    "  audit export [--format csv|json] FILE...\n"
    "                        for other programs\n"
    "  bench --module FILE --token LABEL --pin-fd N [--conf FILE] KEY:OPERATION[:CALLERS]...\n"
    "                        what hsmd costs: the token directly, and through hsmd\n"
    "\n"
    "  -h, --help            this text\n"
    "  -V, --version         the version\n"
    "\n"
    "More in hsmctl(1).\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"audit", hsmctl_audit},
    {"bench", hsmctl_bench},
};

int hsmctl_usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("hsmctl: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("\nTry \"hsmctl --help\".\n", stderr);
    va_end(ap);
    return HSMCTL_EXIT_TROUBLE;
}

int hsmctl_trouble(const struct detail *detail)
{
    fprintf(stderr, "hsmctl: %s\n", detail->text);
    return HSMCTL_EXIT_TROUBLE;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return hsmctl_usage_error("no command given");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return fputs(help, stdout) < 0 ? HSMCTL_EXIT_TROUBLE : HSMCTL_EXIT_GOOD;
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return puts("hsmctl " SEALGATE_VERSION) < 0 ? HSMCTL_EXIT_TROUBLE : HSMCTL_EXIT_GOOD;
    log_open("hsmctl", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, argv[1]) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    return hsmctl_usage_error("there is no command \"%s\"", argv[1]);
}
