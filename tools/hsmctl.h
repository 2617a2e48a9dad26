// SPDX-License-Identifier: Apache-2.0
// The command of key officers and auditors: what its subcommands share. One table of options, one
// of commands (hsmctl_table.c); a command line becomes a struct call (hsmctl_parse.c), a call's
// command either makes an act, which is explained, signed and proposed (hsmctl_propose.c), or runs
// by itself.
#pragma once

#include <stdint.h>

#include <jansson.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"
#include "hsmd/officers/act.h"
#include "tools/hsmctl_session.h"

#define HSMCTL_EXIT_GOOD 0
#define HSMCTL_EXIT_BAD \
    1 // what was checked is not as it should be; hsmd, or who was asked, said no
#define HSMCTL_EXIT_TROUBLE 2 // called wrongly, or a file cannot be read
#define HSMCTL_EXIT_AWAY 3    // hsmd cannot be reached, or does not answer: may work later

// X(symbol, name, argument, letter, what it does). argument "": a flag; letter 0: none.
#define HSMCTL_OPTIONS(X)                                                                        \
    X(OPTION_CONFIG, "config", "FILE", 'c', "read this configuration file")                      \
    X(OPTION_JSON, "json", "", 0, "print one JSON document, errors too")                         \
    X(OPTION_YES, "yes", "", 0, "sign without asking")                                           \
    X(OPTION_PASSPHRASE_FD, "passphrase-fd", "N", 0, "read the officer's passphrase from there") \
    X(OPTION_LAPSE, "lapse", "DURATION", 0, "how long others have to agree: 30m, 2h, 7d")        \
    X(OPTION_AMEND, "amend", "N", 0, "change my pending proposal N instead of making another")   \
    X(OPTION_TIMEOUT, "timeout", "MS", 0, "wait that many milliseconds for hsmd")                \
    X(OPTION_HELP, "help", "", 'h', "how to call it")                                            \
    X(OPTION_VERSION, "version", "", 'V', "the version")                                         \
    X(OPTION_ALL, "all", "", 0, "those that have ended, too")                                    \
    X(OPTION_WATCH, "watch", "", 0, "again every two seconds")                                   \
    X(OPTION_PEM, "pem", "", 0, "print its certificates")                                        \
    X(OPTION_PUBLIC, "public", "", 0, "print its public half, PEM")                              \
    X(OPTION_TYPE, "type", "TYPE", 0, "rsa:3072, rsa:4096, ec:p256, ed25519, ...")               \
    X(OPTION_PURPOSE, "purpose", "PURPOSE", 0, "smime-sign, smime-decrypt, general or audit")    \
    X(OPTION_TOKEN, "token", "TOKEN[,..]", 0, "in which token")                                  \
    X(OPTION_ALGORITHMS, "algorithms", "A[,..]", 0, "these only")                                \
    X(OPTION_PKCS12, "pkcs12", "FILE", 0, "the key and its certificates")                        \
    X(OPTION_IMPORT_PASSPHRASE_FD, "import-passphrase-fd", "N", 0,                               \
      "read the PKCS#12 file's passphrase from there")                                           \
    X(OPTION_LABEL, "label", "LABEL", 0, "the key's CKA_LABEL in the token")                     \
    X(OPTION_ID, "id", "HEX", 0, "the key's CKA_ID in the token")                                \
    X(OPTION_COMMON_NAME, "common-name", "NAME", 0, "subject: CN")                               \
    X(OPTION_ORGANIZATION, "organization", "NAME", 0, "subject: O")                              \
    X(OPTION_UNIT, "unit", "NAME", 0, "subject: OU")                                             \
    X(OPTION_CITY, "city", "NAME", 0, "subject: L")                                              \
    X(OPTION_STATE, "state", "NAME", 0, "subject: ST")                                           \
    X(OPTION_COUNTRY, "country", "CC", 0, "subject: C, two letters")                             \
    X(OPTION_DOMAINS, "domains", "NAME[,..]", 0, "subjectAltName: DNS names")                    \
    X(OPTION_EMAILS, "emails", "ADDRESS[,..]", 0, "subjectAltName: mail addresses")              \
    X(OPTION_HASH, "hash", "HASH", 0, "sha256 (the default), sha384, sha512")                    \
    X(OPTION_PSS, "pss", "", 0, "sign with RSASSA-PSS")                                          \
    X(OPTION_ANY_NAME, "any-name", "", 0, "names need not be fully qualified")                   \
    X(OPTION_DAYS, "days", "N", 0, "valid for so long")                                          \
    X(OPTION_OUT, "out", "FILE", 0, "write there, not to standard output")                       \
    X(OPTION_NAME_AGAIN, "name-again", "NAME", 0, "the key's name again")                        \
    X(OPTION_PER_MINUTE, "per-minute", "N", 0, "uses in a minute")                               \
    X(OPTION_PER_HOUR, "per-hour", "N", 0, "uses in an hour")                                    \
    X(OPTION_TOTAL, "total", "N", 0, "uses in all")                                              \
    X(OPTION_FAILURES, "failures-per-hour", "N", 0, "failures of unwrap in an hour")             \
    X(OPTION_PUBLIC_KEY, "public-key", "KEY", 0, "the client's CURVE public key, Z85")           \
    X(OPTION_PUBLIC_KEY_FILE, "public-key-file", "FILE", 0, "a file with it")                    \
    X(OPTION_FILE, "file", "FILE", 0, "what hsmctl officer keygen wrote: NAME.pub")              \
    X(OPTION_ROLE, "role", "ROLE", 0, "officer (the default) or auditor")                        \
    X(OPTION_PIN_FD, "pin-fd", "N", 0, "read the token's PIN from there")

