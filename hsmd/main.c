// SPDX-License-Identifier: Apache-2.0
// hsmd(8).
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/crypto.h>
#include <systemd/sd-daemon.h>

#include "hsmd/base/log.h"
#include "hsmd/base/secret.h"
#include "hsmd/daemon.h"
#include "hsmd/lineage.h"
#include "hsmd/migrate.h"
#include "hsmd/server/server_key.h"

#define DEFAULT_CONFIG "/etc/hsmd/hsmd.conf"
#define LOOK_S 2 // how often refusals are told and memory is given back

// Open files that are asked for. Each connection is one and may keep 128 KiB (hsmd-protocol(7)), so
// that with so many all of them stay within hsmd.service's MemoryMax.
#define FILES 4096

static const char usage[] = "usage: hsmd [-t] [-c FILE] [--ready-fd N]\n"
                            "       hsmd keygen PREFIX\n"
                            "       hsmd migrate [-c FILE] [--json]\n"
                            "       hsmd found [-c FILE]\n"
                            "       hsmd --help | --version\n";

struct options {
    const char *config;
    bool only_check;
    bool is_json;
    int ready_fd; // -1: none
};

static int exit_status(enum err err)
{
    switch (err) {
    case ERR_OK:
        return EXIT_SUCCESS;
    case ERR_TEMP:
        return EX_TEMPFAIL;
    case ERR_PERM:
        return EX_CONFIG;
    case ERR_DENIED: // nobody is let in or not at this point, and a wrong PIN ends nothing
    case ERR_BUG:
        break;
    }
    return EX_SOFTWARE;
}

// To the terminal whole, and to the log if that is somewhere else.
static int complain(enum err err, const char *what, const struct detail *detail,
                    const struct config *config)
{
    fprintf(stderr, "hsmd: %s: %s\n", what, detail->text);
    if (config && config->log_sink == LOG_SINK_SYSLOG)
        log_error("start", "err", detail->text);
    return exit_status(err);
}

static void tell_ready(const struct options *options)
{
    if (options->ready_fd >= 0) {
        if (write(options->ready_fd, "ready\n", 6) != 6)
            log_warning("start", "err", "nobody reads the ready descriptor");
        close(options->ready_fd);
    }
    sd_notify(0, "READY=1");
    log_notice("start", "state", "serving");
}

// The usual soft limit, 1024, is less than a thousand clients need. All of the hard one may be a
// billion, which is for nobody: a program that a module starts may close each number below it.
static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= FILES)
        return;
    files.rlim_cur = files.rlim_max < FILES ? files.rlim_max : FILES;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        log_warning("start", "err", "the limit of open files cannot be raised");
}

// -1: none for some time.
static int wait_signal(const sigset_t *signals)
{
    const struct timespec some = {.tv_sec = LOOK_S};
    return sigtimedwait(signals, NULL, &some);
}

// glibc keeps what connections leave behind, in the middle of its heaps: a thousand clients that
// come and go some times, 90 MiB. To ask whether there is something to give back (mallinfo2) takes
// as long as not to find anything: 0.2 ms; to give back 40 MiB takes some 5 ms, in which others who
// need the same heap wait. So it is done here, not on a request's way.
static void give_memory_back(void)
{
    (void)malloc_trim(0);
}

// Serves until a signal says stop. The signals are blocked in every thread and taken here.
static enum err serve(const struct config *config, const struct options *options,
                      struct detail *detail)
{
    struct daemon *daemon = NULL;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a limit of file size is a full disk: an error, not our end
    raise_file_limit();
    enum err err = daemon_start(config, &daemon, detail);
    if (err != ERR_OK && daemon)
        _exit(complain(err, "cannot start", detail, config)); // as below
    if (err != ERR_OK)
        return err;
    tell_ready(options);
    int number = 0;
    while ((number = wait_signal(&signals)) <= 0 || number == SIGHUP) {
        if (number == SIGHUP)
            daemon_reopen_logs(daemon);
        daemon_tell_refusals(daemon);
        give_memory_back();
    }
    sd_notify(0, "STOPPING=1");
    log_notice("stop", "state", "stopping", "signal", strsignal(number));
    err = daemon_stop(daemon, detail);
    if (err != ERR_OK) {
        log_warning("stop", "err", detail->text);
        _exit(EXIT_SUCCESS); // a module that hangs must not be asked to clean up
    }
    return ERR_OK;
}

static int run(const struct options *options)
{
    struct detail detail = {0};
    struct config *config = NULL;
    enum err err = config_load(options->config, &config, &detail);
    if (err != ERR_OK)
        return complain(err, "configuration", &detail, NULL);
    log_open("hsmd", config->log_sink, config->log_level);
    if (options->only_check) {
        err = daemon_check(config, &detail);
        if (err == ERR_OK)
            printf("%s: good\n", options->config);
    } else {
        err = serve(config, options, &detail);
    }
    int status = err == ERR_OK
                     ? EXIT_SUCCESS
                     : complain(err, options->only_check ? options->config : "cannot start",
                                &detail, config);
    config_free(config);
    return status;
}

