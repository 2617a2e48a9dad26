// SPDX-License-Identifier: Apache-2.0
// Officers' key files, and acts about officers, clients and tokens.
#include "tools/hsmctl.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hsmd/base/curve.h"
#include "hsmd/base/file.h"
#include "hsmd/officers/keyfile.h"
#include "tools/hsmctl_ask.h"
#include "tools/hsmctl_print.h"

#define QUORUM_MAX 99

enum err build_client_add(struct call *call, struct act *act, struct detail *detail)
{
    const char *text = call->option[OPTION_PUBLIC_KEY];
    const char *path = call->option[OPTION_PUBLIC_KEY_FILE];
    char key[CURVE_TEXT_SIZE];
    if (!text == !path)
        return err_set(detail, ERR_PERM,
                       "client add needs either --public-key or --public-key-file");
    enum err err = path ? curve_read_public(path, key, detail) : ERR_OK;
    if (err != ERR_OK)
        return err;
    buf_init(&call->text, CURVE_TEXT_SIZE);
    if (!curve_is_key(path ? key : text))
        return err_set(detail, ERR_PERM, "--public-key: no CURVE key, 40 characters of Z85");
    err = buf_put_text(&call->text, path ? key : text);
    act->curve_key = buf_bytes(&call->text);
    return err;
}

static enum err read_public(const char *path, struct call *call, struct act *act,
                            struct detail *detail)
{
    struct officer_public public;
    buf_init(&call->public_key, OFFICER_SIGNING_KEY_SIZE);
    buf_init(&call->text, CURVE_TEXT_SIZE);
    enum err err = officer_public_read(path, &public, detail);
    if (err == ERR_OK && strcmp(public.name, call->argument[0]) != 0)
        err = err_set(detail, ERR_PERM, "%s is the key of %s, not of the one to be added", path,
                      public.name);
    if (err == ERR_OK)
        err = buf_put(&call->public_key, public.signing_key, sizeof public.signing_key);
    if (err == ERR_OK)
        err = buf_put_text(&call->text, public.curve_key);
    act->public_key = buf_bytes(&call->public_key);
    act->curve_key = buf_bytes(&call->text);
    return err;
}

enum err build_officer_add(struct call *call, struct act *act, struct detail *detail)
{
    const char *role = call->option[OPTION_ROLE];
    act->role = role ? officer_role_by_name(role) : OFFICER_OFFICER;
    if (!act->role)
        return err_set(detail, ERR_PERM, "--role: neither officer nor auditor");
    return read_public(call->option[OPTION_FILE], call, act, detail);
}

enum err build_quorum(struct call *call, struct act *act, struct detail *detail)
{
    uint64_t number = 0;
    if (*call->argument[0] == '0' || !number_get(call->argument[0], QUORUM_MAX, &number))
        return err_set(detail, ERR_PERM, "quorum: not a number from 1 to %d", QUORUM_MAX);
    act->number = (unsigned)number;
    return ERR_OK;
}

enum err build_unlock(struct call *call, struct act *act, struct detail *detail)
{
    char prompt[TEXT_NAME_MAX + 24] = "PIN of the token";
    int fd = -1;
    if (act->name.len && text_is_name(call->argument[0], act->name.len))
        snprintf(prompt, sizeof prompt, "PIN of token %s", call->argument[0]);
    enum err err = call_fd(call, OPTION_PIN_FD, &fd, detail);
    if (err == ERR_OK)
        err = secret_init(&call->attachment, ASK_SECRET_MAX + 1, detail);
    if (err == ERR_OK)
        err = ask_secret(prompt, fd, &call->attachment, detail);
    if (err == ERR_OK && call->attachment.len == 0)
        err = err_set(detail, ERR_PERM, "no PIN was given");
    return err;
}

static enum err write_public(const struct officer_key *key, const char *name, const char *path,
                             struct buf *hex, struct detail *detail)
{
    struct officer_public public;
    enum err err = officer_public_of(key, name, &public, detail);
    if (err == ERR_OK)
        err = text_put_hex(hex, bytes_of(public.signing_key, sizeof public.signing_key));
    return err == ERR_OK ? officer_public_write(&public, path, detail) : err;
}

static enum err tell_key(const struct call *call, const struct officer_key *key, const char *path,
                         const char *public_path, const char *hex, struct detail *detail)
{
    const char *name = call->argument[0];
    if (call_has(call, OPTION_JSON)) {
        json_t *json =
            json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", name, "key_file", path, "public_file",
                      public_path, "signing_key", hex, "curve_key", key->public_curve);
        enum err err = print_json(json, detail);
        json_decref(json);
        return err;
    }
    print_text(stdout, path, false);
    puts(": your key. Keep it, and the passphrase, to yourself.");
    print_text(stdout, public_path, false);
    printf(": for the other officers, who add you with\n"
           "    hsmctl officer add %s --file ",
           name);
    print_text(stdout, public_path, false);
    printf("\nfirst of all compare by telephone what it begins with: %.16s\n", hex);
    return ERR_OK;
}

enum err run_officer_keygen(struct call *call, struct detail *detail)
{
    struct officer_key key = {0};
    struct secret passphrase = {0};
    struct buf hex;
    char path[PATH_MAX], public_path[PATH_MAX];
    const char *name = call->argument[0];
    const char *prefix = call_has(call, OPTION_OUT) ? call->option[OPTION_OUT] : name;
    int fd = -1;
    buf_init(&hex, 2 * OFFICER_SIGNING_KEY_SIZE);
    if (!text_is_name(name, strlen(name)))
        return err_set(detail, ERR_PERM, "not a name: 1 to 64 of a-z A-Z 0-9 . _ -");
    if (snprintf(path, sizeof path, "%s.key", prefix) >= (int)sizeof path ||
        snprintf(public_path, sizeof public_path, "%s.pub", prefix) >= (int)sizeof public_path)
        return err_set(detail, ERR_PERM, "--out: too long");
    if (access(path, F_OK) == 0 || access(public_path, F_OK) == 0)
        return err_set(detail, ERR_PERM, "%s is there already: a key is never written over",
                       access(path, F_OK) == 0 ? path : public_path);
    enum err err = call_fd(call, OPTION_PASSPHRASE_FD, &fd, detail);
    if (err == ERR_OK)
        err = secret_init(&passphrase, ASK_SECRET_MAX + 1, detail);
    if (err == ERR_OK)
        err = ask_new_secret("Passphrase for the new key", fd, &passphrase, detail);
    if (err == ERR_OK)
        err = officer_key_generate(&key, detail);
    if (err == ERR_OK)
        err = officer_key_write(&key, path, &passphrase, detail);
    if (err == ERR_OK)
        err = write_public(&key, name, public_path, &hex, detail);
    if (err == ERR_OK)
        err = tell_key(call, &key, path, public_path, buf_text(&hex), detail);
    officer_key_clear(&key);
    secret_clear(&passphrase);
    buf_clear(&hex);
    return err;
}
