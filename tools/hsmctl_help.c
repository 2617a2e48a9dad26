// SPDX-License-Identifier: Apache-2.0
// Help, made from the tables.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/hsmctl.h"

static void print_option(FILE *out, enum option_index index)
{
    const struct option_row *row = option_at(index);
    char left[64];
    snprintf(left, sizeof left, "%c%c%s--%s%s%s", row->letter ? '-' : ' ',
             row->letter ? row->letter : ' ', row->letter ? ", " : "  ", row->name,
             *row->argument ? " " : "", row->argument);
    fprintf(out, "  %-32s %s\n", left, row->what);
}

static void print_usage(FILE *out, const struct command *command)
{
    fprintf(out, "hsmctl %s%s%s", command->words, command->arguments ? " " : "",
            command->arguments ? command->arguments : "");
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = option_at((enum option_index)i);
        if (command->needed & OPTION_SET(i))
            fprintf(out, " --%s %s", row->name, row->argument);
    }
    if (command->allowed)
        fputs(" [OPTION ...]", out);
    putc('\n', out);
}

void help_command(FILE *out, const struct command *command)
{
    fputs("usage: ", out);
    print_usage(out, command);
    fprintf(out, "\n%c%s.\n\n",
            command->what[0] >= 'a' && command->what[0] <= 'z' ? command->what[0] - 'a' + 'A'
                                                               : command->what[0],
            command->what + 1);
    if (command->raw) {
        fputs("More in hsmctl(1).\n", out);
        return;
    }
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        if (command_options(command) & OPTION_SET(i))
            print_option(out, (enum option_index)i);
    }
}

void help_group(FILE *out, const char *word)
{
    size_t len = strlen(word);
    const struct command *command = NULL;
    for (size_t i = 0; (command = command_at(i)); i++) {
        if (strncmp(command->words, word, len) == 0 &&
            (!command->words[len] || command->words[len] == ' ')) {
            fputs("  ", out);
            print_usage(out, command);
        }
    }
}

void help_all(FILE *out)
{
    const struct command *command = NULL;
    fputs("usage: hsmctl COMMAND ...\n\n", out);
    for (size_t i = 0; (command = command_at(i)); i++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", command->words,
                 command->arguments && !command->raw ? " " : "",
                 command->arguments && !command->raw ? command->arguments : "");
        fprintf(out, "  %-32s %s\n", left, command->what);
    }
    fputs("\n\"hsmctl COMMAND --help\" tells its options; everybody takes these:\n\n", out);
    print_option(out, OPTION_CONFIG);
    print_option(out, OPTION_JSON);
    print_option(out, OPTION_PASSPHRASE_FD);
    print_option(out, OPTION_TIMEOUT);
    print_option(out, OPTION_HELP);
    print_option(out, OPTION_VERSION);
    fputs("\nMore in hsmctl(1).\n", out);
}
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
