// SPDX-License-Identifier: Apache-2.0
#include "tests/support/organisation.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/base/log.h"
#include "tests/support/pki.h"

#define HOUR 3600L
#define YEAR (365 * 24 * HOUR)

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

static const struct identity_row {
    const char *name;
    enum pki_key key;
    const char *san;
    bool decrypts;
    const char *key_uri; // NULL: a file
} rows[] = {
    {"signing", PKI_RSA_2048, "DNS:a.example", false, NULL},
    {"ec-signing", PKI_EC_P256, "DNS:ec.example", false, NULL},
    {"personal", PKI_RSA_2048_B, "email:bob@a.example", false, NULL},
    {"expired", PKI_RSA_2048, "DNS:expired.example", false, NULL},
    {"foreign", PKI_RSA_2048, "DNS:foreign.example", false, NULL},
    {"absent", PKI_RSA_2048, "DNS:absent.example", false, "hsmd:absent"},
    {"decryption", PKI_RSA_2048, "DNS:b.example", true, NULL},
    {"ec-decryption", PKI_EC_P256, "DNS:ec.b.example", true, NULL},
    {"both-rsa", PKI_RSA_2048_B, "email:both@b.example", true, NULL},
    {"both-ec", PKI_EC_P256_B, "email:both@b.example", true, NULL},
};

static const char conf_head[] =
    "domains = { \"a.example\" }\n"
    "authserv-id = \"mx.b.example\"\n"
    "store = \"certificates.db\"\n"
    "trust-anchors = \"ca.pem\"\n"
    "spool-directory = \"spool\"\n"
    "spool-memory = 20000\n"
    "profile sign { mode = sign signer = { signing, ec-signing } }\n"
    "profile sign-opaque { mode = sign signer = { signing, ec-signing } sign-mode = opaque }\n"
    "profile sign-pss { mode = sign signer = { signing } pss = true hash = sha512 }\n"
    "profile encrypt { mode = encrypt }\n"
    "profile encrypt-gcm { mode = encrypt cipher = aes-256-gcm oaep = true }\n"
    "profile sign-encrypt { mode = sign-encrypt signer = { signing, ec-signing } }\n"
    "profile sign-encrypt-opaque { mode = sign-encrypt signer = { signing, ec-signing }\n"
    "  sign-mode = opaque }\n"
    "profile triple { mode = triple signer = { signing, ec-signing } }\n"
    "profile triple-opaque { mode = triple signer = { signing, ec-signing } sign-mode = opaque }\n"
    "profile drop { mode = sign-encrypt signer = { signing } missing-key = drop }\n"
    "profile split { mode = sign-encrypt signer = { signing } missing-key = split }\n"
    "profile all-signers { mode = sign\n"
    "  signer = { signing, ec-signing, personal, expired, foreign, absent } }\n"
    "outbound { profile = sign-encrypt }\n";

const char *organisation_path(const struct organisation *organisation, const char *name)
{
    static char paths[8][200];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", organisation->directory, name);
    return path;
}

static X509 *make_certificate(const struct identity_row *row, X509 *ca, X509 *other_ca)
{
    EVP_PKEY *ca_key = pki_key(PKI_EC_P384);
    if (row->decrypts)
        return pki_recipient(row->name, row->key, row->san, ca, ca_key);
    if (strcmp(row->name, "foreign") == 0)
        return pki_signer(row->name, row->key, row->san, other_ca, ca_key);
    if (strcmp(row->name, "expired") != 0)
        return pki_signer(row->name, row->key, row->san, ca, ca_key);
    struct pki_request request = {.name = row->name,
                                  .key = row->key,
                                  .san = row->san,
                                  .key_usage = "critical,digitalSignature,nonRepudiation",
                                  .from = -YEAR,
                                  .until = -HOUR};
    return pki_certificate(&request, ca, ca_key);
}

