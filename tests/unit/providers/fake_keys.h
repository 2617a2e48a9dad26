// SPDX-License-Identifier: Apache-2.0
// The keys of fake_hsmd and what it does with them, in the default library context.
#pragma once

#include "tests/unit/providers/fake_hsmd.h"

struct fake_key {
    const char *name;
    const char *kind; // "RSA", "P-256", "P-384", "ED25519"
    EVP_PKEY *key;
    X509 *certificate;
    unsigned char *public_der;
    unsigned char *certificate_der;
    int public_len;
    int certificate_len;
    enum wire_purpose purpose;
};

void fake_keys_make(struct fake_key keys[FAKE_KEYS]);
void fake_keys_clear(struct fake_key keys[FAKE_KEYS]);
struct fake_key *fake_keys_find(struct fake_key keys[FAKE_KEYS], struct bytes name);

// Into out; the result is the class of the reply.
enum err fake_key_sign(const struct fake_key *key, const struct wire_sign *sign, uint8_t *out,
                       size_t *len);
enum err fake_key_unwrap(const struct fake_key *key, const struct wire_unwrap *unwrap, uint8_t *out,
                         size_t *len);
enum err fake_key_agree(const struct fake_key *key, const struct wire_agree *agree, uint8_t *out,
                        size_t *len);
