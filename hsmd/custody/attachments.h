// SPDX-License-Identifier: Apache-2.0
// PINs and private keys that came beside proposals, in locked memory until these are carried out or
// end. They are never anywhere else: when hsmd ends they are gone.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/secret.h"

#define ATTACHMENTS_MAX 8
#define ATTACHMENTS_UNNUMBERED UINT64_MAX // of a proposal that is not in the store yet

struct attachments {
    struct {
        uint64_t number; // of the proposal; 0: free
        struct secret secret;
    } items[ATTACHMENTS_MAX];
};

// In the place of the one that it has. ERR_TEMP: all are in use, or no more memory can be locked.
enum err attachments_put(struct attachments *attachments, uint64_t number, struct bytes bytes,
                         struct detail *detail);
const struct secret *attachments_get(const struct attachments *attachments,
                                     uint64_t number); // NULL: none
void attachments_drop(struct attachments *attachments, uint64_t number);
// The unnumbered one, or none, takes the place of the one that this proposal had.
void attachments_give_number(struct attachments *attachments, uint64_t number);
void attachments_clear(struct attachments *attachments);
