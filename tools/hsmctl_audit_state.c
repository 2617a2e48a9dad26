// SPDX-License-Identifier: Apache-2.0
#include "tools/hsmctl_audit_state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/audit/audit_signed.h"
#include "hsmd/base/file.h"
#include "hsmd/base/text.h"
#include "tools/hsmctl.h"

#define TITLE "Sealgate audit state 1"
#define LINE_MAX_SIZE (4 * AUDIT_HASH_SIZE + 24)
#define FILE_MAX_SIZE (sizeof TITLE + (size_t)AUDIT_STATE_KEYS_MAX * LINE_MAX_SIZE)
#define FILE_MODE 0600

static unsigned find(const struct audit_state *state, const uint8_t key_id[AUDIT_HASH_SIZE])
{
    unsigned i = 0;
    while (i < state->count && memcmp(state->keys[i].key_id, key_id, AUDIT_HASH_SIZE) != 0)
        i++;
    return i;
}

static bool parse_line(char *line, struct audit_state *state)
{
    uint8_t key_id[AUDIT_HASH_SIZE];
    struct audit_link last;
    const char *id = strsep(&line, " ");
    const char *seq = strsep(&line, " ");
    bool is_good = text_get_hex_exact(id, key_id, sizeof key_id) && seq &&
                   number_get(seq, UINT64_MAX, &last.seq) && last.seq &&
                   text_get_hex_exact(line, last.hash, sizeof last.hash) &&
                   state->count < AUDIT_STATE_KEYS_MAX && find(state, key_id) == state->count;
    if (!is_good)
        return false;
    memcpy(state->keys[state->count].key_id, key_id, sizeof key_id);
    state->keys[state->count++].last = last;
    return true;
}

static bool parse(struct buf *text, struct audit_state *state)
{
    char *rest = (char *)text->data;
    bool is_good = text->len && rest[text->len - 1] == '\n' && !memchr(rest, '\0', text->len);
    if (!is_good)
        return false;
    rest[text->len - 1] = '\0';
    if (strcmp(strsep(&rest, "\n"), TITLE) != 0)
        return false;
    while (is_good && rest)
        is_good = parse_line(strsep(&rest, "\n"), state);
    return is_good;
}

enum err audit_state_load(const char *path, struct audit_state *state, struct detail *detail)
{
    struct stat st;
    struct buf text;
    *state = (struct audit_state){0};
    if (stat(path, &st) != 0)
        return errno == ENOENT ? ERR_OK : err_errno(detail, ERR_PERM, "%s", path);
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0 || (st.st_uid != geteuid() && st.st_uid != 0))
        return err_set(detail, ERR_PERM, "%s: mode %04o, owner %u: others may write it", path,
                       st.st_mode & 07777u, st.st_uid);
    buf_init(&text, FILE_MAX_SIZE);
    enum err err = file_read(path, &text, detail);
    if (err == ERR_OK && !parse(&text, state))
        err = err_set(detail, ERR_PERM, "%s: it is not what --state has written", path);
    buf_clear(&text);
    return err;
}

enum err audit_state_save(const char *path, const struct audit_state *state, struct detail *detail)
{
    struct buf text;
    buf_init(&text, FILE_MAX_SIZE);
    enum err err = buf_put_text(&text, TITLE "\n");
    for (unsigned i = 0; i < state->count && err == ERR_OK; i++) {
        err = text_put_hex(&text, bytes_of(state->keys[i].key_id, AUDIT_HASH_SIZE));
        if (err == ERR_OK)
            err = buf_printf(&text, " %" PRIu64 " ", state->keys[i].last.seq);
        if (err == ERR_OK)
            err = text_put_hex(&text, bytes_of(state->keys[i].last.hash, AUDIT_HASH_SIZE));
        if (err == ERR_OK)
            err = buf_put_text(&text, "\n");
    }
    if (err == ERR_OK)
        err = file_write(path, buf_bytes(&text), FILE_MODE, detail);
    else
        err = err_set(detail, ERR_TEMP, "out of memory");
    buf_clear(&text);
    return err;
}

static enum err find_key(const struct audit_state *state, EVP_PKEY *key,
                         uint8_t key_id[AUDIT_HASH_SIZE], unsigned *place, struct detail *detail)
{
    enum err err = audit_signed_key_id(key, key_id, detail);
    if (err == ERR_OK)
        *place = find(state, key_id);
    return err;
}

enum err audit_state_find(const struct audit_state *state, EVP_PKEY *const *keys, unsigned count,
                          struct audit_link *last, struct detail *detail)
{
    struct audit_link furthest = {0};
    for (unsigned i = 0; i < count; i++) {
        uint8_t key_id[AUDIT_HASH_SIZE];
        unsigned place = 0;
        enum err err = find_key(state, keys[i], key_id, &place, detail);
        if (err != ERR_OK)
            return err;
        if (place < state->count && state->keys[place].last.seq > furthest.seq)
            furthest = state->keys[place].last;
    }
    *last = furthest;
    return ERR_OK;
}

enum err audit_state_set(struct audit_state *state, EVP_PKEY *const *keys, unsigned count,
                         const struct audit_link *last, struct detail *detail)
{
    for (unsigned i = 0; i < count; i++) {
        uint8_t key_id[AUDIT_HASH_SIZE];
        unsigned place = 0;
        enum err err = find_key(state, keys[i], key_id, &place, detail);
        if (err != ERR_OK)
            return err;
        if (place == AUDIT_STATE_KEYS_MAX)
            return err_set(detail, ERR_PERM, "--state: more than %d audit keys",
                           AUDIT_STATE_KEYS_MAX);
        if (place == state->count)
            memcpy(state->keys[state->count++].key_id, key_id, sizeof key_id);
        state->keys[place].last = *last;
    }
    return ERR_OK;
}
