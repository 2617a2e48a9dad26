// SPDX-License-Identifier: Apache-2.0
// sealgate certificate: the certificates of others (F25).
#include "tools/sealgate.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <jansson.h>
#include <openssl/pem.h>

#include "gateway/certificate.h"
#include "gateway/certstore.h"
#include "hsmd/base/text.h"

struct certificate_command {
    struct certstore *store;
    bool as_json;
    json_t *list; // of `list --json`
    struct detail detail;
};

static void format_time(const ASN1_TIME *time, char out[32])
{
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(time, &tm) != 1 || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(out, 32, "?");
}

static void take_name_json(void *ctx, enum certificate_match kind, const char *name)
{
    json_t *root = ctx;
    const char *field = kind == CERTIFICATE_MATCHES_ADDRESS ? "addresses" : "domains";
    json_array_append_new(json_object_get(root, field), json_string(name));
}

static json_t *to_json(const char *name, const X509 *cert)
{
    char subject[400], issuer[400], serial[80], fingerprint[CERTIFICATE_FINGERPRINT_SIZE];
    char not_before[32], not_after[32];
    certificate_subject(cert, subject, sizeof subject);
    certificate_issuer(cert, issuer, sizeof issuer);
    certificate_serial(cert, serial, sizeof serial);
    certificate_fingerprint(cert, fingerprint);
    format_time(X509_get0_notBefore(cert), not_before);
    format_time(X509_get0_notAfter(cert), not_after);
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:[], s:[]}", "name", name,
                  "subject", subject, "issuer", issuer, "serial", serial, "sha256", fingerprint,
                  "not-before", not_before, "not-after", not_after, "encrypts",
                  certificate_check_encryption(cert, NULL) == ERR_OK, "expired",
                  certificate_is_expired(cert, time(NULL)), "addresses", "domains");
    if (root)
        certificate_each_name(cert, take_name_json, root);
    return root;
}

static void take_name_text(void *ctx, enum certificate_match kind, const char *name)
{
    char quoted[TEXT_QUOTED_SIZE];
    text_quote(name, strlen(name), quoted, sizeof quoted);
    fprintf(ctx, "%s %s\n",
            kind == CERTIFICATE_MATCHES_ADDRESS ? "address:    " : "domain:     ", quoted);
}

static void print_text(const char *name, X509 *cert)
{
    char subject[400], issuer[400], serial[80], fingerprint[CERTIFICATE_FINGERPRINT_SIZE];
    char not_before[32], not_after[32];
    struct detail why = {0};
    certificate_subject(cert, subject, sizeof subject);
    certificate_issuer(cert, issuer, sizeof issuer);
    certificate_serial(cert, serial, sizeof serial);
    certificate_fingerprint(cert, fingerprint);
    format_time(X509_get0_notBefore(cert), not_before);
    format_time(X509_get0_notAfter(cert), not_after);
    printf("name:        %s\nsubject:     %s\nissuer:      %s\nserial:      %s\nsha256:      %s\n",
           name, subject, issuer, serial, fingerprint);
    printf("valid:       %s to %s%s\n", not_before, not_after,
           certificate_is_expired(cert, time(NULL)) ? " (expired)" : "");
    certificate_each_name(cert, take_name_text, stdout);
    if (certificate_check_encryption(cert, &why) == ERR_OK)
        puts("encrypts:    yes");
    else
        printf("encrypts:    no: %s\n", why.text);
}

static int print_json(json_t *root)
{
    if (!root) {
        fputs("sealgate: out of memory, or a name is not UTF-8\n", stderr);
        return SEALGATE_EXIT_TEMPORARY;
    }
    int failed = json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
    return failed ? SEALGATE_EXIT_TEMPORARY : SEALGATE_EXIT_OK;
}

static int print_one(const struct certificate_command *c, const char *name, X509 *cert)
{
    if (c->as_json)
        return print_json(to_json(name, cert));
    print_text(name, cert);
    return SEALGATE_EXIT_OK;
}

