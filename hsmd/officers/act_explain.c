// SPDX-License-Identifier: Apache-2.0
// What is done, to what, and what follows from it; then the fields. The words are for somebody who
// is about to sign and may never have read a page of the manual.
#include <string.h>

#include "hsmd/officers/act_certificates.h"
#include "hsmd/officers/act_table.h"
#include "hsmd/registry/registry.h"

#define NOT_YET " It cannot be used until it is enabled."
#define GRANTED "Let {client} use {of-key}. From then on {client} can "
#define SIGNS "have everything signed with {of-key} that the key's purpose allows"
#define DECRYPTS "have everything decrypted that was encrypted for {of-key}"
#define GRANT_ENDS                                                                                 \
    ", within the limits below, whenever the key is enabled. This takes the place of every grant " \
    "it has for this key by then: what is not below it can do no longer."
#define NO_WAY_BACK                                                                              \
    ". This cannot be undone: where no other copy is left, what was encrypted for this key can " \
    "never be read again, and nothing can be signed with it."

static const char *grant_sentence(uint64_t operations)
{
    const uint64_t decrypting = REGISTRY_SET(WIRE_UNWRAP) | REGISTRY_SET(WIRE_AGREE);
    if (!(operations & decrypting))
        return GRANTED SIGNS GRANT_ENDS;
    if (!(operations & REGISTRY_SET(WIRE_SIGN)))
        return GRANTED DECRYPTS GRANT_ENDS;
    return GRANTED SIGNS ", and " DECRYPTS GRANT_ENDS;
}

static const char *officer_sentence(enum officer_role role)
{
    return role == OFFICER_AUDITOR
               ? "Make {who} an auditor. From then on whoever has the private halves of the "
                 "keys below can read everything here, and change nothing."
               : "Make {who} an officer. From then on whoever has the private halves of the "
                 "keys below can propose every act and agree to every act, and counts for the "
                 "quorum.";
}

static const char *quorum_sentence(unsigned number)
{
    return number == 1 ? "From now on one officer alone can have every act carried out: "
                         "nobody else need agree."
                       : "From now on {number} officers must agree to every act, the one "
                         "who proposes it included.";
}

// Sentences have a mark in braces for what the act says (say_mark). There is no default in this
// switch, so that the compiler asks for the sentence of a new kind. NULL: no such kind.
static const char *sentence_of(const struct act *act)
{
    switch (act->kind) {
    case ACT_KEY_GENERATE:
        return "Generate a new {key} ({type}) in {tokens}, {purpose}. Its private half is made in "
               "the token and does not leave it." NOT_YET;
    case ACT_KEY_IMPORT:
        return "Bring the private key that comes with this proposal into {tokens} as {key}, "
               "{purpose}. Whoever has another copy of it can do the same with it, outside of this "
               "custodian." NOT_YET;
    case ACT_KEY_ADOPT:
        return "Take on the private key with the label and id below, which is in {tokens} already, "
               "as {key}, {purpose}. Who made it, and who else can use it, is not known "
               "here." NOT_YET;
    case ACT_KEY_PLACE:
        return "Use the private key with the label and id below, which is in {tokens} already, as "
               "one more copy of {key}. From then on requests for the key may be done with it.";
    case ACT_KEY_REQUEST:
        return "Sign a certificate request with {key} for the names below. With it a certification "
               "authority can certify that the key is theirs.";
    case ACT_KEY_SELF_SIGN:
        return "Sign a certificate for {key} with the key itself, for the names below, valid for "
               "{days}. Whoever trusts it takes what the key signs for theirs.";
    case ACT_KEY_CERTIFICATE:
        return "Put {certificates} beside {key}, in place of what is there. From then on clients "
               "are given {them} with the key.";
    case ACT_KEY_ENABLE:
        return "Let {key} be used. From then on every client that has a grant for it can use it, "
               "as far as the grant goes.";
    case ACT_KEY_DISABLE:
        return "Let {key} not be used. From then on nobody can sign or decrypt with it, until it "
               "is enabled again.";
    case ACT_KEY_RETIRE:
        return "Let {key} decrypt, and nothing else. From then on nothing can be signed with it; "
               "what was encrypted for it can still be read.";
    case ACT_KEY_LIMIT:
        return "Limit how often {key} is used, by all clients together, to what is below, in place "
               "of the limits it has. Over a limit everybody is refused.";
    case ACT_CLIENT_ADD:
        return "Let {client} connect. Whoever has the private half of the public key below is this "
               "client. It can use no key until it is granted one.";
    case ACT_CLIENT_REVOKE:
        return "Shut {client} out, and drop all its grants. From its next request on it can do "
               "nothing, though it be connected.";
    case ACT_UNGRANT:
        return "Drop all grants of {client} for {of-key}. From then on {client} cannot use it.";
    case ACT_OFFICER_REMOVE:
        return "Let {who} be no officer and no auditor any more. From then on nothing that {who} "
               "has signed counts, for pending proposals either.";
    case ACT_UNLOCK:
        return "Log in to token {who} with the PIN that comes with this proposal. From then on the "
               "enabled keys in it can be used.";
    case ACT_LOCK:
        return "Log out of token {who}, and forget its PIN. From then on no key can be used in it, "
               "until officers unlock it again, whether or not its PIN is configured.";
    case ACT_KEY_DESTROY:
        return act->tokens.len ? "Destroy the copies of {key} in {tokens}" NO_WAY_BACK
                               : "Destroy {key} in all its tokens" NO_WAY_BACK;
    case ACT_GRANT:
        return grant_sentence(act->operations);
    case ACT_OFFICER_ADD:
        return officer_sentence(act->role);
    case ACT_QUORUM:
        return quorum_sentence(act->number);
    }
    return NULL;
}