static void write_identity(const struct organisation *o, FILE *conf, const struct identity_row *row,
                           X509 *cert)
{
    char file[60];
    snprintf(file, sizeof file, "%s.pem", row->name);
    pki_write_certificates(organisation_path(o, file), cert, NULL);
    snprintf(file, sizeof file, "%s.key", row->name);
    pki_write_key(organisation_path(o, file), pki_key(row->key));
    fprintf(conf, "identity %s { certificate-file = \"%s.pem\" use = %s key = \"", row->name,
            row->name, row->decrypts ? "decrypt" : "sign");
    if (row->key_uri)
        fprintf(conf, "%s\" }\n", row->key_uri);
    else
        fprintf(conf, "file:%s\" }\n", organisation_path(o, file));
}

static void fill_store(const struct organisation *o, X509 *const certs[], X509 *ca)
{
    struct certstore *store = NULL;
    struct detail detail = {0};
    CHECK(certstore_open(organisation_path(o, "certificates.db"), &store, &detail) == ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].decrypts)
            CHECK(certstore_add(store, rows[i].name, certs[i], &detail) == ERR_OK);
    }
    X509 *nobody = pki_recipient("b2", PKI_RSA_2048_B, "DNS:b2.example", ca, pki_key(PKI_EC_P384));
    CHECK(certstore_add(store, "domain-b2", nobody, &detail) == ERR_OK);
    X509_free(nobody);
    certstore_close(store);
}

static void write_files(const struct organisation *o, const char *more)
{
    X509 *certs[sizeof rows / sizeof *rows];
    X509 *ca = pki_ca("CA", PKI_EC_P384);
    X509 *other_ca = pki_ca("Other CA", PKI_EC_P384);
    FILE *conf = fopen(organisation_path(o, o->conf_file), "w");
    CHECK(conf);
    pki_write_certificates(organisation_path(o, "ca.pem"), ca, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        certs[i] = make_certificate(&rows[i], ca, other_ca);
        write_identity(o, conf, &rows[i], certs[i]);
    }
    fprintf(conf, "%s%s", conf_head, more ? more : "");
    CHECK(fclose(conf) == 0);
    fill_store(o, certs, ca);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        X509_free(certs[i]);
    X509_free(ca);
    X509_free(other_ca);
}

static void open_gateway(struct organisation *o)
{
    struct detail detail = {0};
    if (conf_read(organisation_path(o, o->conf_file), &o->conf, &detail) ||
        gateway_open(o->conf, &o->gateway, &detail)) {
        fprintf(stderr, "%s\n", detail.text);
        abort();
    }
}

void organisation_open_like(struct organisation *o, const struct organisation *base,
                            const char *more)
{
    static unsigned number;
    char line[400];
    *o = (struct organisation){.is_borrowed = true};
    memcpy(o->directory, base->directory, sizeof o->directory);
    snprintf(o->conf_file, sizeof o->conf_file, "%u.conf", ++number);
    FILE *from = fopen(organisation_path(o, base->conf_file), "r");
    FILE *to = fopen(organisation_path(o, o->conf_file), "w");
    CHECK(from && to);
    while (fgets(line, sizeof line, from))
        CHECK(fputs(line, to) >= 0);
    CHECK(fputs(more, to) >= 0 && fclose(to) == 0);
    fclose(from);
    open_gateway(o);
}

void organisation_open(struct organisation *o, const char *more)
{
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR); // a message refused is an ordinary thing
    *o = (struct organisation){.directory = "/tmp/sealgate-flow-XXXXXX",
                               .conf_file = "sealgate.conf"};
    CHECK(mkdtemp(o->directory));
    CHECK(mkdir(organisation_path(o, "spool"), 0700) == 0);
    write_files(o, more);
    open_gateway(o);
}

static int remove_path(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

void organisation_close(struct organisation *o)
{
    gateway_close(o->gateway);
    conf_free(o->conf);
    if (!o->is_borrowed)
        nftw(o->directory, remove_path, 16, FTW_DEPTH | FTW_PHYS);
}

struct message *organisation_message(const struct organisation *o, const char *text)
{
    struct message *message = NULL;
    struct detail detail = {0};
    CHECK(message_parse(bytes_of_text(text), &o->gateway->spool, &message, &detail) == ERR_OK);
    return message;
}
