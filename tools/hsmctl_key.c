// SPDX-License-Identifier: Apache-2.0
// Acts about keys, from the command line.
#include "tools/hsmctl.h"

#include <string.h>

#include "hsmd/base/file.h"
#include "hsmd/base/hash.h"
#include "hsmd/registry/registry.h"
#include "tools/hsmctl_ask.h"
#include "tools/hsmctl_certificate.h"

static struct bytes option_bytes(const struct call *call, enum option_index index)
{
    return bytes_of_text(call->option[index] ? call->option[index] : "");
}

static enum err take_purpose(const struct call *call, struct act *act, struct detail *detail)
{
    act->purpose = wire_purpose_by_name(call->option[OPTION_PURPOSE]);
    return act->purpose
               ? ERR_OK
               : err_set(detail, ERR_PERM,
                         "--purpose: not one of smime-sign, smime-decrypt, general, audit");
}

// Names with commas between them as a set; not given: all.
static enum err take_algorithms(const struct call *call, uint64_t *set, struct detail *detail)
{
    struct bytes rest = option_bytes(call, OPTION_ALGORITHMS), item;
    *set = call_has(call, OPTION_ALGORITHMS) ? 0 : REGISTRY_ALL;
    while (act_list_next(&rest, &item)) {
        char name[TEXT_NAME_MAX + 1];
        snprintf(name, sizeof name, "%.*s", (int)item.len, (const char *)item.data);
        enum wire_algorithm algorithm = wire_algorithm_by_name(name);
        if (!algorithm)
            return err_set(detail, ERR_PERM, "--algorithms: there is no such algorithm: %s",
                           text_is_name(name, strlen(name)) ? name : "?");
        *set |= REGISTRY_SET(algorithm);
    }
    return *set ? ERR_OK : err_set(detail, ERR_PERM, "--algorithms: none given");
}

enum err build_generate(struct call *call, struct act *act, struct detail *detail)
{
    act->tokens = option_bytes(call, OPTION_TOKEN);
    if (!act_type_by_name(call->option[OPTION_TYPE], &act->type, &act->bits))
        return err_set(detail, ERR_PERM,
                       "--type: not rsa:2048 to rsa:8192, ec:p256, ec:p384, ec:p521 or ed25519");
    enum err err = take_purpose(call, act, detail);
    return err == ERR_OK ? take_algorithms(call, &act->algorithms, detail) : err;
}

enum err build_import(struct call *call, struct act *act, struct detail *detail)
{
    struct secret passphrase = {0};
    int fd = -1;
    act->tokens = option_bytes(call, OPTION_TOKEN);
    act->any_name = call_has(call, OPTION_ANY_NAME);
    buf_init(&call->public_key, WIRE_PUBLIC_KEY_MAX);
    buf_init(&call->certificates, WIRE_CERTIFICATES_MAX);
    enum err err = take_purpose(call, act, detail);
    if (err == ERR_OK)
        err = take_algorithms(call, &act->algorithms, detail);
    if (err == ERR_OK)
        err = call_fd(call, OPTION_IMPORT_PASSPHRASE_FD, &fd, detail);
    if (err == ERR_OK)
        err = secret_init(&passphrase, ASK_SECRET_MAX + 1, detail);
    if (err == ERR_OK)
        err = ask_secret("Passphrase of the PKCS#12 file", fd, &passphrase, detail);
    if (err == ERR_OK)
        err = secret_init(&call->attachment, ACT_ATTACHMENT_MAX, detail);
    if (err == ERR_OK)
        err = certificate_open_pkcs12(call->option[OPTION_PKCS12], &passphrase, &call->attachment,
                                      &call->public_key, &call->certificates, detail);
    secret_clear(&passphrase);
    act->public_key = buf_bytes(&call->public_key);
    act->certificates = buf_bytes(&call->certificates);
    return err;
}

enum err build_place(struct call *call, struct act *act, struct detail *detail)
{
    const char *id = call->option[OPTION_ID];
    enum err err = ERR_OK;
    buf_init(&call->id, 64);
    act->tokens = option_bytes(call, OPTION_TOKEN);
    act->label = option_bytes(call, OPTION_LABEL);
    if (id && text_get_hex(id, &call->id) != ERR_OK)
        return err_set(detail, ERR_PERM, "--id: not hexadecimal, or longer than 64 bytes");
    act->id = buf_bytes(&call->id);
    if (act->kind == ACT_KEY_ADOPT)
        err = take_purpose(call, act, detail);
    if (err == ERR_OK && act->kind == ACT_KEY_ADOPT)
        err = take_algorithms(call, &act->algorithms, detail);
    return err;
}

