// SPDX-License-Identifier: Apache-2.0
// Commands from a file, one a line, with one passphrase and one connection.
#include "tools/hsmctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define BATCH_WORDS_MAX 64

// In place, as a shell would, but that a backslash is nothing special. words[*count] is not
// written.
static enum err split(char *line, char *words[BATCH_WORDS_MAX], int *count, struct detail *detail)
{
    char *out = line;
    const char *in = line;
    while (*(in += strspn(in, " \t\r\n"))) {
        if (*in == '#')
            return ERR_OK;
        if (*count == BATCH_WORDS_MAX)
            return err_set(detail, ERR_PERM, "more than %d words", BATCH_WORDS_MAX);
        words[(*count)++] = out;
        char quote = 0;
        for (; *in && (quote || !strchr(" \t\r\n", *in)); in++) {
            if (!quote && (*in == '\'' || *in == '"'))
                quote = *in;
            else if (*in == quote)
                quote = 0;
            else
                *out++ = *in;
        }
        if (quote)
            return err_set(detail, ERR_PERM, "a quote without its other half");
        in += *in != 0;
        *out++ = 0;
    }
    return ERR_OK;
}

// Options of the batch count for each command of it, and stand nowhere else.
static enum err take_options(const struct call *batch, struct call *one, struct detail *detail)
{
    static const enum option_index common[] = {OPTION_CONFIG, OPTION_PASSPHRASE_FD, OPTION_TIMEOUT,
                                               OPTION_YES};
    if (call_has(one, OPTION_JSON) || call_has(one, OPTION_HELP) || call_has(one, OPTION_VERSION))
        return err_set(detail, ERR_PERM, "not in a batch: --json, --help, --version");
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        if (call_has(one, common[i]))
            return err_set(detail, ERR_PERM, "--%s is for the whole batch",
                           option_at(common[i])->name);
        one->option[common[i]] = batch->option[common[i]];
    }
    if (one->command->raw || one->command->run == run_batch ||
        one->command->run == run_officer_keygen)
        return err_set(detail, ERR_PERM, "not in a batch: %s", one->command->words);
    return ERR_OK;
}

static enum err run_words(struct call *batch, int count, char **words, struct detail *detail)
{
    struct call one = {.failure = HSMCTL_EXIT_TROUBLE};
    enum err err = call_parse(&one, count, words, detail);
    if (err == ERR_OK)
        err = take_options(batch, &one, detail);
    if (err == ERR_OK) {
        one.session = batch->session;
        err = one.command->run ? one.command->run(&one, detail) : run_proposal(&one, detail);
        batch->session = one.session;
        one.session = (struct session){0};
    }
    if (err == ERR_OK && one.status != HSMCTL_EXIT_GOOD) {
        one.failure = one.status;
        err = err_set(detail, ERR_PERM, "this could not be carried out");
    }
    batch->failure = one.failure;
    call_clear(&one);
    return err;
}

static enum err run_lines(struct call *call, FILE *in, struct detail *detail)
{
    char *line = NULL;
    size_t room = 0;
    unsigned number = 0;
    enum err err = ERR_OK;
    while (err == ERR_OK && getline(&line, &room, in) >= 0) {
        char name[] = "hsmctl";
        char *words[BATCH_WORDS_MAX] = {name};
        int count = 1;
        number++;
        call->failure = HSMCTL_EXIT_TROUBLE;
        err = split(line, words, &count, detail);
        if (err == ERR_OK && count > 1)
            err = run_words(call, count, words, detail);
        if (err != ERR_OK)
            err = err_prefix(detail, err, "line %u", number);
    }
    if (err == ERR_OK && ferror(in))
        err = err_errno(detail, ERR_PERM, "the batch");
    free(line);
    return err;
}

enum err run_batch(struct call *call, struct detail *detail)
{
    const char *path = call->argument[0];
    bool is_stdin = strcmp(path, "-") == 0;
    if (call_has(call, OPTION_JSON))
        return err_set(detail, ERR_PERM, "a batch prints no JSON");
    FILE *in = is_stdin ? stdin : fopen(path, "re");
    if (!in)
        return err_errno(detail, ERR_PERM, "%s", path);
    enum err err = run_lines(call, in, detail);
    if (!is_stdin)
        fclose(in);
    return err;
}
