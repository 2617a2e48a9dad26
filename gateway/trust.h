// SPDX-License-Identifier: Apache-2.0
// Whose signatures count: trust anchors from a file (F28) and chain validation for S/MIME (RFC
// 5280, RFC 8550).
#pragma once

#include <time.h>

#include <openssl/x509.h>

#include "hsmd/base/err.h"

struct trust;

// path: PEM, one or more anchors. ERR_PERM: unreadable or none in it.
enum err trust_load(const char *path, struct trust **trust, struct detail *detail);
void trust_free(struct trust *trust);

enum trust_purpose { TRUST_SIGN, TRUST_ENCRYPT };

// Builds and checks the chain of cert with the intermediates (may be NULL) at that time. ERR_PERM:
// not trusted (the detail says why, without names); *is_expired tells whether dates were the only
// fault.
enum err trust_check(const struct trust *trust, X509 *cert, STACK_OF(X509) * intermediates,
                     enum trust_purpose purpose, time_t at, bool *is_expired,
                     struct detail *detail);
