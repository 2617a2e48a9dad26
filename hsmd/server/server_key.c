// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/server_key.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <limits.h>

#include <zmq.h>

#include "hsmd/base/file.h"

#define Z85_SIZE (REGISTRY_PUBLIC_KEY_SIZE - 1)

static enum err make_path(const char *prefix, const char *suffix, char path[PATH_MAX],
                          struct detail *detail)
{
    struct stat st;
    if (snprintf(path, PATH_MAX, "%s%s", prefix, suffix) >= PATH_MAX)
        return err_set(detail, ERR_PERM, "%s: path too long", prefix);
    return lstat(path, &st) == 0 ? err_set(detail, ERR_PERM, "%s: there already", path) : ERR_OK;
}

static enum err write_line(const char *path, char line[Z85_SIZE + 2], unsigned mode,
                           struct detail *detail)
{
    line[Z85_SIZE] = '\n';
    return file_write(path, bytes_of(line, Z85_SIZE + 1), mode, detail);
}

enum err server_key_generate(const char *prefix, struct detail *detail)
{
    char public_key[Z85_SIZE + 2];
    char secret_key[Z85_SIZE + 2];
    char public_path[PATH_MAX];
    char secret_path[PATH_MAX];
    enum err err = make_path(prefix, ".key", secret_path, detail);
    if (err == ERR_OK)
        err = make_path(prefix, ".pub", public_path, detail);
    if (err != ERR_OK)
        return err;
    if (zmq_curve_keypair(public_key, secret_key) != 0)
        return err_set(detail, ERR_PERM, "this libzmq has no CURVE");
    err = write_line(secret_path, secret_key, 0400, detail);
    explicit_bzero(secret_key, sizeof secret_key);
    if (err != ERR_OK)
        return err;
    err = write_line(public_path, public_key, 0444, detail);
    if (err != ERR_OK)
        unlink(secret_path); // half a pair would only be in the way
    return err;
}

enum err server_key_load(const char *path, struct secret *key,
                         char public_key[REGISTRY_PUBLIC_KEY_SIZE], struct detail *detail)
{
    enum err err = file_read_secret(path, key, detail);
    if (err != ERR_OK)
        return err;
    // The secret's room is longer and zeroed behind len, so it is a string.
    key->data[key->len] = 0;
    uint8_t raw[32];
    bool is_key = key->len == Z85_SIZE && zmq_z85_decode(raw, (const char *)key->data) &&
                  zmq_curve_public(public_key, (const char *)key->data) == 0;
    explicit_bzero(raw, sizeof raw);
    return is_key ? ERR_OK
                  : err_set(detail, ERR_PERM, "%s: not a CURVE key in Z85 (40 characters)", path);
}
