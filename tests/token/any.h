// SPDX-License-Identifier: Apache-2.0
// A token of any maker, as with-token says in the environment where it is; what it offers, asked of
// the module itself and not of the code under test; and the sheet of what was tested with it.
#pragma once

#include "tests/token/fixture.h"

// Opens the token of the environment as fixture.token and logs in.
void any_begin(unsigned sessions);
void any_end(void);
const char *any_kind(void); // "softhsm", "nss", ...

// Does the token offer the mechanism, with all these flags (CKF_SIGN, ...)?
bool any_offers(unsigned long mechanism, unsigned long flags);
// Its sizes of keys; false: it does not offer the mechanism.
bool any_sizes(unsigned long mechanism, unsigned long *min, unsigned long *max);

// What the token itself answers to a signature by this mechanism with the key of this label, in a
// session of the test's own: its return value.
unsigned long any_sign_directly(const char *label, unsigned long mechanism);

// What it answers to a C_CopyObject of that key as a session object; *count: the copies that there
// are already.
unsigned long any_copy_directly(const char *label, unsigned *count);

// One row of the sheet.
void sheet_tested(const char *operation);
void sheet_cannot(const char *operation, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
// Prints the sheet, writes it to the file $TOKEN_SHEET if that is set (for make-table), and fails
// if it is not what the table (TOKENS.md) has in the token's column.
void sheet_compare(const char *table);