static int add(struct certificate_command *c, char **args)
{
    STACK_OF(X509) *certs = NULL;
    enum err err = ERR_OK;
    if (!text_is_name(args[0], strlen(args[0])))
        return sealgate_usage_error("\"%s\" is not a name (a-z A-Z 0-9 . _ -)", args[0]);
    err = certificate_read(args[1], &certs, &c->detail);
    // In a file with a chain the first one is the holder's.
    if (!err)
        err = certstore_add(c->store, args[0], sk_X509_value(certs, 0), &c->detail);
    int status = err ? sealgate_failure(err, &c->detail, SEALGATE_EXIT_FAILED)
                     : print_one(c, args[0], sk_X509_value(certs, 0));
    sk_X509_pop_free(certs, X509_free);
    return status;
}

static bool take_listed(void *ctx, const char *name, X509 *cert)
{
    struct certificate_command *c = ctx;
    if (c->list) {
        json_array_append_new(c->list, to_json(name, cert));
        return true;
    }
    char subject[400], not_after[32];
    certificate_subject(cert, subject, sizeof subject);
    format_time(X509_get0_notAfter(cert), not_after);
    printf("%-24s until %s  %s%s\n", name, not_after, subject,
           certificate_is_expired(cert, time(NULL)) ? "  (expired)" : "");
    return true;
}

static int list(struct certificate_command *c, char **args)
{
    (void)args;
    if (c->as_json)
        c->list = json_array();
    enum err err = certstore_each(c->store, take_listed, c, &c->detail);
    if (err) {
        json_decref(c->list);
        return sealgate_failure(err, &c->detail, SEALGATE_EXIT_FAILED);
    }
    return c->as_json ? print_json(c->list) : SEALGATE_EXIT_OK;
}

static int failure_of(struct certificate_command *c, enum err err, const char *name)
{
    return sealgate_failure(err_prefix(&c->detail, err, "%s", name), &c->detail,
                            SEALGATE_EXIT_FAILED);
}

static int show(struct certificate_command *c, char **args)
{
    X509 *cert = NULL;
    enum err err = certstore_get(c->store, args[0], &cert, &c->detail);
    if (err)
        return failure_of(c, err, args[0]);
    int status = print_one(c, args[0], cert);
    if (!c->as_json && PEM_write_X509(stdout, cert) != 1)
        status = SEALGATE_EXIT_TEMPORARY;
    X509_free(cert);
    return status;
}

static int remove_one(struct certificate_command *c, char **args)
{
    enum err err = certstore_remove(c->store, args[0], &c->detail);
    return err ? failure_of(c, err, args[0]) : SEALGATE_EXIT_OK;
}

static const struct {
    const char *name;
    int arguments;
    int (*run)(struct certificate_command *c, char **args);
} verbs[] = {
    {"add", 2, add},
    {"list", 0, list},
    {"show", 1, show},
    {"remove", 1, remove_one},
};

int sealgate_certificate(const struct conf *conf, int argc, char **argv)
{
    struct certificate_command c = {0};
    if (argc > 1 && strcmp(argv[argc - 1], "--json") == 0) {
        c.as_json = true;
        argc--;
    }
    if (argc < 2)
        return sealgate_usage_error("certificate: add, list, show or remove?");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].name, argv[1]) != 0)
            continue;
        if (argc - 2 != verbs[i].arguments)
            return sealgate_usage_error("certificate %s: wrong number of arguments", argv[1]);
        enum err err = certstore_open(conf->store, &c.store, &c.detail);
        if (err)
            return sealgate_failure(err, &c.detail, SEALGATE_EXIT_CONFIG);
        int status = verbs[i].run(&c, argv + 2);
        certstore_close(c.store);
        return status;
    }
    return sealgate_usage_error("certificate: there is no \"%s\"", argv[1]);
}