enum err build_subject(struct call *call, struct act *act, struct detail *detail)
{
    const char *hash = call->option[OPTION_HASH];
    uint64_t days = 0;
    const struct {
        enum option_index option;
        struct bytes *field;
    } fields[] = {
        {OPTION_COMMON_NAME, &act->common_name},
        {OPTION_ORGANIZATION, &act->organization},
        {OPTION_UNIT, &act->unit},
        {OPTION_CITY, &act->city},
        {OPTION_STATE, &act->state},
        {OPTION_COUNTRY, &act->country},
        {OPTION_DOMAINS, &act->domains},
        {OPTION_EMAILS, &act->emails},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        *fields[i].field = option_bytes(call, fields[i].option);
    act->hash = hash ? hash_by_name(hash) : HASH_SHA256;
    act->pss = call_has(call, OPTION_PSS);
    act->any_name = call_has(call, OPTION_ANY_NAME);
    if (act->hash != HASH_SHA256 && act->hash != HASH_SHA384 && act->hash != HASH_SHA512)
        return err_set(detail, ERR_PERM, "--hash: not one of sha256, sha384, sha512");
    enum err err = call_number(call, OPTION_DAYS, ACT_DAYS_MAX, &days, detail);
    act->days = (unsigned)days;
    return err;
}

enum err build_certificate(struct call *call, struct act *act, struct detail *detail)
{
    act->any_name = call_has(call, OPTION_ANY_NAME);
    buf_init(&call->certificates, WIRE_CERTIFICATES_MAX);
    enum err err = certificate_read_chain(call->argument[1], &call->certificates, detail);
    act->certificates = buf_bytes(&call->certificates);
    return err;
}

enum err build_destroy(struct call *call, struct act *act, struct detail *detail)
{
    const char *again = call->option[OPTION_NAME_AGAIN];
    char text[TEXT_QUOTED_SIZE + 160];
    char quoted[TEXT_QUOTED_SIZE];
    enum err err = ERR_OK;
    act->tokens = option_bytes(call, OPTION_TOKEN);
    buf_init(&call->text, ASK_SECRET_MAX);
    if (again) {
        err = buf_put_text(&call->text, again);
    } else {
        snprintf(text, sizeof text,
                 "The key \"%s\" is to be destroyed. What was encrypted to it can then be read "
                 "by nobody.\n",
                 text_quote(call->argument[0], strlen(call->argument[0]), quoted, sizeof quoted));
        err = ask_line(text, "Type the name of the key again: ", &call->text, detail);
    }
    if (err == ERR_OK && strcmp(buf_text(&call->text), call->argument[0]) != 0)
        err = err_set(detail, ERR_PERM, "that is not the name of the key: nothing was done");
    return err;
}

enum err build_limits(struct call *call, struct act *act, struct detail *detail)
{
    const struct {
        enum option_index option;
        uint64_t *field;
    } limits[] = {
        {OPTION_PER_MINUTE, &act->per_minute},
        {OPTION_PER_HOUR, &act->per_hour},
        {OPTION_TOTAL, &act->total},
        {OPTION_FAILURES, &act->failures_per_hour},
    };
    enum err err = ERR_OK;
    bool is_any = false;
    for (size_t i = 0; err == ERR_OK && i < sizeof limits / sizeof *limits; i++) {
        is_any = is_any || call_has(call, limits[i].option);
        err = call_number(call, limits[i].option, INT64_MAX, limits[i].field, detail);
    }
    if (err == ERR_OK && act->kind == ACT_KEY_LIMIT && !is_any)
        err = err_set(detail, ERR_PERM, "key limit needs a limit (--per-hour 0: none)");
    return err;
}

enum err build_grant(struct call *call, struct act *act, struct detail *detail)
{
    act->name = bytes_of_text(call->argument[0]);
    act->key = bytes_of_text(call->argument[1]);
    if (act->kind == ACT_UNGRANT)
        return ERR_OK;
    struct bytes rest = bytes_of_text(call->argument[2]), item;
    while (act_list_next(&rest, &item)) {
        char name[TEXT_NAME_MAX + 1];
        snprintf(name, sizeof name, "%.*s", (int)item.len, (const char *)item.data);
        enum wire_operation operation = wire_operation_by_name(name);
        if (operation != WIRE_SIGN && operation != WIRE_UNWRAP && operation != WIRE_AGREE)
            return err_set(detail, ERR_PERM, "operations are sign, unwrap, agree");
        act->operations |= REGISTRY_SET(operation);
    }
    if (!act->operations)
        return err_set(detail, ERR_PERM, "no operation given: sign, unwrap, agree");
    enum err err = take_algorithms(call, &act->algorithms, detail);
    return err == ERR_OK ? build_limits(call, act, detail) : err;
}

enum err call_build(struct call *call, struct act *act, struct detail *detail)
{
    *act = (struct act){.kind = call->command->kind};
    if (call->arguments && act->kind != ACT_QUORUM)
        act->name = bytes_of_text(call->argument[0]);
    return call->command->build ? call->command->build(call, act, detail) : ERR_OK;
}
