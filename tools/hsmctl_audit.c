// SPDX-License-Identifier: Apache-2.0
// hsmctl audit verify. Off-line: it needs the log and the audit key's public half, no hsmd; but
// with
// --live hsmd is asked first where its log ends.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "hsmd/audit/audit_signed.h"
#include "hsmd/audit/audit_verify.h"
#include "hsmd/base/file.h"
#include "hsmd/base/text.h"
#include "hsmd/base/secret.h"
#include "tools/hsmctl.h"
#include "tools/hsmctl_audit_state.h"

#define KEY_FILE_MAX 65536
#define READ_SIZE 65536

struct options {
    const char *key_files[AUDIT_KEYS_MAX];
    unsigned key_count;
    bool has_no_key, is_json, is_live;
    const char *config, *passphrase_fd; // of --live; may be NULL
    const char *state;                  // NULL: none
    struct audit_expected expected;
};

static enum err load_key(const char *path, EVP_PKEY **key, struct detail *detail)
{
    struct buf text;
    buf_init(&text, KEY_FILE_MAX);
    enum err err = file_read(path, &text, detail);
    BIO *bio = err == ERR_OK ? BIO_new_mem_buf(text.data, (int)text.len) : NULL;
    if (bio)
        *key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    BIO_free(bio);
    buf_clear(&text);
    if (err == ERR_OK && !*key)
        err = err_openssl(detail, ERR_PERM, "%s: no public key in PEM", path);
    return err;
}

// Those after the first one are of a log that was signed with one after the other.
static enum err load_keys(const struct options *options, EVP_PKEY **keys, struct detail *detail)
{
    enum err err = ERR_OK;
    for (unsigned i = 0; i < options->key_count && err == ERR_OK; i++)
        err = load_key(options->key_files[i], &keys[i], detail);
    return err;
}