enum option_index {
#define X(symbol, name, argument, letter, what) symbol,
    HSMCTL_OPTIONS(X)
#undef X
        OPTION_COUNT
};

#define OPTION_SET(index) (UINT64_C(1) << (index))

struct option_row {
    const char *name, *argument, *what;
    char letter;
};
const struct option_row *option_at(enum option_index index); // NULL: past the last

struct call;

// What is to be done with an act: which of its fields come from where.
typedef enum err (*command_build)(struct call *call, struct act *act, struct detail *detail);
typedef enum err (*command_run)(struct call *call, struct detail *detail);

struct command {
    const char *words;     // "key generate"
    const char *arguments; // "NAME [X]", as the usage line has them; in brackets: optional
    uint64_t needed;       // options; of those marked with needs_one in the table, one
    uint64_t allowed;      // options besides those and the ones for all
    const char *what;      // one line
    enum act_kind kind;    // 0: none, then run is there
    command_build build;   // after the kind is set; may be NULL
    command_run run;       // for acts: NULL, they are proposed
    int (*raw)(int argc, char **argv); // parses by itself: nothing else counts. argv[0]: last word
};
const struct command *command_at(size_t index); // NULL: past the last
// The options for all commands that ask hsmd, and those of proposals.
uint64_t command_options(const struct command *command);
// How many arguments it takes at least and at most, from the usage line.
void command_arguments(const struct command *command, unsigned *min, unsigned *max);

#define CALL_ARGUMENTS_MAX 8

struct call {
    const struct command *command;
    const char *option[OPTION_COUNT]; // NULL: not given; "" of a flag; borrowed from argv
    const char *argument[CALL_ARGUMENTS_MAX];
    unsigned arguments;
    int failure;                                   // exit status if it fails
    int status;                                    // and if not
    struct buf id, public_key, certificates, text; // of the act, as long as the call
    struct secret attachment;                      // PIN or private key
    struct session session;
};

// Takes the command line apart. ERR_PERM: detail says what is wrong with it; call->command is set
// if that much is clear. call: zeroed; call_clear in the end, whatever it returned.
enum err call_parse(struct call *call, int argc, char **argv, struct detail *detail);
void call_clear(struct call *call);
bool call_has(const struct call *call, enum option_index index);
// A decimal number up to max, nothing but its digits. False: it is none.
bool number_get(const char *text, uint64_t max, uint64_t *number);
// Number of an option: 0 if not given. ERR_PERM: none, or over max.
enum err call_number(const struct call *call, enum option_index index, uint64_t max,
                     uint64_t *number, struct detail *detail);
enum err call_fd(const struct call *call, enum option_index index, int *fd,
                 struct detail *detail); // -1: not given
// How long others have to agree on an act of that kind, in seconds: an hour at most, and if nothing
// is said, of acts with a PIN or a private key.
enum err call_lapse(const struct call *call, enum act_kind kind, uint64_t *seconds,
                    struct detail *detail);
