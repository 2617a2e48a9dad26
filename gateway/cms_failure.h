// SPDX-License-Identifier: Apache-2.0
// Failures of libcrypto where a private key in hsmd has a part, told apart: hsmd.so leaves hsmd's
// class of failure on the OpenSSL error queue.
#pragma once

#include "hsmd/base/err.h"

// As err_openssl, but if hsmd.so put something on this thread's queue, then with the class and the
// reason of that. Empties the queue.
enum err cms_failure(struct detail *detail, enum err class, const char *what);