// What the purpose lets everybody with a grant do.
static const char *purpose_words(enum wire_purpose purpose)
{
    switch (purpose) {
    case WIRE_SMIME_SIGN:
        return "for signing mail (smime-sign)";
    case WIRE_SMIME_DECRYPT:
        return "for decrypting mail (smime-decrypt)";
    case WIRE_GENERAL:
        return "for anything: signing whatever a client hands in, and decrypting (general)";
    case WIRE_AUDIT:
        return "for signing the audit log's checkpoints, and nothing else (audit)";
    }
    return "for no known purpose";
}

// key "signing"
static void say_named(struct words *words, const char *what, struct bytes name)
{
    words_say(words, "%s ", what);
    words_quote(words, name);
}

static void say_tokens(struct words *words, struct bytes list)
{
    struct bytes rest = list;
    struct bytes item;
    unsigned count = 0;
    while (act_list_next(&rest, &item))
        count++;
    words_say(words, count == 1 ? "token " : "tokens ");
    words_list(words, list);
}

static void say_count(struct words *words, unsigned count, const char *what)
{
    words_say(words, "%u %s%s", count, what, count == 1 ? "" : "s");
}

static void say_mark(struct words *words, const struct act *act, struct bytes mark)
{
#define IS(name) bytes_equal(mark, BYTES_LITERAL(name))
    char type[ACT_TYPE_SIZE];
    if (IS("key"))
        say_named(words, "key", act->name);
    else if (IS("of-key"))
        say_named(words, "key", act->key);
    else if (IS("client"))
        say_named(words, "client", act->name);
    else if (IS("who"))
        words_quote(words, act->name);
    else if (IS("tokens"))
        say_tokens(words, act->tokens);
    else if (IS("type"))
        words_say(words, "%s", act_type_text(act->type, act->bits, type));
    else if (IS("purpose"))
        words_say(words, "%s", purpose_words(act->purpose));
    else if (IS("days"))
        say_count(words, act->days, "day");
    else if (IS("number"))
        words_say(words, "%u", act->number);
    else if (IS("certificates"))
        say_count(words, count_certificates(act->certificates), "certificate");
    else if (IS("them"))
        words_say(words, count_certificates(act->certificates) == 1 ? "it" : "them");
    else
        words->err = ERR_BUG;
#undef IS
}

// Marks are looked for in the sentence alone, never in what stands for them.
static void say_sentence(struct words *words, const struct act *act, const char *text)
{
    for (;;) {
        size_t plain = strcspn(text, "{");
        words_say(words, "%.*s", (int)plain, text);
        text += plain;
        if (!*text)
            break;
        size_t len = strcspn(++text, "}");
        say_mark(words, act, bytes_of(text, len));
        text += len + (text[len] == '}');
    }
    words_say(words, "\n");
}

enum err act_explain(const struct act *act, struct buf *out)
{
    struct words words = {.out = out, .err = ERR_OK};
    size_t before = out->len;
    const char *text = sentence_of(act);
    if (!text)
        return ERR_BUG;
    say_sentence(&words, act, text);
    words_fields(&words, act);
    if (words.err != ERR_OK && out->data) {
        // All or nothing.
        out->len = before;
        out->data[before] = 0;
    }
    return words.err;
}
