// SPDX-License-Identifier: Apache-2.0
// sealgate process: one message through the pipeline, from standard input to standard output or
// into a folder.
#include "tools/sealgate.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "gateway/pipeline.h"
#include "hsmd/base/alloc.h"
#include "hsmd/base/file.h"

#define READ_CHUNK 65536

struct process {
    const struct conf *conf;
    struct request request;
    const char **recipients; // owned
    const char *out_directory;
    bool has_direction;
    struct gateway *gateway;
    struct message *message;
    struct spool *input;
};

static enum err read_input(struct process *p, struct detail *detail)
{
    static uint8_t chunk[READ_CHUNK];
    ssize_t n;
    p->input = spool_new(&p->gateway->spool);
    if (!p->input)
        return err_set(detail, ERR_TEMP, "out of memory");
    while ((n = read(STDIN_FILENO, chunk, sizeof chunk)) > 0) {
        enum err err = spool_put(p->input, bytes_of(chunk, (size_t)n), detail);
        if (err)
            return err;
    }
    if (n < 0)
        return err_errno(detail, ERR_PERM, "standard input");
    if (spool_len(p->input) > p->conf->message_max)
        return err_set(detail, ERR_PERM, "the message is over message-max, %zu bytes",
                       p->conf->message_max);
    struct bytes raw;
    enum err err = spool_view(p->input, &raw, detail);
    return err ? err : message_parse(raw, &p->gateway->spool, &p->message, detail);
}

// The bytes of a copy: those that came in, if nothing was changed.
static enum err copy_bytes(const struct process *p, const struct outcome_copy *copy,
                           struct spool **written, struct bytes *bytes, struct detail *detail)
{
    *written = NULL;
    if (!copy->message)
        return spool_view(p->input, bytes, detail);
    *written = spool_new(&p->gateway->spool);
    if (!*written)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = message_write(copy->message, *written, detail);
    return err ? err : spool_view(*written, bytes, detail);
}

static enum err write_stdout(struct bytes bytes, struct detail *detail)
{
    while (bytes.len > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes.data, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(detail, ERR_TEMP, "standard output");
        bytes.data += n;
        bytes.len -= (size_t)n;
    }
    return ERR_OK;
}

static enum err write_envelope(const struct process *p, const struct outcome_copy *copy,
                               const char *path, struct detail *detail)
{
    json_t *recipients = json_array();
    for (size_t i = 0; i < copy->recipient_count; i++)
        json_array_append_new(recipients,
                              json_string(p->request.envelope.recipients[copy->recipients[i]]));
    json_t *root = json_pack("{s:s, s:o, s:b}", "from", p->request.envelope.sender, "rcpt",
                             recipients, "protected", (int)copy->is_protected);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return err_set(detail, ERR_PERM, "%s: the addresses are not UTF-8", path);
    struct buf line;
    buf_init(&line, SIZE_MAX);
    enum err err = buf_put_text(&line, text);
    if (!err)
        err = buf_put_text(&line, "\n");
    err = err ? err_set(detail, err, "out of memory")
              : file_write(path, bytes_of_text(buf_text(&line)), 0600, detail);
    buf_clear(&line);
    free(text);
    return err;
}

static enum err write_folder(const struct process *p, const struct outcome *outcome,
                             struct detail *detail)
{
    char path[4096];
    if (mkdir(p->out_directory, 0700) != 0 && errno != EEXIST)
        return err_errno(detail, ERR_PERM, "%s", p->out_directory);
    for (size_t i = 0; i < outcome->copy_count; i++) {
        struct spool *written = NULL;
        struct bytes bytes = {0};
        snprintf(path, sizeof path, "%s/%zu.eml", p->out_directory, i + 1);
        enum err err = copy_bytes(p, &outcome->copies[i], &written, &bytes, detail);
        if (!err)
            err = file_write(path, bytes, 0600, detail);
        spool_free(written);
        snprintf(path, sizeof path, "%s/%zu.json", p->out_directory, i + 1);
        if (!err)
            err = write_envelope(p, &outcome->copies[i], path, detail);
        if (err)
            return err;
    }
    return ERR_OK;
}

static enum err write_single(const struct process *p, const struct outcome *outcome,
                             struct detail *detail)
{
    struct spool *written = NULL;
    struct bytes bytes = {0};
    enum err err = copy_bytes(p, &outcome->copies[0], &written, &bytes, detail);
    if (!err)
        err = write_stdout(bytes, detail);
    spool_free(written);
    return err;
}

