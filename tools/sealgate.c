// SPDX-License-Identifier: Apache-2.0
#include "tools/sealgate.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hsmd/base/log.h"

#define DEFAULT_CONF "/etc/sealgate/sealgate.conf"

static const char help[] =
    "usage: sealgate [-c FILE] [-v] COMMAND ...\n"
    "\n"
    "  process --outbound|--inbound --from ADDRESS --rcpt ADDRESS [--rcpt ...]\n"
    "          [--profile NAME] [--out DIR]\n"
    "                        take a message from standard input the way sealgated does\n"
    "  certificate add NAME FILE [--json]\n"
    "  certificate list [--json]\n"
    "  certificate show NAME [--json]\n"
    "  certificate remove NAME\n"
    "                        the certificates of others, to encrypt to\n"
    "\n"
    "  -c FILE               configuration; else $SEALGATE_CONF, else " DEFAULT_CONF "\n"
    "  -v                    log to standard error\n"
    "  -h, --help            this text\n"
    "  -V, --version         the version\n"
    "\n"
    "More in sealgate(1).\n";

static const struct {
    const char *name;
    int (*run)(const struct conf *conf, int argc, char **argv);
} commands[] = {
    {"process", sealgate_process},
    {"certificate", sealgate_certificate},
};

int sealgate_usage_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("sealgate: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("\nTry \"sealgate --help\".\n", stderr);
    va_end(ap);
    return SEALGATE_EXIT_USAGE;
}

int sealgate_failure(enum err class, const struct detail *detail, int status_of_perm)
{
    fprintf(stderr, "sealgate: %s\n", detail->text);
    return class == ERR_PERM ? status_of_perm : SEALGATE_EXIT_TEMPORARY;
}

static int run_command(const char *conf_path, bool is_verbose, int argc, char **argv)
{
    struct conf *conf = NULL;
    struct detail detail = {0};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, argv[0]) != 0)
            continue;
        enum err err = conf_read(conf_path, &conf, &detail);
        if (err)
            return sealgate_failure(err, &detail, SEALGATE_EXIT_CONFIG);
        log_open("sealgate", LOG_SINK_STDERR, is_verbose ? conf->log_level : LOG_LEVEL_ERROR);
        int status = commands[i].run(conf, argc, argv);
        conf_free(conf);
        return status;
    }
    return sealgate_usage_error("there is no command \"%s\"", argv[0]);
}

int main(int argc, char **argv)
{
    const char *conf_path = getenv("SEALGATE_CONF");
    bool is_verbose = false;
    if (!conf_path || !*conf_path)
        conf_path = DEFAULT_CONF;
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return fputs(help, stdout) < 0;
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return puts("sealgate " SEALGATE_VERSION) < 0;
    for (int c; (c = getopt(argc, argv, "+c:hvV")) != -1;) {
        switch (c) {
        case 'c':
            conf_path = optarg;
            break;
        case 'v':
            is_verbose = true;
            break;
        case 'h':
            return fputs(help, stdout) < 0;
        case 'V':
            return puts("sealgate " SEALGATE_VERSION) < 0;
        default:
            return sealgate_usage_error("wrong option");
        }
    }
    if (optind == argc)
        return sealgate_usage_error("no command given");
    return run_command(conf_path, is_verbose, argc - optind, argv + optind);
}
