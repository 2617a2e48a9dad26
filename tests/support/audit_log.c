// SPDX-License-Identifier: Apache-2.0
#include "tests/support/audit_log.h"

#include <string.h>

#include <openssl/x509.h>

#include "hsmd/audit/audit_checkpoint.h"
#include "hsmd/audit/audit_line.h"
#include "hsmd/audit/audit_verify.h"
#include "hsmd/base/file.h"
#include "hsmd/base/hash.h"
#include "tests/support/require.h"

struct keystore_key *audit_log_key(const char *kind)
{
    static struct keystore_key *keys[2];
    unsigned i = strcmp(kind, "P-256") == 0;
    if (!keys[i])
        keys[i] = memstore_key_generate(kind);
    return keys[i];
}

EVP_PKEY *audit_log_public(const char *kind)
{
    return memstore_key_pkey(audit_log_key(kind));
}

void audit_log_use(struct audit *audit, uint64_t id)
{
    const struct audit_record record = {.event = AUDIT_USE,
                                        .client = "gw",
                                        .key = BYTES_LITERAL("signing"),
                                        .operation = "sign",
                                        .algorithm = "rsa-pkcs1",
                                        .hash = "sha256",
                                        .has_id = true,
                                        .id = id,
                                        .result = "ok",
                                        .message_digest = BYTES_LITERAL("\xd1\xd2\xd3\xd4")};
    REQUIRE(audit_write(audit, &record, NULL) == ERR_OK);
}

void audit_log_seal(struct audit *audit, const char *kind)
{
    struct keystore_key *key = audit_log_key(kind);
    bool is_rsa = memstore_ops.describe(key)->type == TOKEN_KEY_RSA;
    uint8_t digest[HASH_SIZE_MAX];
    uint8_t signature[TOKEN_SIGNATURE_MAX];
    char stamp[CLOCK_STAMP_SIZE];
    struct buf text;
    size_t len = 0;
    struct audit_checkpoint checkpoint = {.covered = audit_head(audit)};
    clock_stamp(stamp);
    buf_init(&text, 400);
    REQUIRE(audit_line_signed(&checkpoint.covered, stamp, &text) == ERR_OK);
    REQUIRE(hash_digest(HASH_SHA256, buf_bytes(&text), digest) == ERR_OK);
    REQUIRE(checkpoint_key_id(memstore_ops.describe(key)->public_key, checkpoint.key_id) == ERR_OK);
    REQUIRE(memstore_ops.sign(key, KEYSTORE_ANY, is_rsa ? TOKEN_RSA_PKCS1 : TOKEN_ECDSA,
                              HASH_SHA256, 0, bytes_of(digest, 32), deadline_in(60000), signature,
                              &len, NULL) == ERR_OK);
    checkpoint.signature = bytes_of(signature, len);
    const struct audit_record record = {.event = AUDIT_CHECKPOINT,
                                        .algorithm = is_rsa ? "rsa-pkcs1" : "ecdsa",
                                        .hash = "sha256",
                                        .checkpoint = &checkpoint,
                                        .stamp = stamp};
    REQUIRE(audit_write(audit, &record, NULL) == ERR_OK);
    buf_clear(&text);
}

static void event(struct audit *audit, enum audit_event which)
{
    REQUIRE(audit_write(audit, &(struct audit_record){.event = which}, NULL) == ERR_OK);
}

void audit_log_make(const char *path, const char *kind)
{
    struct audit *audit = NULL;
    REQUIRE(audit_open(path, &audit, NULL) == ERR_OK);
    event(audit, AUDIT_START);
    audit_log_seal(audit, kind);
    for (unsigned i = 1; i <= 3; i++)
        audit_log_use(audit, i);
    audit_log_seal(audit, kind);
    audit_log_use(audit, 4);
    audit_log_use(audit, 5);
    const struct audit_record refused = {.event = AUDIT_REFUSE,
                                         .client = "gw",
                                         .key = BYTES_LITERAL("no\"such\n\xff"),
                                         .result = "denied",
                                         .reason = "no such key"};
    REQUIRE(audit_write(audit, &refused, NULL) == ERR_OK);
    audit_log_use(audit, 6);
    event(audit, AUDIT_STOP);
    audit_log_seal(audit, kind);
    audit_close(audit);
}

uint64_t audit_log_verify(const char *path)
{
    const struct audit_expected expected = {.seq = 1};
    struct audit_verify *verify = NULL;
    struct buf text;
    buf_init(&text, 64u << 20);
    REQUIRE(file_read(path, &text, NULL) == ERR_OK);
    REQUIRE(audit_verify_new(NULL, &expected, &verify, NULL) == ERR_OK);
    audit_verify_file(verify, path);
    audit_verify_put(verify, buf_bytes(&text));
    const struct audit_report report = *audit_verify_end(verify);
    if (report.is_bad || report.has_torn_end)
        fprintf(stderr, "%s:%llu: %s\n", path, (unsigned long long)report.bad_line,
                report.is_bad ? report.reason.text : "its last line has no end");
    REQUIRE(!report.is_bad && !report.has_torn_end);
    audit_verify_free(verify);
    buf_clear(&text);
    return report.lines;
}
