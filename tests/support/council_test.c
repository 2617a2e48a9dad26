// SPDX-License-Identifier: Apache-2.0
#include "tests/support/council_test.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

struct council council;
struct registry_key found;

const struct act add_client = {
    .kind = ACT_CLIENT_ADD, .name = BYTES_LITERAL("gw1"), .curve_key = BYTES_LITERAL(KEY_1)};
const struct act add_other = {
    .kind = ACT_CLIENT_ADD, .name = BYTES_LITERAL("gw2"), .curve_key = BYTES_LITERAL(KEY_2)};

int council_begin(void **state)
{
    (void)state;
    council_setup(&council, 2);
    return 0;
}

int council_begin_alone(void **state)
{
    (void)state;
    council_setup(&council, 1);
    return 0;
}

int council_begin_closed(void **state)
{
    (void)state;
    council_setup(&council, 0);
    return 0;
}

int council_end(void **state)
{
    (void)state;
    council_teardown(&council);
    return 0;
}

void council_ok(enum err err)
{
    if (err != ERR_OK)
        fail_msg("%s: %s", err_name(err), council.detail.text);
}

void council_refused(enum err err, enum err wanted, const char *words)
{
    if (err != wanted || !strstr(council.detail.text, words))
        fail_msg("%s: \"%s\", not %s with \"%s\"", err_name(err), council.detail.text,
                 err_name(wanted), words);
}

void council_do_ok(struct act act)
{
    council_ok(council_do(&council, &act));
}

void council_do_refused(struct act act, enum err wanted, const char *words)
{
    council_refused(council_do(&council, &act), wanted, words);
}

struct act act_named(enum act_kind kind, const char *name)
{
    return (struct act){.kind = kind, .name = bytes_of_text(name)};
}

struct act act_generate(const char *name, enum wire_purpose purpose)
{
    return (struct act){.kind = ACT_KEY_GENERATE,
                        .name = bytes_of_text(name),
                        .tokens = BYTES_LITERAL("main"),
                        .type = WIRE_KEY_EC,
                        .bits = 256,
                        .purpose = purpose,
                        .algorithms = REGISTRY_ALL};
}

struct act act_quorum(unsigned number)
{
    return (struct act){.kind = ACT_QUORUM, .number = number};
}

const struct registry_key *council_find_key(const char *name)
{
    const struct registry *registry = live_take(council.live);
    const struct registry_key *key = registry_key_by_name(registry, bytes_of_text(name));
    if (key)
        found = *key;
    live_give(council.live, registry);
    return key ? &found : NULL;
}

bool council_has_client(const char *public_key)
{
    const struct registry *registry = live_take(council.live);
    bool is_there = registry_client_by_public_key(registry, public_key) != NULL;
    live_give(council.live, registry);
    return is_there;
}

void council_fill_log(void)
{
    signal(SIGXFSZ, SIG_IGN);
    for (unsigned i = 0; i < 4000; i++)
        assert_int_equal(
            audit_write(council.audit, &(struct audit_record){.event = AUDIT_USE}, NULL), ERR_OK);
}

void council_set_log_room(rlim_t room)
{
    struct stat st;
    struct rlimit limit;
    assert_int_equal(stat(council.audit_path, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = room == RLIM_INFINITY ? room : (rlim_t)st.st_size + room;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}
