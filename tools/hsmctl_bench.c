// SPDX-License-Identifier: Apache-2.0
// hsmctl bench: what hsmd costs, on the operator's own HSM: the token called directly, and the same
// key through hsmd.so and hsmd.
#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "tools/bench_half.h"
#include "tools/bench_pair.h"
#include "tools/hsmctl.h"
#include "tools/hsmctl_ask.h"

#define ROWS_MAX 64
#define BANDWIDTH_CALLERS 16
#define ARGUMENTS_MAX 10

struct options {
    const char *module, *init_args, *token, *label, *conf, *through;
    int pin_fd;
    unsigned pairs, ms;
    unsigned callers; // where a row does not say
    pid_t hsmd;
    bool is_bare, is_json;
    struct bench_row rows[ROWS_MAX];
    unsigned row_count;
    char programs[BENCH_SIDES][512];
};

static const struct option long_options[] = {
    {"module", required_argument, NULL, 'm'},  {"init-args", required_argument, NULL, 'a'},
    {"token", required_argument, NULL, 't'},   {"label", required_argument, NULL, 'l'},
    {"conf", required_argument, NULL, 'f'},    {"pin-fd", required_argument, NULL, 'p'},
    {"mode", required_argument, NULL, 'o'},    {"pairs", required_argument, NULL, 'n'},
    {"seconds", required_argument, NULL, 's'}, {"pid", required_argument, NULL, 'i'},
    {"through", required_argument, NULL, 'x'}, {"bare", no_argument, NULL, 'b'},
    {"json", no_argument, NULL, 'j'},          {NULL, 0, NULL, 0}};

// The one process called hsmd, if there is one.
static pid_t find_hsmd(void)
{
    pid_t found = 0;
    unsigned count = 0;
    DIR *proc = opendir("/proc");
    for (const struct dirent *entry; proc && (entry = readdir(proc)) != NULL;) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        FILE *file = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        if (fgets(name, sizeof name, file) && strcmp(name, "hsmd\n") == 0) {
            found = (pid_t)atoi(entry->d_name);
            count++;
        }
        fclose(file);
    }
    if (proc)
        closedir(proc);
    return count == 1 ? found : 0;
}

// The halves are beside hsmctl (as built) or where they are installed.
static bool find_program(const char *name, char path[512])
{
    char self[400];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len > 0) {
        self[len] = 0;
        char *slash = strrchr(self, '/');
        if (slash)
            *slash = 0;
        snprintf(path, 512, "%s/%s", self, name);
        if (access(path, X_OK) == 0)
            return true;
    }
    snprintf(path, 512, "%s/%s", SEALGATE_LIBEXEC, name);
    return access(path, X_OK) == 0;
}

// KEY:OPERATION:CALLERS, cut into its parts in place.
static bool parse_row(char *text, struct bench_row *row)
{
    char *save = NULL;
    row->key = strtok_r(text, ":", &save);
    row->operation = strtok_r(NULL, ":", &save);
    const char *callers = strtok_r(NULL, ":", &save);
    if (!row->key || !row->operation || bench_operation_by_name(row->operation) < 0)
        return false;
    row->callers = callers ? bench_number(callers, BENCH_CALLERS_MAX) : 0;
    return !strtok_r(NULL, ":", &save);
}

static bool parse_mode(const char *text, unsigned *callers)
{
    bool is_bandwidth = strcmp(text, "bandwidth") == 0;
    *callers = is_bandwidth ? BANDWIDTH_CALLERS : 1;
    return is_bandwidth || strcmp(text, "latency") == 0;
}

// An option that is a text.
static bool take_text(struct options *options, int letter)
{
    const struct {
        int letter;
        const char **text;
    } rows[] = {{'m', &options->module}, {'a', &options->init_args}, {'t', &options->token},
                {'l', &options->label},  {'f', &options->conf},      {'x', &options->through}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].letter != letter)
            continue;
        *rows[i].text = optarg;
        return true;
    }
    return false;
}