// The act of a command that has one: fills act from what the command line says, asks for what is
// secret. tokens (or name, of unlock and lock) may be empty: the only token there is.
enum err call_build(struct call *call, struct act *act, struct detail *detail);

// Prints usage of one command, or all that begin with a word, or the whole help.
void help_command(FILE *out, const struct command *command);
void help_group(FILE *out, const char *word);
void help_all(FILE *out);

// What commands do by themselves.
enum err run_status(struct call *call, struct detail *detail);
enum err run_proposals(struct call *call, struct detail *detail);
enum err run_approve(struct call *call, struct detail *detail);
enum err run_reject(struct call *call, struct detail *detail);
enum err run_key_list(struct call *call, struct detail *detail);
enum err run_key_show(struct call *call, struct detail *detail);
enum err run_client_list(struct call *call, struct detail *detail);
enum err run_officer_list(struct call *call, struct detail *detail);
enum err run_officer_keygen(struct call *call, struct detail *detail);
enum err run_token_list(struct call *call, struct detail *detail);
enum err run_token_show(struct call *call, struct detail *detail);
enum err run_usage(struct call *call, struct detail *detail);
enum err run_audit_fetch(struct call *call, struct detail *detail);
enum err run_result(struct call *call, struct detail *detail);
enum err run_proposal(struct call *call, struct detail *detail); // all those with an act
enum err run_batch(struct call *call, struct detail *detail);    // stops at what fails

// Of acts.
enum err build_generate(struct call *call, struct act *act, struct detail *detail);
enum err build_import(struct call *call, struct act *act, struct detail *detail);
enum err build_place(struct call *call, struct act *act, struct detail *detail); // and adopt
enum err build_subject(struct call *call, struct act *act, struct detail *detail);
enum err build_certificate(struct call *call, struct act *act, struct detail *detail);
enum err build_destroy(struct call *call, struct act *act, struct detail *detail);
enum err build_limits(struct call *call, struct act *act, struct detail *detail);
enum err build_client_add(struct call *call, struct act *act, struct detail *detail);
enum err build_grant(struct call *call, struct act *act, struct detail *detail);
enum err build_officer_add(struct call *call, struct act *act, struct detail *detail);
enum err build_quorum(struct call *call, struct act *act, struct detail *detail);
enum err build_unlock(struct call *call, struct act *act, struct detail *detail);

// Reads a proposal as READ_PROPOSALS has it, decodes its act and says whether its signature is
// that of the proposer and its digest the one hsmd says. act and statement borrow from encoding and
// from the JSON, act is only decoded if is_readable; ERR_DENIED: the signature is not good.
struct proposal {
    uint64_t number;
    struct buf act_bytes, nonce, signature, instance; // owned
    struct act act;
    bool is_readable; // act is there
    struct statement statement;
    uint8_t digest[STATEMENT_DIGEST_SIZE];
};
enum err proposal_open(struct call *call, const json_t *item, struct proposal *proposal,
                       struct detail *detail);
void proposal_clear(struct proposal *proposal);
// The proposal of an answer: err is what session_ask said. An act that failed when it was carried
// out is of the class of its failure and has the proposal all the same; that is ERR_OK here.
enum err proposal_take(enum err err, const struct buf *body, json_t **item, struct detail *detail);
// Appends the act in one sentence, cleaned, for the line before a question: what is above it may
// have gone from the screen.
enum err proposal_put_summary(const struct act *act, struct buf *out);
// Tells what became of it: carried out, waiting for whom, failed; sets call->status.
enum err proposal_tell(struct call *call, const json_t *item, struct detail *detail);

// Writes to the file of --out, or else to standard output.
enum err output_write(const struct call *call, struct bytes data, struct detail *detail);

// Of "audit": argv[0] is "audit"; "verify", "show", "export".
int hsmctl_audit(int argc, char **argv);
int hsmctl_audit_verify(int argc, char **argv);
int hsmctl_audit_show(int argc, char **argv);
int hsmctl_audit_export(int argc, char **argv);
int hsmctl_bench(int argc, char **argv);

// Prints "hsmctl: ..." and how to get help; returns HSMCTL_EXIT_TROUBLE.
int hsmctl_usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
// Prints "hsmctl: ..."; returns HSMCTL_EXIT_TROUBLE.
int hsmctl_trouble(const struct detail *detail);
