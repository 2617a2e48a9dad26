// SPDX-License-Identifier: Apache-2.0
// The two tables: options and commands.
#include "tools/hsmctl.h"

#include <string.h>

#define SET(name) OPTION_SET(OPTION_##name)
#define SUBJECT                                                                             \
    (SET(ORGANIZATION) | SET(UNIT) | SET(CITY) | SET(STATE) | SET(COUNTRY) | SET(DOMAINS) | \
     SET(EMAILS) | SET(HASH) | SET(PSS) | SET(ANY_NAME) | SET(OUT))
#define LIMITS (SET(PER_MINUTE) | SET(PER_HOUR) | SET(TOTAL) | SET(FAILURES))

// For every command that asks hsmd; and what a proposal takes besides.
#define ASKING (SET(CONFIG) | SET(JSON) | SET(PASSPHRASE_FD) | SET(TIMEOUT))
#define SIGNING SET(YES)
#define PROPOSING (SET(LAPSE) | SET(AMEND))

static const struct option_row option_rows[OPTION_COUNT] = {
#define X(symbol, option, takes, key, text) [symbol] = {option, takes, text, key},
    HSMCTL_OPTIONS(X)
#undef X
};

static const struct command rows[] = {
    {.words = "status",
     .allowed = SET(WATCH),
     .run = run_status,
     .what = "what state hsmd, its tokens and its log are in"},
    {.words = "proposals",
     .arguments = "[N]",
     .allowed = SET(ALL),
     .run = run_proposals,
     .what = "what waits for signatures; or one proposal, explained"},
    {.words = "approve",
     .arguments = "N",
     .allowed = SIGNING | SET(OUT),
     .run = run_approve,
     .what = "sign a proposal of another officer"},
    {.words = "reject",
     .arguments = "N",
     .allowed = SIGNING,
     .run = run_reject,
     .what = "say no to a proposal, or withdraw one's own"},
    {.words = "result",
     .arguments = "N",
     .allowed = SET(OUT),
     .run = run_result,
     .what = "what came of a proposal: the request or certificate it made"},
    {.words = "batch",
     .arguments = "FILE",
     .allowed = SIGNING,
     .run = run_batch,
     .what = "commands from a file, one a line, with one passphrase"},
    {.words = "key list", .run = run_key_list, .what = "all keys"},
    {.words = "key show",
     .arguments = "NAME",
     .allowed = SET(PEM) | SET(PUBLIC) | SET(OUT),
     .run = run_key_show,
     .what = "one key"},
    {.words = "key generate",
     .arguments = "NAME",
     .needed = SET(TYPE) | SET(PURPOSE),
     .allowed = SET(TOKEN) | SET(ALGORITHMS),
     .kind = ACT_KEY_GENERATE,
     .build = build_generate,
     .what = "make a key in a token"},
    {.words = "key import",
     .arguments = "NAME",
     .needed = SET(PKCS12) | SET(PURPOSE),
     .allowed = SET(TOKEN) | SET(ALGORITHMS) | SET(ANY_NAME) | SET(IMPORT_PASSPHRASE_FD),
     .kind = ACT_KEY_IMPORT,
     .build = build_import,
     .what = "bring a key into a token"},
    {.words = "key adopt",
     .arguments = "NAME",
     .needed = SET(TOKEN) | SET(PURPOSE),
     .allowed = SET(LABEL) | SET(ID) | SET(ALGORITHMS),
     .kind = ACT_KEY_ADOPT,
     .build = build_place,
     .what = "take on a key that is in a token already"},
    {.words = "key place",
     .arguments = "NAME",
     .needed = SET(TOKEN),
     .allowed = SET(LABEL) | SET(ID),
     .kind = ACT_KEY_PLACE,
     .build = build_place,
     .what = "use a copy of a key in one more token"},
    {.words = "key csr",
     .arguments = "NAME",
     .needed = SET(COMMON_NAME),
     .allowed = SUBJECT,
     .kind = ACT_KEY_REQUEST,
     .build = build_subject,
     .what = "make a certificate request for a key"},
    {.words = "key self-sign",
     .arguments = "NAME",
     .needed = SET(COMMON_NAME) | SET(DAYS),
     .allowed = SUBJECT,
     .kind = ACT_KEY_SELF_SIGN,
     .build = build_subject,
     .what = "make a certificate for a key, signed by itself"},
    {.words = "key certificate",
     .arguments = "NAME FILE",
     .allowed = SET(ANY_NAME),
     .kind = ACT_KEY_CERTIFICATE,
     .build = build_certificate,
     .what = "put certificates beside a key: PEM, its own first"},
    {.words = "key enable",
     .arguments = "NAME",
     .kind = ACT_KEY_ENABLE,
     .what = "let a key be used"},
    {.words = "key disable",
     .arguments = "NAME",
     .kind = ACT_KEY_DISABLE,
     .what = "let a key not be used"},
    {.words = "key retire",
     .arguments = "NAME",
     .kind = ACT_KEY_RETIRE,
     .what = "let a key decrypt, and nothing else"},
    {.words = "key destroy",
     .arguments = "NAME",
     .allowed = SET(TOKEN) | SET(NAME_AGAIN),
     .kind = ACT_KEY_DESTROY,
     .build = build_destroy,
     .what = "destroy a key in its tokens, for ever"},
    {.words = "key limit",
     .arguments = "NAME",
     .allowed = LIMITS,
     .kind = ACT_KEY_LIMIT,
     .build = build_limits,
     .what = "limit how often a key is used; what is not given, or 0, is no limit"},
    {.words = "client list", .run = run_client_list, .what = "all clients and their grants"},
    {.words = "client add",
     .arguments = "NAME",
     .allowed = SET(PUBLIC_KEY) | SET(PUBLIC_KEY_FILE),
     .kind = ACT_CLIENT_ADD,
     .build = build_client_add,
     .what = "let a client connect"},
    {.words = "client revoke",
     .arguments = "NAME",
     .kind = ACT_CLIENT_REVOKE,
     .what = "shut a client out at once, and drop its grants"},
    {.words = "grant",
     .arguments = "CLIENT KEY OPERATION[,..]",
     .allowed = SET(ALGORITHMS) | LIMITS,
     .kind = ACT_GRANT,
     .build = build_grant,
     .what = "let a client use a key: sign, unwrap, agree"},
    {.words = "ungrant",
     .arguments = "CLIENT KEY",
     .kind = ACT_UNGRANT,
     .build = build_grant,
     .what = "drop all grants of a client for a key"},
    {.words = "officer list", .run = run_officer_list, .what = "officers, auditors, the quorum"},
    {.words = "officer keygen",
     .arguments = "NAME",
     .allowed = SET(OUT),
     .run = run_officer_keygen,
     .what = "make an officer's key: NAME.key and NAME.pub"},
    {.words = "officer add",
     .arguments = "NAME",
     .needed = SET(FILE),
     .allowed = SET(ROLE),
     .kind = ACT_OFFICER_ADD,
     .build = build_officer_add,
     .what = "make somebody an officer or auditor"},
    {.words = "officer remove",
     .arguments = "NAME",
     .kind = ACT_OFFICER_REMOVE,
     .what = "let somebody be no officer any more"},
    {.words = "quorum",
     .arguments = "N",
     .kind = ACT_QUORUM,
     .build = build_quorum,
     .what = "change how many officers must agree"},
    {.words = "unlock",
     .arguments = "[TOKEN]",
     .allowed = SET(PIN_FD),
     .kind = ACT_UNLOCK,
     .build = build_unlock,
     .what = "log in to a token with its PIN"},
    {.words = "lock", .arguments = "[TOKEN]", .kind = ACT_LOCK, .what = "log out of a token"},
    {.words = "token list", .run = run_token_list, .what = "all tokens"},
    {.words = "token show",
     .arguments = "NAME",
     .run = run_token_show,
     .what = "the private keys in a token"},
    {.words = "usage", .run = run_usage, .what = "who used how much"},
    {.words = "audit fetch",
     .allowed = SET(OUT),
     .run = run_audit_fetch,
     .what = "the audit log, from hsmd"},
    {.words = "audit verify",
     .arguments = "--key FILE|--no-key [--state FILE] [--expect-seq N] [--expect-hash HEX] "
                  "[--live [--config FILE] [--passphrase-fd N]] [--closed] [--json] FILE...",
     .raw = hsmctl_audit,
     .what = "check audit logs; FILEs in the order they were written"},
    {.words = "audit show",
     .arguments = "[--key-name NAME] [--client NAME] [--event EVENT] "
                  "[--since TIME] [--json] FILE...",
     .raw = hsmctl_audit,
     .what = "print audit logs as a table"},
    {.words = "audit export",
     .arguments = "[--format csv|json] FILE...",
     .raw = hsmctl_audit,
     .what = "audit logs for other programs"},
    {.words = "bench",
     .arguments = "--module FILE [--init-args TEXT] --token LABEL [--pin-fd N] [--conf FILE] "
                  "[--label LABEL] [--mode latency|bandwidth] [--pairs N] [--seconds N] "
                  "[--pid N] [--through FILE] [--json] "
                  "KEY:OPERATION[:CALLERS]...",
     .raw = hsmctl_bench,
     .what = "what hsmd costs: the token directly, and through hsmd"},
};

const struct option_row *option_at(enum option_index index)
{
    return index < OPTION_COUNT ? &option_rows[index] : NULL;
}

const struct command *command_at(size_t index)
{
    return index < sizeof rows / sizeof *rows ? &rows[index] : NULL;
}

uint64_t command_options(const struct command *command)
{
    uint64_t options = SET(HELP) | command->needed | command->allowed;
    if (command->raw)
        return options;
    return options | ASKING | (command->kind ? SIGNING | PROPOSING : 0);
}

void command_arguments(const struct command *command, unsigned *min, unsigned *max)
{
    *min = *max = 0;
    for (const char *at = command->raw ? NULL : command->arguments; at && *at; ++*max) {
        *min += *at != '[';
        at += strcspn(at, " ");
        at += *at == ' ';
    }
}