static int check_options(const struct options *options)
{
    if (!options->module || !options->token || !options->row_count)
        return hsmctl_usage_error("bench: --module, --token and a KEY:OPERATION please");
    if (options->is_bare && options->through)
        return hsmctl_usage_error("bench: either --bare or --through");
    if (!options->conf && !options->is_bare && !options->through)
        return hsmctl_usage_error("bench: --conf FILE please, or set OPENSSL_CONF");
    if (options->ms < 10 || options->ms > 3600000)
        return hsmctl_usage_error("bench: --seconds is 0.01 to 3600");
    return HSMCTL_EXIT_GOOD;
}

static int parse_options(int argc, char **argv, struct options *options)
{
    optind = 1;
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (option) {
        case 'p':
            options->pin_fd = (int)bench_number(optarg, 1000);
            break;
        case 'o':
            if (!parse_mode(optarg, &options->callers))
                return hsmctl_usage_error("bench: --mode is latency or bandwidth");
            break;
        case 'n':
            options->pairs = bench_number(optarg, BENCH_PAIRS_MAX);
            break;
        case 's':
            options->ms = (unsigned)(atof(optarg) * 1000);
            break;
        case 'i':
            options->hsmd = (pid_t)bench_number(optarg, INT32_MAX);
            break;
        case 'b':
            options->is_bare = true;
            break;
        case 'j':
            options->is_json = true;
            break;
        default:
            if (!take_text(options, option))
                return hsmctl_usage_error("bench: unknown option");
        }
    }
    for (; optind < argc; optind++) {
        struct bench_row *row = &options->rows[options->row_count];
        char text[80]; // as it was before it is cut
        if (options->row_count++ == ROWS_MAX)
            return hsmctl_usage_error("bench: at most %d keys at a time", ROWS_MAX);
        snprintf(text, sizeof text, "%s", argv[optind]);
        if (!parse_row(argv[optind], row))
            return hsmctl_usage_error("bench: %s: not KEY:" BENCH_OPERATIONS_TEXT "[:CALLERS]",
                                      text);
    }
    for (unsigned i = 0; i < options->row_count; i++) {
        if (!options->rows[i].callers)
            options->rows[i].callers = options->callers;
    }
    return check_options(options);
}

static void print_header(void)
{
    printf("%-10s %-11s %7s %10s %10s %6s %17s %17s %17s %10s %10s\n", "key", "op", "callers",
           "direct/s", "hsmd/s", "ratio", "direct p50/p99 us", "hsmd p50/p99 us",
           "added p50/p99 us", "direct cpu", "hsmd cpu");
}

static void print_row(const struct bench_row *row, const struct bench_result *result)
{
    const struct bench_side *direct = &result->sides[BENCH_DIRECT];
    const struct bench_side *hsmd = &result->sides[BENCH_HSMD];
    printf("%-10s %-11s %7u %10.1f %10.1f %6.3f %8.0f/%8.0f %8.0f/%8.0f %8.0f/%8.0f %7.1f us ",
           row->key, row->operation, row->callers, direct->rate, hsmd->rate, result->ratio,
           direct->p50, direct->p99, hsmd->p50, hsmd->p99, result->added_p50, result->added_p99,
           direct->cpu * 1e6);
    if (result->has_hsmd_cpu)
        printf("%7.1f us\n", hsmd->cpu * 1e6);
    else
        printf("%10s\n", "unknown");
    if (result->failures > 0)
        printf("           %.0f operations failed\n", result->failures);
    fflush(stdout);
}

static json_t *row_json(const struct options *options, const struct bench_row *row,
                        const struct bench_result *result)
{
    const struct bench_side *direct = &result->sides[BENCH_DIRECT];
    const struct bench_side *hsmd = &result->sides[BENCH_HSMD];
    json_t *json =
        json_pack("{s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "key", row->key, "op",
                  row->operation, "callers", (int)row->callers, "pairs", (int)options->pairs,
                  "seconds", options->ms / 1e3, "direct", direct->rate, "hsmd", hsmd->rate, "ratio",
                  result->ratio, "ratio_min", result->ratio_min, "ratio_max", result->ratio_max);
    json_t *more =
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "direct_p50_us",
                  direct->p50, "direct_p99_us", direct->p99, "hsmd_p50_us", hsmd->p50,
                  "hsmd_p99_us", hsmd->p99, "added_p50_us", result->added_p50, "added_p99_us",
                  result->added_p99, "direct_cpu_s", direct->cpu, "failures", result->failures,
                  "direct_operations", direct->operations, "hsmd_operations", hsmd->operations);
    if (result->has_hsmd_cpu && more) {
        json_object_set_new(more, "hsmd_cpu_s", json_real(hsmd->cpu));
        json_object_set_new(more, "hsmd_daemon_cpu_s", json_real(result->hsmd_cpu));
    }
    if (json && more)
        json_object_update(json, more);
    json_decref(more);
    return json;
}

