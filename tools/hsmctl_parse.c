// SPDX-License-Identifier: Apache-2.0
// Options may stand anywhere; they are taken by their whole name only, so that a script does not
// change its meaning when a new one comes.
#include "tools/hsmctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hsmd/base/text.h"

#define WORDS_MAX (CALL_ARGUMENTS_MAX + 2)

struct words {
    const char *word[WORDS_MAX];
    unsigned count;
};

static const char *quote(const char *text, char out[TEXT_QUOTED_SIZE])
{
    return text_quote(text, strlen(text), out, TEXT_QUOTED_SIZE);
}

// The option an argument names, and its value if that is in it. OPTION_COUNT: none of ours.
static enum option_index find_option(const char *text, const char **value)
{
    size_t len = strcspn(text, "=");
    *value = text[len] ? text + len + 1 : NULL;
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = option_at((enum option_index)i);
        if (row->letter && text[0] == '-' && text[1] == row->letter && !text[2])
            return (enum option_index)i;
        if (strncmp(text, "--", 2) == 0 && strlen(row->name) == len - 2 &&
            strncmp(text + 2, row->name, len - 2) == 0)
            return (enum option_index)i;
    }
    return OPTION_COUNT;
}

// One option; *i moves on if its value is the next argument.
static enum err take_option(struct call *call, int argc, char **argv, int *i, struct detail *detail)
{
    char quoted[TEXT_QUOTED_SIZE];
    const char *value = NULL;
    enum option_index index = find_option(argv[*i], &value);
    if (index == OPTION_COUNT)
        return err_set(detail, ERR_PERM, "there is no option %s", quote(argv[*i], quoted));
    const struct option_row *row = option_at(index);
    bool takes_value = *row->argument != 0;
    if (call->option[index])
        return err_set(detail, ERR_PERM, "--%s is there twice", row->name);
    if (!takes_value && value)
        return err_set(detail, ERR_PERM, "--%s takes no value", row->name);
    if (takes_value && !value && *i + 1 == argc)
        return err_set(detail, ERR_PERM, "--%s needs its %s", row->name, row->argument);
    if (takes_value && !value)
        value = argv[++*i];
    call->option[index] = takes_value ? value : "";
    return ERR_OK;
}

// How many of the words are the command's name; 0: it is another.
static unsigned match(const struct command *command, const struct words *words)
{
    const char *name = command->words;
    unsigned n = 0;
    while (*name) {
        size_t len = strcspn(name, " ");
        if (n == words->count || strlen(words->word[n]) != len ||
            strncmp(words->word[n], name, len) != 0)
            return 0;
        n++;
        name += len + (name[len] == ' ');
    }
    return n;
}

static enum err find_command(struct call *call, const struct words *words, struct detail *detail)
{
    char quoted[TEXT_QUOTED_SIZE];
    const struct command *command = NULL;
    for (size_t i = 0; (command = command_at(i)); i++) {
        unsigned taken = match(command, words);
        if (!taken)
            continue;
        call->command = command;
        for (unsigned n = taken; n < words->count && n - taken < CALL_ARGUMENTS_MAX; n++)
            call->argument[call->arguments++] = words->word[n];
        return ERR_OK;
    }
    if (words->count == 0)
        return err_set(detail, ERR_PERM, "no command given");
    for (size_t i = 0; (command = command_at(i)); i++) {
        size_t len = strlen(words->word[0]);
        if (strncmp(command->words, words->word[0], len) == 0 && command->words[len] == ' ')
            return err_set(detail, ERR_PERM,
                           words->count > 1 ? "%s: there is no \"%s\"" : "%s ...?", words->word[0],
                           words->count > 1 ? quote(words->word[1], quoted) : "");
    }
    return err_set(detail, ERR_PERM, "there is no command \"%s\"", quote(words->word[0], quoted));
}

