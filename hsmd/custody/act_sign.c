// SPDX-License-Identifier: Apache-2.0
// Certificate requests and certificates that a key signs for itself. hsmd makes what is signed, so
// the purpose of the key and its state need not be looked at: that is the officers' act.
#include "hsmd/custody/act_run.h"

#include <string.h>

#include "hsmd/custody/issue.h"

static enum err check(struct act_run *run)
{
    enum err err = act_find_key(run, run->act.name);
    return err == ERR_OK ? issue_check(&run->act, run->detail) : err;
}

static const char *algorithm(enum token_scheme scheme)
{
    static const enum wire_algorithm algorithms[] = {[TOKEN_RSA_PKCS1] = WIRE_RSA_PKCS1,
                                                     [TOKEN_RSA_PSS] = WIRE_RSA_PSS,
                                                     [TOKEN_ECDSA] = WIRE_ECDSA,
                                                     [TOKEN_EDDSA] = WIRE_EDDSA};
    return wire_algorithm_name(algorithms[scheme]);
}

// As a client's use: the line is there before what was signed leaves.
static enum err sign(void *context, enum token_scheme scheme, enum hash hash, unsigned salt,
                     struct bytes digest, uint8_t *out, size_t *out_len, struct detail *detail)
{
    struct act_run *run = context;
    struct custody *custody = run->custody;
    const char *name = run->key.key.name;
    uint8_t hashed[HASH_SIZE_MAX];
    struct bytes told = digest;
    bool is_message = scheme == TOKEN_EDDSA; // told by its SHA-512, as those of clients
    if (is_message) {
        if (hash_digest(HASH_SHA512, digest, hashed) != ERR_OK)
            return err_set(detail, ERR_TEMP, "cannot hash");
        told = bytes_of(hashed, hash_size(HASH_SHA512));
    }
    enum err err =
        custody->conf.tokens->keys->sign(custody_bound(custody, name), KEYSTORE_ANY, scheme, hash,
                                         salt, digest, run->call->deadline, out, out_len, detail);
    const struct audit_record record = {.event = AUDIT_USE,
                                        .officer = run->call->officer.name,
                                        .proposal = run->number,
                                        .key = bytes_of_text(name),
                                        .operation = wire_operation_name(WIRE_SIGN),
                                        .algorithm = algorithm(scheme),
                                        .hash = hash_name(is_message ? HASH_SHA512 : hash),
                                        .result = err_name(err),
                                        .reason = err == ERR_OK ? NULL : detail->text,
                                        .message_digest = told};
    struct detail why = {0};
    if (audit_write(custody->conf.audit, &record, &why) != ERR_OK)
        err = err_set(detail, ERR_TEMP, "the audit log cannot be written: %s", why.text);
    return err;
}

// Appends to run->certificates, whatever it is.
static enum err issue(struct act_run *run, bool is_request)
{
    struct custody *custody = run->custody;
    uint8_t digest[HASH_SIZE_MAX];
    size_t digest_len = 0;
    struct keystore_key *bound = custody_bound(custody, run->key.key.name);
    const struct token_key_info *info = bound ? custody->conf.tokens->keys->describe(bound) : NULL;
    if (!info)
        return err_set(run->detail, ERR_TEMP, "the key is not in its token");
    struct issue_signer signer = {.sign = sign,
                                  .context = run,
                                  .public_key = run->key.key.public_key,
                                  .type = info->type,
                                  .purpose = run->key.key.purpose};
    if (!signer.public_key.len)
        signer.public_key = info->public_key;
    if (!signer.public_key.len)
        return err_set(run->detail, ERR_TEMP,
                       "the public key of \"%s\" is not known before its token was open once",
                       run->key.key.name);
    buf_reset(&run->certificates);
    return (is_request ? issue_request : issue_self_signed)(&run->act, &signer, &run->certificates,
                                                            digest, &digest_len, run->detail);
}

static enum err prepare_request(struct act_run *run)
{
    enum err err = issue(run, true);
    return err == ERR_OK
               ? act_put_pem(run, "pem", "CERTIFICATE REQUEST", buf_bytes(&run->certificates))
               : err;
}

static enum err prepare_self_signed(struct act_run *run)
{
    enum err err = issue(run, false);
    return err == ERR_OK ? act_put_pem(run, "pem", "CERTIFICATE", buf_bytes(&run->certificates))
                         : err;
}

static enum err change_self_signed(struct act_run *run)
{
    struct key_copy now = {0};
    enum err err = act_find_key_again(run, &now);
    now.key.certificates = buf_bytes(&run->certificates);
    if (err == ERR_OK)
        err = store_set_key(run->custody->conf.store, &now.key, run->detail);
    key_copy_clear(&now);
    return err;
}

const struct act_steps act_steps_request = {.check = check, .prepare = prepare_request};
const struct act_steps act_steps_self_sign = {.check = check,
                                              .prepare = prepare_self_signed,
                                              .change = change_self_signed,
                                              .is_registry_changed = true};