static int run_rows(const struct options *options, const struct bench_setup *setup)
{
    json_t *results = json_array();
    int status = HSMCTL_EXIT_GOOD;
    if (!options->is_json)
        print_header();
    for (unsigned i = 0; i < options->row_count; i++) {
        struct bench_result result;
        struct detail detail = {0};
        if (bench_measure(setup, &options->rows[i], &result, &detail) != ERR_OK) {
            status = hsmctl_trouble(&detail);
            break;
        }
        if (result.failures > 0)
            status = HSMCTL_EXIT_BAD;
        if (options->is_json)
            json_array_append_new(results, row_json(options, &options->rows[i], &result));
        else
            print_row(&options->rows[i], &result);
    }
    if (options->is_json && status != HSMCTL_EXIT_TROUBLE) {
        json_t *all = json_pack("{s:O}", "results", results);
        json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(8));
        putchar('\n');
        json_decref(all);
    }
    json_decref(results);
    return status;
}

// Half a measurement that calls a module, with arguments that fit in.
static void call_module(const struct options *options, int side, const char *module,
                        const char *argv[ARGUMENTS_MAX])
{
    const char *const all[] = {options->programs[side],
                               "--module",
                               module,
                               "--token",
                               options->token,
                               side == BENCH_HSMD && options->is_bare ? "--bare" : NULL,
                               NULL};
    size_t count = 0;
    for (const char *const *at = all; *at; at++)
        argv[count++] = *at;
    if (options->init_args) {
        argv[count++] = "--init-args";
        argv[count++] = options->init_args;
    }
    argv[count] = NULL;
}

static int run(const struct options *options, const struct secret *pin)
{
    const bool has_hsmd = !options->through && !options->is_bare;
    const char *direct[ARGUMENTS_MAX], *other[ARGUMENTS_MAX];
    const char *const hsmd[] = {options->programs[BENCH_HSMD], "--conf", options->conf, NULL};
    call_module(options, BENCH_DIRECT, options->module, direct);
    call_module(options, BENCH_HSMD, options->is_bare ? options->module : options->through, other);
    const struct bench_setup setup = {
        .commands = {direct, has_hsmd ? hsmd : other},
        .pins = {pin, has_hsmd ? NULL : pin},
        .labels = {options->label, has_hsmd ? NULL : options->label},
        .hsmd = options->hsmd || !has_hsmd ? options->hsmd : find_hsmd(),
        .pairs = options->pairs,
        .ms = options->ms,
    };
    return run_rows(options, &setup);
}

int hsmctl_bench(int argc, char **argv)
{
    struct options options = {
        .conf = getenv("OPENSSL_CONF"), .pin_fd = -1, .pairs = 5, .ms = 3000, .callers = 1};
    struct secret pin = {0};
    struct detail detail = {0};
    char prompt[100];
    int status = parse_options(argc, argv, &options);
    if (status != HSMCTL_EXIT_GOOD)
        return status;
    if (!find_program("hsmbench-direct", options.programs[BENCH_DIRECT]) ||
        !find_program(options.through || options.is_bare ? "hsmbench-direct" : "hsmbench-hsmd",
                      options.programs[BENCH_HSMD]))
        return hsmctl_usage_error("bench: hsmbench-direct and hsmbench-hsmd are not installed");
    snprintf(prompt, sizeof prompt, "user PIN of token %.60s", options.token);
    enum err err = secret_harden_process(&detail);
    if (err == ERR_OK)
        err = secret_init(&pin, ASK_SECRET_MAX + 1, &detail);
    if (err == ERR_OK)
        err = ask_secret(prompt, options.pin_fd, &pin, &detail);
    status = err == ERR_OK ? run(&options, &pin) : hsmctl_trouble(&detail);
    secret_clear(&pin);
    return status;
}
