// SPDX-License-Identifier: Apache-2.0
// A token of any maker, as with-token says in the environment where it is; what it offers, asked of
// the module itself and not of the code under test; and the sheet of what was tested with it.
#pragma once

#include "tests/token/fixture.h"

// Opens the token of the environment as fixture.token and logs in.
void any_begin(unsigned sessions);
void any_end(void);
const char *any_kind(void); // "softhsm", "nss", ...

// Looks at the module, which is loaded already, and at the token of that label.
void any_direct_begin(const char *module, const char *label);

// Does the token offer the mechanism, with all these flags (CKF_SIGN, ...)?
bool any_offers(unsigned long mechanism, unsigned long flags);
// Its sizes of keys; false: it does not offer the mechanism.
bool any_sizes(unsigned long mechanism, unsigned long *min, unsigned long *max);

// What the token itself answers, in a session of the test's own: its return value, and in said
// (ANY_SAID_SIZE) the function and its name, "C_Sign: CKR_OK".
#define ANY_SAID_SIZE 80
// To a signature by this mechanism, without parameters, with the key of this label.
unsigned long any_sign_directly(const char *label, unsigned long mechanism, struct bytes data,
                                char *said);
// To a C_GenerateKeyPair, or a C_CreateObject of this private key, with nothing in the template but
// what makes the key and CKA_TOKEN. What is made is destroyed again.
unsigned long any_generate_directly(enum token_key_type type, unsigned bits, char *said);
unsigned long any_create_directly(EVP_PKEY *pkey, char *said);

// What it answers to a C_CopyObject of that key as a session object; *count: the copies that there
// are already.
unsigned long any_copy_directly(const char *label, unsigned *count);

// One row of the sheet: it works; the token cannot do it; it could, but not as hsmd asks for it.
void sheet_tested(const char *operation);
void sheet_cannot(const char *operation, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void sheet_hsmd_cannot(const char *operation, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
// Prints the sheet, writes it to the file $TOKEN_SHEET if that is set (for make-table), and fails
// if it is not what the table (TOKENS.md) has in the token's column.
void sheet_compare(const char *table);
