// SPDX-License-Identifier: Apache-2.0
// Between softhsm.c (tokens) and softhsm_keys.c (objects in them).
#pragma once

#include <p11-kit/pkcs11.h>

#include "tests/support/softhsm.h"

void softhsm_die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void softhsm_check(CK_RV rv, const char *step);

// Writes certs/ca.pem.
void softhsm_certificate_ca(const struct softhsm *hsm);