static enum err check_call(const struct call *call, struct detail *detail)
{
    const struct command *command = call->command;
    char quoted[TEXT_QUOTED_SIZE];
    unsigned min = 0;
    unsigned max = 0;
    uint64_t allowed = command_options(command);
    command_arguments(command, &min, &max);
    for (unsigned i = 0; i < OPTION_COUNT; i++) {
        const char *name = option_at((enum option_index)i)->name;
        bool is_given = call->option[i] != NULL;
        if (is_given && !(allowed & OPTION_SET(i)))
            return err_set(detail, ERR_PERM, "%s takes no --%s", command->words, name);
        if (!is_given && command->needed & OPTION_SET(i))
            return err_set(detail, ERR_PERM, "%s needs --%s", command->words, name);
    }
    if (call->arguments < min)
        return err_set(detail, ERR_PERM, "%s needs %s", command->words, command->arguments);
    if (call->arguments > max)
        return err_set(detail, ERR_PERM, "%s: \"%s\" is too much", command->words,
                       quote(call->argument[max], quoted));
    return ERR_OK;
}

enum err call_parse(struct call *call, int argc, char **argv, struct detail *detail)
{
    struct words words = {0};
    struct detail scratch = {0};
    enum err err = ERR_OK;
    bool is_over = false;
    for (int i = 1; i < argc; i++) {
        if (!is_over && strcmp(argv[i], "--") == 0)
            is_over = true;
        else if (is_over || argv[i][0] != '-' || !argv[i][1])
            words.count < WORDS_MAX ? words.word[words.count++] = argv[i] : NULL;
        else if (err == ERR_OK)
            err = take_option(call, argc, argv, &i, detail);
    }
    // What is wrong with an option is said with the usage of the command, if that is known.
    enum err found = find_command(call, &words, err == ERR_OK ? detail : &scratch);
    if (err == ERR_OK)
        err = found;
    if (err == ERR_OK && !call_has(call, OPTION_HELP))
        err = check_call(call, detail);
    return err;
}

void call_clear(struct call *call)
{
    session_clear(&call->session);
    buf_clear(&call->id);
    buf_clear(&call->public_key);
    buf_clear(&call->certificates);
    buf_clear(&call->text);
    secret_clear(&call->attachment);
}

bool call_has(const struct call *call, enum option_index index)
{
    return call->option[index] != NULL;
}

bool number_get(const char *text, uint64_t max, uint64_t *number)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *text < '0' || *text > '9' || *end || value > max)
        return false;
    *number = value;
    return true;
}

enum err call_number(const struct call *call, enum option_index index, uint64_t max,
                     uint64_t *number, struct detail *detail)
{
    const char *text = call->option[index];
    char quoted[TEXT_QUOTED_SIZE];
    *number = 0;
    return !text || number_get(text, max, number)
               ? ERR_OK
               : err_set(detail, ERR_PERM, "--%s: \"%s\" is no number up to %llu",
                         option_at(index)->name, quote(text, quoted), (unsigned long long)max);
}

enum err call_fd(const struct call *call, enum option_index index, int *fd, struct detail *detail)
{
    uint64_t number = 0;
    enum err err = call_number(call, index, 65535, &number, detail);
    if (err == ERR_OK)
        *fd = call->option[index] ? (int)number : -1;
    return err;
}

// A PIN or a private key waits in hsmd's memory: not for days.
enum err call_lapse(const struct call *call, enum act_kind kind, uint64_t *seconds,
                    struct detail *detail)
{
    static const struct {
        char letter;
        uint64_t seconds;
    } units[] = {{0, 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    const char *text = call->option[OPTION_LAPSE];
    char quoted[TEXT_QUOTED_SIZE];
    char *end = NULL;
    const bool is_secret = act_attachment(kind) != ' ';
    const uint64_t most = is_secret ? STATEMENT_LAPSE_ATTACHMENT_MAX : STATEMENT_LAPSE_MAX;
    *seconds = is_secret ? STATEMENT_LAPSE_ATTACHMENT_MAX : STATEMENT_LAPSE_DEFAULT;
    if (!text)
        return ERR_OK;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool ok = !errno && *text >= '0' && *text <= '9' && value <= STATEMENT_LAPSE_MAX;
    for (size_t i = 0; ok && i < sizeof units / sizeof *units; i++) {
        if (*end != units[i].letter || (*end && end[1]))
            continue;
        *seconds = value * units[i].seconds;
        if (*seconds >= STATEMENT_LAPSE_MIN && *seconds <= most)
            return ERR_OK;
    }
    return err_set(detail, ERR_PERM,
                   is_secret ? "--lapse: \"%s\" is not from 1m to 1h: a PIN or a private key goes "
                               "along, which hsmd keeps in memory no longer"
                             : "--lapse: \"%s\" is not from 1m to 30d (like 30m, 2h, 7d)",
                   quote(text, quoted));
}