static int report_verdict(const struct verdict *verdict)
{
    if (*verdict->code)
        fprintf(stderr, "sealgate: %s: %s %s %s\n", verdict_kind_name(verdict->kind), verdict->code,
                verdict->enhanced, verdict->text);
    else
        fprintf(stderr, "sealgate: %s: %s\n", verdict_kind_name(verdict->kind), verdict->text);
    return verdict_exit_status(verdict->kind);
}

// What the reply keeps from a sender, the operator wants to know.
static void report_outcome(const struct outcome *outcome)
{
    if (outcome->verdict.kind != VERDICT_DELIVER)
        (void)report_verdict(&outcome->verdict);
    if (*outcome->note)
        fprintf(stderr, "sealgate: %s: %s\n", verdict_kind_name(outcome->verdict.kind),
                outcome->note);
    if (outcome->err)
        fprintf(stderr, "sealgate: %s: %s\n", verdict_kind_name(outcome->verdict.kind),
                outcome->why.text);
}

static int run(struct process *p)
{
    struct detail detail = {0};
    struct outcome outcome;
    enum err err = gateway_open(p->conf, &p->gateway, &detail);
    if (err)
        return sealgate_failure(err, &detail, SEALGATE_EXIT_CONFIG);
    err = read_input(p, &detail);
    if (err == ERR_PERM) { // as sealgated answers it
        struct verdict verdict;
        verdict_reply(&verdict, "552 5.3.4", "%s", detail.text);
        return report_verdict(&verdict);
    }
    if (err)
        return sealgate_failure(err, &detail, SEALGATE_EXIT_FAILED);
    p->request.message = p->message;
    pipeline_run(p->gateway, &p->request, &outcome);
    pipeline_log(&p->request, &outcome);
    int status = verdict_exit_status(outcome.verdict.kind);
    if (outcome.verdict.kind != VERDICT_DELIVER) {
        // nothing to write
    } else if (p->out_directory) {
        err = write_folder(p, &outcome, &detail);
    } else if (outcome.copy_count > 1) {
        status = sealgate_usage_error("%zu copies for different recipients came out: "
                                      "give --out DIR for them",
                                      outcome.copy_count);
    } else {
        err = write_single(p, &outcome, &detail);
    }
    report_outcome(&outcome);
    outcome_clear(&outcome);
    return err ? sealgate_failure(err, &detail, SEALGATE_EXIT_FAILED) : status;
}

static int read_options(struct process *p, int argc, char **argv)
{
    static const struct option options[] = {{"outbound", no_argument, NULL, 'o'},
                                            {"inbound", no_argument, NULL, 'i'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"rcpt", required_argument, NULL, 'r'},
                                            {"profile", required_argument, NULL, 'p'},
                                            {"out", required_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    struct request *request = &p->request;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        switch (c) {
        case 'o':
        case 'i':
            if (p->has_direction)
                return sealgate_usage_error("give one of --outbound and --inbound");
            p->has_direction = true;
            request->direction = c == 'o' ? DIRECTION_OUTBOUND : DIRECTION_INBOUND;
            break;
        case 'f':
            request->envelope.sender = optarg;
            break;
        case 'r':
            p->recipients[request->envelope.recipient_count++] = optarg;
            break;
        case 'p':
            request->profile = optarg;
            break;
        case 'd':
            p->out_directory = optarg;
            break;
        default:
            return sealgate_usage_error("wrong option");
        }
    }
    if (optind < argc)
        return sealgate_usage_error("\"%s\" is too much", argv[optind]);
    if (!p->has_direction)
        return sealgate_usage_error("give --outbound or --inbound");
    if (!request->envelope.sender || request->envelope.recipient_count == 0)
        return sealgate_usage_error("give --from and --rcpt");
    if (request->profile && request->direction == DIRECTION_INBOUND)
        return sealgate_usage_error("--profile is for --outbound");
    if (request->profile && strcmp(request->profile, "none") != 0 &&
        !conf_profile(p->conf, request->profile))
        return sealgate_usage_error("there is no profile \"%s\"", request->profile);
    return SEALGATE_EXIT_OK;
}

int sealgate_process(const struct conf *conf, int argc, char **argv)
{
    struct process p = {.conf = conf};
    p.recipients = mem_calloc((size_t)argc, sizeof *p.recipients);
    if (!p.recipients)
        return SEALGATE_EXIT_TEMPORARY;
    p.request.envelope.recipients = p.recipients;
    int status = read_options(&p, argc, argv);
    if (status == SEALGATE_EXIT_OK)
        status = run(&p);
    message_free(p.message);
    spool_free(p.input);
    gateway_close(p.gateway);
    mem_free(p.recipients);
    return status;
}
