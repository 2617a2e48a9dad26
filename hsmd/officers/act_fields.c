// SPDX-License-Identifier: Apache-2.0
// An explanation's lines, and the one line of a summary.
#include "hsmd/officers/act_certificates.h"
#include "hsmd/officers/act_table.h"
#include "hsmd/registry/registry.h"

static void say_set(struct words *words, uint64_t set, bool is_operations)
{
    bool is_first = true;
    for (unsigned i = 0; i < 64; i++) {
        const char *name = NULL;
        if (set & REGISTRY_SET(i))
            name = is_operations ? wire_operation_name((enum wire_operation)i)
                                 : wire_algorithm_name((enum wire_algorithm)i);
        if (!name)
            continue;
        words_say(words, "%s%s", is_first ? "" : ", ", name);
        is_first = false;
    }
}

static void say_bytes(struct words *words, const struct act_field *field, struct bytes bytes)
{
    switch (field->type) {
    case ACT_FIELD_NAMES:
    case ACT_FIELD_TEXTS:
        words_list(words, bytes);
        break;
    case ACT_FIELD_SIGNING_KEY:
        words_hex(words, bytes);
        words_say(words, " (");
        words_sha256(words, bytes);
        words_say(words, ")");
        break;
    case ACT_FIELD_BIN:
        words_hex(words, bytes);
        break;
    case ACT_FIELD_PUBLIC_KEY:
        words_public_key(words, bytes);
        break;
    default:
        words_quote(words, bytes);
        break;
    }
}

static void say_value(struct words *words, const struct act_field *field, const struct act *act)
{
    const void *member = act_field_get(field, act);
    char type[ACT_TYPE_SIZE];
    const char *name = NULL;
    switch (field->type) {
    case ACT_FIELD_NUMBER:
        words_say(words, "%u", *(const unsigned *)member);
        break;
    case ACT_FIELD_ENUM:
        name = field->name_of(*(const unsigned *)member);
        if (field->offset == offsetof(struct act, type))
            name = act_type_text(act->type, act->bits, type);
        words_say(words, "%s", name ? name : "unknown");
        break;
    case ACT_FIELD_HASH:
        words_say(words, "%s", hash_name(*(const enum hash *)member));
        break;
    case ACT_FIELD_FLAG:
        words_say(words, *(const bool *)member ? "yes" : "no");
        break;
    case ACT_FIELD_LIMIT:
        if (*(const uint64_t *)member)
            words_say(words, "%ju", (uintmax_t) * (const uint64_t *)member);
        else
            words_say(words, "no limit");
        break;
    case ACT_FIELD_OPERATIONS:
        say_set(words, *(const uint64_t *)member, true);
        break;
    case ACT_FIELD_ALGORITHMS:
        if (*(const uint64_t *)member == REGISTRY_ALL)
            words_say(words, "all that the key can");
        else
            say_set(words, *(const uint64_t *)member, false);
        break;
    default:
        say_bytes(words, field, *(const struct bytes *)member);
        break;
    }
}

// Whether the line would say nothing: an empty text that is left out of what is made.
static bool is_empty(const struct act_field *field, const struct act *act)
{
    return field->type < ACT_FIELD_NUMBER &&
           ((const struct bytes *)act_field_get(field, act))->len == 0;
}

void words_fields(struct words *words, const struct act *act)
{
    for (size_t i = 0; i < act_fields_count; i++) {
        const struct act_field *field = &act_fields[i];
        // type says the bits.
        if (!act_field_is_of(field, act->kind) || field->offset == offsetof(struct act, bits))
            continue;
        if (field->type == ACT_FIELD_CERTIFICATES) {
            words_certificates(words, act->certificates);
            continue;
        }
        if (is_empty(field, act))
            continue;
        const char *name =
            field->offset == offsetof(struct act, name) ? act_kind_subject(act->kind) : field->name;
        words_say(words, "  %s: ", name);
        say_value(words, field, act);
        words_say(words, "\n");
    }
}

// Cut if it is long: a summary is one line.
static void say_short(struct words *words, struct bytes text)
{
    char quoted[TEXT_QUOTED_SIZE];
    words_say(words, "\"%s\"",
              text_quote((const char *)text.data, text.len, quoted, sizeof quoted));
}

static void say_tokens(struct words *words, const struct act *act)
{
    struct bytes rest = act->tokens;
    struct bytes item;
    char quoted[TEXT_QUOTED_SIZE];
    for (bool is_first = true; act_list_next(&rest, &item); is_first = false)
        words_say(words, "%s%s", is_first ? " in " : ",",
                  text_quote((const char *)item.data, item.len, quoted, sizeof quoted));
}

static void say_limits(struct words *words, const struct act *act)
{
    const struct {
        const char *unit;
        uint64_t limit;
    } rows[] = {{"per minute", act->per_minute},
                {"per hour", act->per_hour},
                {"in total", act->total},
                {"failures per hour", act->failures_per_hour}};
    bool is_any = false;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!rows[i].limit)
            continue;
        words_say(words, ", %ju %s", (uintmax_t)rows[i].limit, rows[i].unit);
        is_any = true;
    }
    if (!is_any)
        words_say(words, ", no limits");
}

static void say_verb(struct words *words, const struct act *act)
{
    words_say(words, "%s ", act_kind_verb(act->kind));
    if (act->kind == ACT_OFFICER_ADD)
        words_say(words, "%s ", act->role == OFFICER_AUDITOR ? "auditor" : "officer");
    if (act->kind == ACT_QUORUM)
        words_say(words, "%u", act->number);
    else
        say_short(words, act->name);
}

static void say_rest(struct words *words, const struct act *act)
{
    char type[ACT_TYPE_SIZE];
    const char *purpose = wire_purpose_name(act->purpose);
    switch (act->kind) {
    case ACT_KEY_GENERATE:
        words_say(words, " (%s, %s)", act_type_text(act->type, act->bits, type), purpose);
        break;
    case ACT_KEY_IMPORT:
    case ACT_KEY_ADOPT:
        words_say(words, " (%s)", purpose);
        break;
    case ACT_KEY_REQUEST:
    case ACT_KEY_SELF_SIGN:
        words_say(words, " for ");
        say_short(words, act->common_name);
        break;
    case ACT_KEY_LIMIT:
        say_limits(words, act);
        break;
    case ACT_GRANT:
        words_say(words, " key ");
        say_short(words, act->key);
        words_say(words, " to ");
        say_set(words, act->operations, true);
        if (act->algorithms != REGISTRY_ALL) {
            words_say(words, " with ");
            say_set(words, act->algorithms, false);
        }
        say_limits(words, act);
        break;
    case ACT_UNGRANT:
        words_say(words, " for key ");
        say_short(words, act->key);
        break;
    default:
        break;
    }
    say_tokens(words, act);
}

enum err act_summary(const struct act *act, struct buf *out)
{
    struct words words = {.out = out, .err = ERR_OK};
    size_t before = out->len;
    if (!act_kind_name(act->kind))
        return ERR_BUG;
    say_verb(&words, act);
    say_rest(&words, act);
    if (words.err != ERR_OK && out->data) {
        out->len = before;
        out->data[before] = 0;
    }
    return words.err;
}
