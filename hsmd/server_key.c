// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server_key.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <limits.h>

#include <zmq.h>

#include "hsmd/base/file.h"

#define Z85_SIZE (REGISTRY_PUBLIC_KEY_SIZE - 1)

static enum err write_line(const char *prefix, const char *suffix, char line[Z85_SIZE + 2],
                           unsigned mode, struct detail *detail)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s%s", prefix, suffix) >= sizeof path)
        return err_set(detail, ERR_PERM, "%s: path too long", prefix);
    if (access(path, F_OK) == 0)
        return err_set(detail, ERR_PERM, "%s: there already", path);
    line[Z85_SIZE] = '\n';
    return file_write(path, bytes_of(line, Z85_SIZE + 1), mode, detail);
}

enum err server_key_generate(const char *prefix, struct detail *detail)
{
    char public_key[Z85_SIZE + 2];
    char secret_key[Z85_SIZE + 2];
    if (zmq_curve_keypair(public_key, secret_key) != 0)
        return err_set(detail, ERR_PERM, "this libzmq has no CURVE");
    enum err err = write_line(prefix, ".key", secret_key, 0400, detail);
    explicit_bzero(secret_key, sizeof secret_key);
    if (err == ERR_OK)
        err = write_line(prefix, ".pub", public_key, 0444, detail);
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
