// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/attachments.h"

#include <stdio.h>
#include <string.h>

#include "hsmd/officers/act.h"

static unsigned count(const struct attachments *attachments, const char *owner, uint64_t replaces)
{
    unsigned count = 0;
    for (size_t i = 0; i < ATTACHMENTS_MAX; i++)
        count += attachments->items[i].number && attachments->items[i].number != replaces &&
                 strcmp(attachments->items[i].owner, owner) == 0;
    return count;
}

enum err attachments_put(struct attachments *attachments, const char *owner, uint64_t replaces,
                         struct bytes bytes, struct detail *detail)
{
    struct secret secret = {0};
    size_t place = 0;
    attachments_drop(attachments, ATTACHMENTS_UNNUMBERED);
    while (place < ATTACHMENTS_MAX && attachments->items[place].number)
        place++;
    if (place == ATTACHMENTS_MAX || count(attachments, owner, replaces) >= ATTACHMENTS_OF_ONE)
        return err_set(detail, ERR_TEMP,
                       "%d proposals of yours with a PIN or a private key wait already: have one "
                       "of them carried out, or take it back",
                       ATTACHMENTS_OF_ONE);
    enum err err = secret_init(&secret, ACT_ATTACHMENT_MAX, detail);
    if (err == ERR_OK)
        err = secret_set(&secret, bytes.data, bytes.len);
    if (err != ERR_OK) {
        secret_clear(&secret);
        return err;
    }
    attachments->items[place].number = ATTACHMENTS_UNNUMBERED;
    attachments->items[place].secret = secret;
    snprintf(attachments->items[place].owner, sizeof attachments->items[place].owner, "%s", owner);
    return ERR_OK;
}

const struct secret *attachments_get(const struct attachments *attachments, uint64_t number)
{
    for (size_t i = 0; i < ATTACHMENTS_MAX && number; i++) {
        if (attachments->items[i].number == number)
            return &attachments->items[i].secret;
    }
    return NULL;
}

struct secret attachments_take(struct attachments *attachments, uint64_t number)
{
    struct secret taken = {0};
    for (size_t i = 0; i < ATTACHMENTS_MAX && number; i++) {
        if (attachments->items[i].number != number)
            continue;
        taken = attachments->items[i].secret;
        attachments->items[i].secret = (struct secret){0};
        attachments->items[i].number = 0;
        break;
    }
    return taken;
}

void attachments_drop(struct attachments *attachments, uint64_t number)
{
    for (size_t i = 0; i < ATTACHMENTS_MAX && number; i++) {
        if (attachments->items[i].number != number)
            continue;
        secret_clear(&attachments->items[i].secret);
        attachments->items[i].number = 0;
    }
}

void attachments_give_number(struct attachments *attachments, uint64_t number)
{
    attachments_drop(attachments, number);
    for (size_t i = 0; i < ATTACHMENTS_MAX; i++) {
        if (attachments->items[i].number == ATTACHMENTS_UNNUMBERED)
            attachments->items[i].number = number;
    }
}

void attachments_clear(struct attachments *attachments)
{
    for (size_t i = 0; i < ATTACHMENTS_MAX; i++) {
        secret_clear(&attachments->items[i].secret);
        attachments->items[i].number = 0;
    }
}
