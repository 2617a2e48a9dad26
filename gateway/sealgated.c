// SPDX-License-Identifier: Apache-2.0
// The milter daemon: options, configuration, and milter_run in between.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <systemd/sd-daemon.h>

#include "gateway/conf.h"
#include "gateway/gateway.h"
#include "gateway/milter.h"
#include "gateway/smtp.h"
#include "hsmd/base/log.h"
#include "hsmd/base/secret.h"

#define DEFAULT_CONF "/etc/sealgate/sealgate.conf"
#define EXIT_USAGE 64  // EX_USAGE
#define EXIT_CONFIG 78 // EX_CONFIG

static const char help[] =
    "usage: sealgated [-c FILE] [-t] [--ready-fd N]\n"
    "\n"
    "  -c FILE       configuration; else $SEALGATE_CONF, else " DEFAULT_CONF "\n"
    "  -t            check the configuration and what it names, and exit\n"
    "  --ready-fd N  write a line to descriptor N once mail is taken\n"
    "  -h, --help    this text\n"
    "  -V, --version the version\n"
    "\n"
    "Keys come from the OpenSSL provider of $OPENSSL_CONF. More in "
    "sealgated(8).\n";

struct options {
    const char *conf_path;
    bool is_check;
    int ready_fd; // -1: none
};

static int usage_error(void)
{
    fputs("Try \"sealgated --help\".\n", stderr);
    return EXIT_USAGE;
}

static void notify_ready(void *ctx)
{
    const struct options *options = ctx;
    log_notice("ready");
    sd_notify(0, "READY=1");
    if (options->ready_fd < 0)
        return;
    if (write(options->ready_fd, "ready\n", 6) != 6)
        log_warning("ready", "err", "nobody reads the descriptor of --ready-fd");
    close(options->ready_fd);
}

static void print_finding(void *ctx, bool is_error, const char *line)
{
    fprintf(stderr, "sealgated: %s: %s: %s\n", (const char *)ctx, is_error ? "error" : "warning",
            line);
}

static void log_finding(void *ctx, bool is_error, const char *line)
{
    (void)ctx;
    log_event(is_error ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "check", "why", line, NULL);
}

static int check(const struct gateway *gateway, char *path)
{
    if (gateway_check(gateway, true, print_finding, path) > 0)
        return EXIT_CONFIG;
    printf("%s: ok\n", path);
    return 0;
}

static int serve(struct gateway *gateway, struct options *options)
{
    struct detail detail = {0};
    if (gateway_check(gateway, false, log_finding, NULL) > 0) {
        log_error("start", "err", "the configuration has errors");
        return EXIT_CONFIG;
    }
    enum err err = gateway->conf->reinject ? smtp_start(&detail) : ERR_OK;
    if (err) {
        log_error("start", "err", detail.text);
        return EXIT_CONFIG;
    }
    err = milter_run(gateway, notify_ready, options, &detail);
    if (err == ERR_TEMP) {
        log_warning("end", "err", detail.text);
        _exit(0); // a thread still works on what would be freed; the MTA has the message
    }
    smtp_stop();
    if (err) {
        log_error("end", "err", detail.text);
        return EXIT_CONFIG;
    }
    log_notice("end");
    return 0;
}

static int run(struct options *options)
{
    struct conf *conf = NULL;
    struct gateway *gateway = NULL;
    struct detail detail = {0};
    enum err err = conf_read(options->conf_path, &conf, &detail);
    if (!err && !options->is_check)
        log_open("sealgated", conf->log_sink, conf->log_level);
    if (!err)
        err = gateway_open(conf, &gateway, &detail);
    int status = EXIT_CONFIG;
    if (err && options->is_check)
        fprintf(stderr, "sealgated: %s\n", detail.text);
    else if (err)
        log_error("start", "err", detail.text);
    else if (options->is_check)
        status = check(gateway, (char *)options->conf_path);
    else
        status = serve(gateway, options);
    gateway_close(gateway);
    conf_free(conf);
    return status;
}

// An openssl.cnf that cannot be read would otherwise pass in silence, and no key could be found.
static void load_openssl_conf(void)
{
    if (OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) != 1)
        fprintf(stderr, "sealgated: the OpenSSL configuration cannot be loaded: %s\n",
                ERR_reason_error_string(ERR_peek_last_error()));
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {{"ready-fd", required_argument, NULL, 'r'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {"version", no_argument, NULL, 'V'},
                                                 {NULL, 0, NULL, 0}};
    struct options options = {.conf_path = getenv("SEALGATE_CONF"), .ready_fd = -1};
    struct detail detail = {0};
    char *end;
    if (!options.conf_path || !*options.conf_path)
        options.conf_path = DEFAULT_CONF;
    for (int c; (c = getopt_long(argc, argv, "c:thV", long_options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            options.conf_path = optarg;
            break;
        case 't':
            options.is_check = true;
            break;
        case 'r':
            options.ready_fd = (int)strtol(optarg, &end, 10);
            if (*end || options.ready_fd < 0)
                return usage_error();
            break;
        case 'h':
            return fputs(help, stdout) < 0;
        case 'V':
            return puts("sealgated " SEALGATE_VERSION) < 0;
        default:
            return usage_error();
        }
    }
    if (optind < argc)
        return usage_error();
    if (secret_harden_process(&detail))
        log_warning("start", "err", detail.text);
    load_openssl_conf();
    return run(&options);
}
