// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "hsmd/base/file.h"
#include "hsmd/officers/keyfile.h"

#define PUBLIC_TAG "officer-1"
#define PUBLIC_FILE_MAX 256

enum err officer_public_of(const struct officer_key *key, const char *name,
                           struct officer_public *public, struct detail *detail)
{
    if (!text_is_name(name, strlen(name)))
        return err_set(detail, ERR_PERM, "an officer's name is 1 to %d of a-z A-Z 0-9 . _ -",
                       TEXT_NAME_MAX);
    *public = (struct officer_public){0};
    snprintf(public->name, sizeof public->name, "%s", name);
    memcpy(public->signing_key, key->public_signing, sizeof public->signing_key);
    memcpy(public->curve_key, key->public_curve, sizeof public->curve_key);
    return ERR_OK;
}

enum err officer_public_write(const struct officer_public *public, const char *path,
                              struct detail *detail)
{
    struct buf line;
    buf_init(&line, PUBLIC_FILE_MAX);
    enum err err = buf_printf(&line, PUBLIC_TAG " %s ", public->name);
    if (err == ERR_OK)
        err = text_put_hex(&line, bytes_of(public->signing_key, sizeof public->signing_key));
    if (err == ERR_OK)
        err = buf_printf(&line, " %s\n", public->curve_key);
    err = err == ERR_OK ? file_write(path, buf_bytes(&line), 0644, detail)
                        : err_set(detail, err, "%s: cannot be put together", path);
    buf_clear(&line);
    return err;
}

// The next word of a line of words with one space between them. NULL: none.
static char *next_word(char **rest)
{
    char *word = strsep(rest, " ");
    return word && *word ? word : NULL;
}

static bool get_line(char *line, struct officer_public *public)
{
    const char *tag = next_word(&line);
    const char *name = next_word(&line);
    const char *hex = next_word(&line);
    const char *curve = next_word(&line);
    if (!curve || line || strcmp(tag, PUBLIC_TAG) != 0 || !text_is_name(name, strlen(name)) ||
        !curve_is_key(curve) ||
        !text_get_hex_exact(hex, public->signing_key, sizeof public->signing_key) ||
        !statement_is_key(bytes_of(public->signing_key, sizeof public->signing_key)))
        return false;
    snprintf(public->name, sizeof public->name, "%s", name);
    snprintf(public->curve_key, sizeof public->curve_key, "%s", curve);
    return true;
}

enum err officer_public_read(const char *path, struct officer_public *public, struct detail *detail)
{
    struct buf text;
    struct officer_public got = {0};
    buf_init(&text, PUBLIC_FILE_MAX);
    enum err err = file_read(path, &text, detail);
    if (err == ERR_OK) {
        if (text.len && text.data[text.len - 1] == '\n')
            text.data[--text.len] = 0;
        if (!text.len || memchr(text.data, 0, text.len) || !get_line((char *)text.data, &got))
            err = err_set(detail, ERR_PERM,
                          "%s: not one line \"" PUBLIC_TAG " NAME SIGNING-KEY CURVE-KEY\", as "
                          "hsmctl officer keygen writes it",
                          path);
        else
            *public = got;
    }
    buf_clear(&text);
    return err;
}
