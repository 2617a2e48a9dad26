// SPDX-License-Identifier: Apache-2.0
// PINs and private keys that came beside proposals, in locked memory until these are carried out or
// end. They are never anywhere else: when hsmd ends they are gone.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/secret.h"
#include "hsmd/base/text.h"

#define ATTACHMENTS_OF_ONE 2              // officer
#define ATTACHMENTS_MAX 128               // of all
#define ATTACHMENTS_UNNUMBERED UINT64_MAX // of a proposal that is not in the store yet

struct attachments {
    struct {
        uint64_t number;               // of the proposal; 0: free
        char owner[TEXT_NAME_MAX + 1]; // the officer who proposed it
        struct secret secret;
    } items[ATTACHMENTS_MAX];
};

// Of a proposal of owner that is not in the store yet (ATTACHMENTS_UNNUMBERED), to take the place
// of the one that proposal replaces has (0: none). ERR_TEMP: owner has as many as one officer may,
// all are in use, or no more memory can be locked.
enum err attachments_put(struct attachments *attachments, const char *owner, uint64_t replaces,
                         struct bytes bytes, struct detail *detail);
const struct secret *attachments_get(const struct attachments *attachments,
                                     uint64_t number); // NULL: none
// Out of here and the caller's to clear; empty: it has none.
struct secret attachments_take(struct attachments *attachments, uint64_t number);
void attachments_drop(struct attachments *attachments, uint64_t number);
// The unnumbered one, or none, takes the place of the one that this proposal had.
void attachments_give_number(struct attachments *attachments, uint64_t number);
void attachments_clear(struct attachments *attachments);
