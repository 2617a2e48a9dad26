// SPDX-License-Identifier: Apache-2.0
// What is done, to what, and what follows from it; then the fields. The words are for somebody who
// is about to sign and may never have read a page of the manual.
#include <string.h>

#include "hsmd/officers/act_certificates.h"
#include "hsmd/officers/act_table.h"
#include "hsmd/registry/registry.h"

// ... key "signing"
static void say_key(struct words *words, struct bytes name)
{
    words_say(words, "key ");
    words_quote(words, name);
}

static void say_client(struct words *words, struct bytes name)
{
    words_say(words, "client ");
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

// What the purpose lets everybody with a grant do.
static const char *purpose_words(enum wire_purpose purpose)
{
    static const struct {
        const char *name;
        const char *words;
    } rows[] = {
        {"smime-sign", "for signing mail (smime-sign)"},
        {"smime-decrypt", "for decrypting mail (smime-decrypt)"},
        {"general", "for anything: signing whatever a client hands in, and decrypting (general)"},
        {"audit", "for signing the audit log's checkpoints, and nothing else (audit)"},
    };
    const char *name = wire_purpose_name(purpose);
    for (size_t i = 0; name && i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].words;
    }
    return "for no known purpose";
}

static void say_new_key(struct words *words, const struct act *act)
{
    char type[ACT_TYPE_SIZE];
    switch (act->kind) {
    case ACT_KEY_GENERATE:
        words_say(words, "Generate a new ");
        say_key(words, act->name);
        words_say(words, " (%s) in ", act_type_text(act->type, act->bits, type));
        say_tokens(words, act->tokens);
        words_say(words, ", %s. Its private half is made in the token and does not leave it.",
                  purpose_words(act->purpose));
        break;
    case ACT_KEY_IMPORT:
        words_say(words, "Bring the private key that comes with this proposal into ");
        say_tokens(words, act->tokens);
        words_say(words, " as ");
        say_key(words, act->name);
        words_say(words,
                  ", %s. Whoever has another copy of it can do the same with it, outside of "
                  "this custodian.",
                  purpose_words(act->purpose));
        break;
    default:
        words_say(words, "Take on the private key with the label and id below, which is in ");
        say_tokens(words, act->tokens);
        words_say(words, " already, as ");
        say_key(words, act->name);
        words_say(words, ", %s. Who made it, and who else can use it, is not known here.",
                  purpose_words(act->purpose));
        break;
    }
    words_say(words, " It cannot be used until it is enabled.");
}

static void say_certificate(struct words *words, const struct act *act)
{
    switch (act->kind) {
    case ACT_KEY_REQUEST:
        words_say(words, "Sign a certificate request with ");
        say_key(words, act->name);
        words_say(words, " for the names below. With it a certification authority can certify "
                         "that the key is theirs.");
        break;
    case ACT_KEY_SELF_SIGN:
        words_say(words, "Sign a certificate for ");
        say_key(words, act->name);
        words_say(words,
                  " with the key itself, for the names below, valid for %u day%s. "
                  "Whoever trusts it takes what the key signs for theirs.",
                  act->days, act->days == 1 ? "" : "s");
        break;
    default: {
        unsigned count = count_certificates(act->certificates);
        words_say(words, "Put %u certificate%s beside ", count, count == 1 ? "" : "s");
        say_key(words, act->name);
        words_say(words,
                  ", in place of what is there. From then on clients are given %s "
                  "with the key.",
                  count == 1 ? "it" : "them");
        break;
    }
    }
}

static void say_destroy(struct words *words, const struct act *act)
{
    words_say(words, "Destroy ");
    if (act->tokens.len)
        words_say(words, "the copies of ");
    say_key(words, act->name);
    words_say(words, " in ");
    if (act->tokens.len)
        say_tokens(words, act->tokens);
    else
        words_say(words, "all its tokens");
    words_say(words, ". This cannot be undone: where no other copy is left, what was encrypted for "
                     "this key can never be read again, and nothing can be signed with it.");
}

static void say_state(struct words *words, const struct act *act)
{
    switch (act->kind) {
    case ACT_KEY_ENABLE:
        words_say(words, "Let ");
        say_key(words, act->name);
        words_say(words, " be used. From then on every client that has a grant for it can use it, "
                         "as far as the grant goes.");
        break;
    case ACT_KEY_DISABLE:
        words_say(words, "Let ");
        say_key(words, act->name);
        words_say(words, " not be used. From then on nobody can sign or decrypt with it, until it "
                         "is enabled again.");
        break;
    case ACT_KEY_RETIRE:
        words_say(words, "Let ");
        say_key(words, act->name);
        words_say(words, " decrypt, and nothing else. From then on nothing can be signed with it; "
                         "what was encrypted for it can still be read.");
        break;
    case ACT_KEY_DESTROY:
        say_destroy(words, act);
        break;
    case ACT_KEY_LIMIT:
        words_say(words, "Limit how often ");
        say_key(words, act->name);
        words_say(words, " is used, by all clients together, to what is below, in place of the "
                         "limits it has. Over a limit everybody is refused.");
        break;
    default:
        words_say(words, "Use the private key with the label and id below, which is in ");
        say_tokens(words, act->tokens);
        words_say(words, " already, as one more copy of ");
        say_key(words, act->name);
        words_say(words, ". From then on requests for the key may be done with it.");
        break;
    }
}

