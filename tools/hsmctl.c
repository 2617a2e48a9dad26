// SPDX-License-Identifier: Apache-2.0
#include "tools/hsmctl.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/base/log.h"
#include "hsmd/base/secret.h"
#include "tools/hsmctl_print.h"

// What a mistake in the command line is answered with, besides what is wrong.
static void print_hint(const struct call *call, const char *word)
{
    if (call->command) {
        fputc('\n', stderr);
        help_command(stderr, call->command);
    } else {
        if (word)
            help_group(stderr, word);
        fputs("Try \"hsmctl --help\".\n", stderr);
    }
}

static int print_error(const struct call *call, enum err err, const struct detail *detail)
{
    if (!call_has(call, OPTION_JSON)) {
        fflush(stdout);
        fputs("hsmctl: ", stderr);
        print_text(stderr, detail->text, false);
        fputc('\n', stderr);
        return call->failure;
    }
    struct buf clean;
    struct detail scratch = {0};
    buf_init(&clean, 4 * sizeof detail->text);
    (void)print_clean(&clean, bytes_of_text(detail->text), false);
    json_t *json =
        json_pack("{s:{s:s, s:s}}", "error", "class", err_name(err), "detail", buf_text(&clean));
    (void)print_json(json, &scratch);
    json_decref(json);
    buf_clear(&clean);
    return call->failure;
}

static int run(struct call *call, struct detail *detail)
{
    const struct command *command = call->command;
    enum err err = secret_harden_process(detail);
    if (err == ERR_OK)
        err = command->run ? command->run(call, detail) : run_proposal(call, detail);
    if (err == ERR_OK && (fflush(stdout) != 0 || ferror(stdout)))
        err = err_errno(detail, ERR_TEMP, "standard output");
    return err == ERR_OK ? call->status : print_error(call, err, detail);
}

// Commands that parse their own options.
static int main_raw(const char *group, int (*command)(int argc, char **argv), int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            puts("usage:");
            help_group(stdout, group);
            return HSMCTL_EXIT_GOOD;
        }
    }
    return command(argc, argv);
}

int main(int argc, char **argv)
{
    struct call call = {.failure = HSMCTL_EXIT_TROUBLE};
    struct detail detail = {0};
    int status = HSMCTL_EXIT_GOOD;
    log_open("hsmctl", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    if (argc > 2 && strcmp(argv[1], "audit") == 0 && strcmp(argv[2], "fetch") != 0)
        return main_raw("audit", hsmctl_audit, argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "bench") == 0)
        return main_raw("bench", hsmctl_bench, argc - 1, argv + 1);
    enum err err = call_parse(&call, argc, argv, &detail);
    if (call_has(&call, OPTION_VERSION)) {
        puts("hsmctl " SEALGATE_VERSION);
    } else if (call_has(&call, OPTION_HELP) && (err == ERR_OK || !call.command)) {
        if (call.command)
            help_command(stdout, call.command);
        else
            help_all(stdout);
    } else if (err != ERR_OK) {
        status = print_error(&call, err, &detail);
        if (!call_has(&call, OPTION_JSON))
            print_hint(&call, argc > 1 ? argv[1] : NULL);
    } else if (call.command->raw) {
        status = hsmctl_usage_error("write \"hsmctl %s\" first, and its options after that",
                                    call.command->words);
    } else {
        status = run(&call, &detail);
    }
    call_clear(&call);
    return status == HSMCTL_EXIT_GOOD && fflush(stdout) != 0 ? HSMCTL_EXIT_TROUBLE : status;
}
