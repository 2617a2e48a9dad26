// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/attachments.h"

#include "hsmd/officers/act.h"

enum err attachments_put(struct attachments *attachments, uint64_t number, struct bytes bytes,
                         struct detail *detail)
{
    struct secret secret = {0};
    size_t place = 0;
    attachments_drop(attachments, number);
    while (place < ATTACHMENTS_MAX && attachments->items[place].number)
        place++;
    if (place == ATTACHMENTS_MAX)
        return err_set(detail, ERR_TEMP,
                       "%d proposals with a PIN or a private key wait already: carry one of them "
                       "out, or reject it",
                       ATTACHMENTS_MAX);
    enum err err = secret_init(&secret, ACT_ATTACHMENT_MAX, detail);
    if (err == ERR_OK)
        err = secret_set(&secret, bytes.data, bytes.len);
    if (err != ERR_OK) {
        secret_clear(&secret);
        return err;
    }
    attachments->items[place].number = number;
    attachments->items[place].secret = secret;
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