// "-" is standard input.
static enum err read_log(struct audit_verify *verify, const char *path, struct detail *detail)
{
    static uint8_t piece[READ_SIZE];
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(detail, ERR_PERM, "%s", path);
    ssize_t n = 0;
    audit_verify_file(verify, path);
    while ((n = read(fd, piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0)
            audit_verify_put(verify, bytes_of(piece, (size_t)n));
    }
    enum err err = n < 0 ? err_errno(detail, ERR_PERM, "%s", path) : ERR_OK;
    if (!is_stdin)
        close(fd);
    return err;
}

static const char *hex_of(const uint8_t hash[AUDIT_HASH_SIZE], char out[2 * AUDIT_HASH_SIZE + 1])
{
    for (unsigned i = 0; i < AUDIT_HASH_SIZE; i++)
        sprintf(out + 2 * i, "%02x", hash[i]);
    return out;
}

static int print_json(const struct options *options, const struct audit_report *report,
                      const struct audit_link *former)
{
    bool has_key = options->key_count > 0;
    char hash[2 * AUDIT_HASH_SIZE + 1];
    json_t *json = json_pack(
        "{s:b, s:I, s:I, s:I, s:I, s:s, s:b, s:I, s:I, s:s, s:I, s:b, s:b, s:I, s:I}", "good",
        !report->is_bad, "files", (json_int_t)report->files, "lines", (json_int_t)report->lines,
        "first_seq", (json_int_t)report->first_seq, "last_seq", (json_int_t)report->last.seq,
        "last_hash", hex_of(report->last.hash, hash), "signatures_checked", has_key, "checkpoints",
        (json_int_t)report->checkpoints, "covered_seq", (json_int_t)report->covered, "covered_time",
        report->covered_time, "uncovered", (json_int_t)report->uncovered, "closed",
        report->is_closed, "torn_end", report->has_torn_end, "torn", (json_int_t)report->torn,
        "unclean_starts", (json_int_t)report->unclean);
    if (json && options->state)
        json_object_set_new(json, "former_seq", json_integer((json_int_t)former->seq));
    if (json && report->is_bad)
        json_object_set_new(json, "bad",
                            json_pack("{s:s?, s:I, s:I, s:s}", "file", report->bad_file, "line",
                                      (json_int_t)report->bad_line, "seq",
                                      (json_int_t)report->bad_seq, "reason", report->reason.text));
    bool ok = json && json_dumpf(json, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF;
    json_decref(json);
    return ok ? 0 : -1;
}

static void print_bad(const struct audit_report *report)
{
    if (report->bad_file && report->bad_seq)
        printf("BAD: %s, line %" PRIu64 " (seq %" PRIu64 "): %s\n", report->bad_file,
               report->bad_line, report->bad_seq, report->reason.text);
    else if (report->bad_file)
        printf("BAD: %s, line %" PRIu64 ": %s\n", report->bad_file, report->bad_line,
               report->reason.text);
    else
        printf("BAD: %s\n", report->reason.text);
    if (report->last.seq)
        printf("The lines before that fit together, up to seq %" PRIu64 ".\n", report->last.seq);
}

static void print_text(const struct options *options, const struct audit_report *report,
                       const struct audit_link *former)
{
    bool has_key = options->key_count > 0;
    char hash[2 * AUDIT_HASH_SIZE + 1];
    if (report->is_bad)
        print_bad(report);
    else
        printf("good: %" PRIu64 " lines in %" PRIu64 " file%s, seq %" PRIu64 " to %" PRIu64 "\n",
               report->lines, report->files, report->files == 1 ? "" : "s", report->first_seq,
               report->last.seq);
    if (!has_key)
        puts("no key was given: signatures were not checked");
    else if (report->checkpoints)
        printf("signed: up to seq %" PRIu64 " at %s, %" PRIu64 " checkpoints\n", report->covered,
               report->covered_time, report->checkpoints);
    if (report->is_bad)
        return;
    if (options->state && former->seq)
        printf("it goes on from seq %" PRIu64 ", which a former check has seen\n", former->seq);
    else if (options->state)
        puts("note: no former check of this key is known; this one is remembered");
    if (report->first_seq > 1)
        printf("note: lines before seq %" PRIu64 " were not looked at\n", report->first_seq);
    if (has_key && report->uncovered)
        printf("note: %" PRIu64 " lines after that are not signed yet\n", report->uncovered);
    if (report->torn)
        printf("note: %" PRIu64 " times a line was torn, and hsmd said so after it\n",
               report->torn);
    if (report->unclean)
        printf("note: %" PRIu64 " times hsmd was started without having stopped\n",
               report->unclean);
    if (!report->is_closed)
        printf("note: open end: %s\n", report->has_torn_end
                                           ? "the last line is not whole"
                                           : "hsmd is running, or was killed, or the end is cut");
    printf("last: seq %" PRIu64 ", hash %s\n", report->last.seq, hex_of(report->last.hash, hash));
}

static enum err take_head(const json_t *status, struct audit_expected *expected,
                          struct detail *detail)
{
    const json_t *audit = json_object_get(status, "audit");
    const char *hash = json_string_value(json_object_get(audit, "hash"));
    json_int_t seq = json_integer_value(json_object_get(audit, "seq"));
    if (seq < 1 || !text_get_hex_exact(hash, expected->hash, AUDIT_HASH_SIZE))
        return err_set(detail, ERR_PERM, "hsmd does not say where its audit log ends");
    expected->seq = (uint64_t)seq;
    expected->has_hash = true;
    return ERR_OK;
}

// Before the files are read: what hsmd writes afterwards may be missing.
static enum err ask_hsmd(const struct options *options, struct audit_expected *expected,
                         int *failure, struct detail *detail)
{
    struct call call = {.failure = HSMCTL_EXIT_TROUBLE};
    json_t *status = NULL;
    call.option[OPTION_CONFIG] = options->config;
    call.option[OPTION_PASSPHRASE_FD] = options->passphrase_fd;
    enum err err = secret_harden_process(detail);
    if (err == ERR_OK)
        err = session_read(&call, READ_STATUS, NULL, &status, detail);
    if (err == ERR_OK)
        err = take_head(status, expected, detail);
    *failure = call.failure;
    json_decref(status);
    call_clear(&call);
    return err;
}

static enum err read_logs(const struct options *options, EVP_PKEY *const *keys, char **files,
                          const struct audit_expected *expected, struct audit_verify **verify,
                          struct detail *detail)
{
    enum err err = audit_verify_new(keys[0], expected, verify, detail);
    for (unsigned i = 1; i < options->key_count && err == ERR_OK; i++)
        err = audit_verify_add_key(*verify, keys[i], detail);
    for (; err == ERR_OK && *files; files++)
        err = read_log(*verify, *files, detail);
    return err;
}

static enum err print(const struct options *options, const struct audit_report *report,
                      const struct audit_link *former, struct detail *detail)
{
    bool is_printed = true;
    if (options->is_json)
        is_printed = print_json(options, report, former) == 0;
    else
        print_text(options, report, former);
    return is_printed && fflush(stdout) == 0 ? ERR_OK
                                             : err_errno(detail, ERR_TEMP, "standard output");
}

static int verify_files(const struct options *options, char **files)
{
    EVP_PKEY *keys[AUDIT_KEYS_MAX] = {NULL};
    struct audit_expected expected = options->expected;
    struct audit_verify *verify = NULL;
    struct audit_state state;
    struct detail detail = {0};
    int status = HSMCTL_EXIT_GOOD;
    enum err err = load_keys(options, keys, &detail);
    if (err == ERR_OK && options->state)
        err = audit_state_load(options->state, &state, &detail);
    if (err == ERR_OK && options->state)
        err = audit_state_find(&state, keys, options->key_count, &expected.former, &detail);
    if (err == ERR_OK)
        err = read_logs(options, keys, files, &expected, &verify, &detail);
    if (err == ERR_OK) {
        const struct audit_report *report = audit_verify_end(verify);
        status = report->is_bad ? HSMCTL_EXIT_BAD : HSMCTL_EXIT_GOOD;
        err = print(options, report, &expected.former, &detail);
        bool is_news = options->state && !report->is_bad;
        if (err == ERR_OK && is_news)
            err = audit_state_set(&state, keys, options->key_count, &report->last, &detail);
        if (err == ERR_OK && is_news)
            err = audit_state_save(options->state, &state, &detail);
    }
    audit_verify_free(verify);
    for (unsigned i = 0; i < options->key_count; i++)
        EVP_PKEY_free(keys[i]);
    return err == ERR_OK ? status : hsmctl_trouble(&detail);
}

// What is wrong with them together. NULL: nothing.
static const char *check_options(const struct options *options, bool has_files)
{
    if (!options->key_count == !options->has_no_key)
        return "either --key or --no-key must be given";
    if (!has_files)
        return "no file given";
    if (options->is_live && (options->expected.seq || options->expected.has_hash))
        return "either --live or --expect-seq, --expect-hash";
    if (options->state && options->has_no_key)
        return "--state goes with --key";
    if (!options->is_live && (options->config || options->passphrase_fd))
        return "--config and --passphrase-fd go with --live";
    return NULL;
}

int hsmctl_audit_verify(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"key", required_argument, NULL, 'k'},
        {"no-key", no_argument, NULL, 'n'},
        {"expect-seq", required_argument, NULL, 's'},
        {"closed", no_argument, NULL, 'c'},
        {"expect-hash", required_argument, NULL, 'h'},
        {"json", no_argument, NULL, 'j'},
        {"live", no_argument, NULL, 'l'},
        {"config", required_argument, NULL, 'f'},
        {"passphrase-fd", required_argument, NULL, 'p'},
        {"state", required_argument, NULL, 't'},
        {0},
    };
    struct options options = {0};
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c == 'k' && options.key_count == AUDIT_KEYS_MAX)
            return hsmctl_usage_error("more than %d times --key", AUDIT_KEYS_MAX);
        if (c == 'k')
            options.key_files[options.key_count++] = optarg;
        else if (c == 'n')
            options.has_no_key = true;
        else if (c == 'c')
            options.expected.is_closed = true;
        else if (c == 'j')
            options.is_json = true;
        else if (c == 'l')
            options.is_live = true;
        else if (c == 'f')
            options.config = optarg;
        else if (c == 'p')
            options.passphrase_fd = optarg;
        else if (c == 't')
            options.state = optarg;
        else if (c == 's' &&
                 (*optarg == '0' || !number_get(optarg, UINT64_MAX, &options.expected.seq)))
            return hsmctl_usage_error("--expect-seq: \"%s\" is no number of a line", optarg);
        else if (c == 'h' && !text_get_hex_exact(optarg, options.expected.hash, AUDIT_HASH_SIZE))
            return hsmctl_usage_error("--expect-hash: \"%s\" is no SHA-256 in hex", optarg);
        else if (c == '?')
            return hsmctl_usage_error("wrong option");
        options.expected.has_hash = options.expected.has_hash || c == 'h';
    }
    const char *wrong = check_options(&options, optind < argc);
    if (wrong)
        return hsmctl_usage_error("%s", wrong);
    int failure = HSMCTL_EXIT_TROUBLE;
    struct detail detail = {0};
    if (options.is_live && ask_hsmd(&options, &options.expected, &failure, &detail) != ERR_OK) {
        (void)hsmctl_trouble(&detail);
        return failure;
    }
    return verify_files(&options, argv + optind);
}

int hsmctl_audit(int argc, char **argv)
{
    if (argc < 2)
        return hsmctl_usage_error("audit: verify, show or export?");
    if (strcmp(argv[1], "verify") == 0)
        return hsmctl_audit_verify(argc - 1, argv + 1);
    if (strcmp(argv[1], "show") == 0)
        return hsmctl_audit_show(argc - 1, argv + 1);
    if (strcmp(argv[1], "export") == 0)
        return hsmctl_audit_export(argc - 1, argv + 1);
    return hsmctl_usage_error("audit: there is no \"%s\"", argv[1]);
}