static int generate(const char *prefix)
{
    struct detail detail = {0};
    enum err err = server_key_generate(prefix, &detail);
    return err == ERR_OK ? EXIT_SUCCESS : complain(err, "keygen", &detail, NULL);
}

static int print_migration(const struct migration *done, bool is_json)
{
    if (!is_json) {
        printf("%u keys, %u clients and %u grants are now in %s\n", done->keys, done->clients,
               done->grants, done->registry);
        if (done->audit_key[0])
            printf("the key that signs the audit log is called \"%s\"\n", done->audit_key);
        printf("%s has them in comments; the former file is %s\n", done->file, done->former);
        return EXIT_SUCCESS;
    }
    json_t *object =
        json_pack("{sisisissss?ssss}", "keys", (int)done->keys, "clients", (int)done->clients,
                  "grants", (int)done->grants, "registry", done->registry, "audit_key",
                  done->audit_key[0] ? done->audit_key : NULL, "file", done->file, "former_file",
                  done->former);
    bool is_printed = object && json_dumpf(object, stdout, JSON_INDENT(2)) == 0;
    json_decref(object);
    puts("");
    return is_printed ? EXIT_SUCCESS : EX_SOFTWARE;
}

static int migrate_file(const struct options *options)
{
    struct detail detail = {0};
    struct migration done;
    log_open("hsmd", LOG_SINK_STDERR, LOG_LEVEL_WARNING);
    signal(SIGXFSZ, SIG_IGN); // a full disk, as above
    enum err err = migrate(options->config, &done, &detail);
    return err == ERR_OK ? print_migration(&done, options->is_json)
                         : complain(err, "nothing is changed", &detail, NULL);
}

static int found(const struct options *options)
{
    struct detail detail = {0};
    unsigned officers = 0;
    log_open("hsmd", LOG_SINK_STDERR, LOG_LEVEL_WARNING);
    signal(SIGXFSZ, SIG_IGN); // a full disk, as above
    enum err err = lineage_found(options->config, &officers, &detail);
    if (err != ERR_OK)
        return complain(err, "found", &detail, NULL);
    printf("%u officers of %s are now in the registry; the audit log says so\n", officers,
           options->config);
    return EXIT_SUCCESS;
}

static bool parse_descriptor(const char *text, int *out)
{
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < 0 || value > 1 << 20)
        return false;
    *out = (int)value;
    return true;
}

int main(int argc, char **argv)
{
    enum { OPTION_JSON = 256, OPTION_READY_FD, OPTION_VERSION };
    static const struct option long_options[] = {
        {"check", no_argument, NULL, 't'},
        {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"json", no_argument, NULL, OPTION_JSON},
        {"ready-fd", required_argument, NULL, OPTION_READY_FD},
        {"version", no_argument, NULL, OPTION_VERSION},
        {0},
    };
    struct options options = {.config = DEFAULT_CONFIG, .ready_fd = -1};
    struct detail detail = {0};
    enum err err = secret_harden_process(&detail);
    if (err != ERR_OK)
        return complain(err, "cannot start", &detail, NULL);
    // Nobody's openssl.cnf may load a provider here, hsmd.so least of all: it would ask ourselves.
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    for (int option; (option = getopt_long(argc, argv, "c:ht", long_options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            options.config = optarg;
            break;
        case 't':
            options.only_check = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return EXIT_SUCCESS;
        case OPTION_JSON:
            options.is_json = true;
            break;
        case OPTION_VERSION:
            puts("hsmd " SEALGATE_VERSION);
            return EXIT_SUCCESS;
        case OPTION_READY_FD:
            if (parse_descriptor(optarg, &options.ready_fd))
                break;
            fprintf(stderr, "hsmd: --ready-fd: \"%s\" is no descriptor\n", optarg);
            return EX_USAGE;
        default:
            fputs(usage, stderr);
            return EX_USAGE;
        }
    }
    if (argc - optind == 2 && strcmp(argv[optind], "keygen") == 0)
        return generate(argv[optind + 1]);
    if (argc - optind == 1 && strcmp(argv[optind], "migrate") == 0 && !options.only_check)
        return migrate_file(&options);
    if (argc - optind == 1 && strcmp(argv[optind], "found") == 0 && !options.only_check &&
        !options.is_json)
        return found(&options);
    if (argc != optind || options.is_json) {
        fputs(usage, stderr);
        return EX_USAGE;
    }
    return run(&options);
}