static void say_granted(struct words *words, const struct act *act)
{
    bool may_sign = (act->operations & REGISTRY_SET(WIRE_SIGN)) != 0;
    bool may_decrypt =
        (act->operations & (REGISTRY_SET(WIRE_UNWRAP) | REGISTRY_SET(WIRE_AGREE))) != 0;
    words_say(words, "Let ");
    say_client(words, act->name);
    words_say(words, " use ");
    say_key(words, act->key);
    words_say(words, ". From then on ");
    say_client(words, act->name);
    words_say(words, " can ");
    if (may_sign) {
        words_say(words, "have everything signed with ");
        say_key(words, act->key);
        words_say(words, " that the key's purpose allows");
    }
    if (may_sign && may_decrypt)
        words_say(words, ", and ");
    if (may_decrypt) {
        words_say(words, "have everything decrypted that was encrypted for ");
        say_key(words, act->key);
    }
    words_say(words, ", within the limits below, whenever the key is enabled. This takes the place "
                     "of every grant it has for this key by then: what is not below it can do no "
                     "longer.");
}

static void say_client_act(struct words *words, const struct act *act)
{
    switch (act->kind) {
    case ACT_CLIENT_ADD:
        words_say(words, "Let ");
        say_client(words, act->name);
        words_say(words, " connect. Whoever has the private half of the public key below is this "
                         "client. It can use no key until it is granted one.");
        break;
    case ACT_CLIENT_REVOKE:
        words_say(words, "Shut ");
        say_client(words, act->name);
        words_say(words, " out, and drop all its grants. From its next request on it can do "
                         "nothing, though it be connected.");
        break;
    case ACT_GRANT:
        say_granted(words, act);
        break;
    default:
        words_say(words, "Drop all grants of ");
        say_client(words, act->name);
        words_say(words, " for ");
        say_key(words, act->key);
        words_say(words, ". From then on ");
        say_client(words, act->name);
        words_say(words, " cannot use it.");
        break;
    }
}

static void say_officer(struct words *words, const struct act *act)
{
    switch (act->kind) {
    case ACT_OFFICER_ADD:
        words_say(words, "Make ");
        words_quote(words, act->name);
        if (act->role == OFFICER_AUDITOR)
            words_say(words, " an auditor. From then on whoever has the private halves of the keys "
                             "below can read everything here, and change nothing.");
        else
            words_say(words, " an officer. From then on whoever has the private halves of the keys "
                             "below can propose every act and agree to every act, and counts for "
                             "the quorum.");
        break;
    case ACT_OFFICER_REMOVE:
        words_say(words, "Let ");
        words_quote(words, act->name);
        words_say(words, " be no officer and no auditor any more. From then on nothing that ");
        words_quote(words, act->name);
        words_say(words, " has signed counts, for pending proposals either.");
        break;
    default:
        if (act->number == 1)
            words_say(words, "From now on one officer alone can have every act carried out: nobody "
                             "else need agree.");
        else
            words_say(words,
                      "From now on %u officers must agree to every act, the one who "
                      "proposes it included.",
                      act->number);
        break;
    }
}

static void say_token(struct words *words, const struct act *act)
{
    if (act->kind == ACT_UNLOCK) {
        words_say(words, "Log in to token ");
        words_quote(words, act->name);
        words_say(words, " with the PIN that comes with this proposal. From then on the enabled "
                         "keys in it can be used.");
    } else {
        words_say(words, "Log out of token ");
        words_quote(words, act->name);
        words_say(words, ", and forget its PIN. From then on no key can be used in it, until it is "
                         "unlocked again.");
    }
}

static void say_what(struct words *words, const struct act *act)
{
    switch (act->kind) {
    case ACT_KEY_GENERATE:
    case ACT_KEY_IMPORT:
    case ACT_KEY_ADOPT:
        say_new_key(words, act);
        break;
    case ACT_KEY_REQUEST:
    case ACT_KEY_SELF_SIGN:
    case ACT_KEY_CERTIFICATE:
        say_certificate(words, act);
        break;
    case ACT_KEY_PLACE:
    case ACT_KEY_ENABLE:
    case ACT_KEY_DISABLE:
    case ACT_KEY_RETIRE:
    case ACT_KEY_DESTROY:
    case ACT_KEY_LIMIT:
        say_state(words, act);
        break;
    case ACT_CLIENT_ADD:
    case ACT_CLIENT_REVOKE:
    case ACT_GRANT:
    case ACT_UNGRANT:
        say_client_act(words, act);
        break;
    case ACT_OFFICER_ADD:
    case ACT_OFFICER_REMOVE:
    case ACT_QUORUM:
        say_officer(words, act);
        break;
    case ACT_UNLOCK:
    case ACT_LOCK:
        say_token(words, act);
        break;
    }
    words_say(words, "\n");
}

enum err act_explain(const struct act *act, struct buf *out)
{
    struct words words = {.out = out, .err = ERR_OK};
    size_t before = out->len;
    if (!act_kind_name(act->kind))
        return ERR_BUG;
    say_what(&words, act);
    words_fields(&words, act);
    if (words.err != ERR_OK && out->data) {
        // All or nothing.
        out->len = before;
        out->data[before] = 0;
    }
    return words.err;
}
