// SPDX-License-Identifier: Apache-2.0
// The provider's reasons on OpenSSL's error queue, under the library name "hsmd". They are the
// contract with programs that must tell a failure that passes from one that does not.
#pragma once

#define PROVIDER_LIBRARY "hsmd" // what ERR_lib_error_string says

// X(symbol, number, text). The first four are hsmd's classes of failure (hsmd/base/err.h).
#define PROVIDER_REASONS(X)                                                   \
    X(REASON_TEMP, 1, "hsmd cannot do it now")                                \
    X(REASON_PERM, 2, "hsmd rejects the request")                             \
    X(REASON_DENIED, 3, "hsmd denies the request")                            \
    X(REASON_BUG, 4, "internal error")                                        \
    X(REASON_CONFIGURATION, 5, "configuration of the hsmd provider")          \
    X(REASON_URI, 6, "not a URI of a key in hsmd")                            \
    X(REASON_PRIVATE_STAYS, 7, "a private key does not leave hsmd")           \
    X(REASON_PRIVATE_FOREIGN, 8, "private keys from elsewhere are not taken") \
    X(REASON_NO_PRIVATE, 9, "the key has no private half in hsmd")            \
    X(REASON_PURPOSE, 10, "not what the key is for")                          \
    X(REASON_DIGEST, 11, "digest")                                            \
    X(REASON_PADDING, 12, "padding")                                          \
    X(REASON_PARAMETER, 13, "parameter")                                      \
    X(REASON_LENGTH, 14, "length")                                            \
    X(REASON_NO_KDF, 15, "a raw shared secret does not leave hsmd")           \
    X(REASON_PEER, 16, "peer key")                                            \
    X(REASON_MEMORY, 17, "out of memory")                                     \
    X(REASON_PUBLIC_HALF, 18, "operation with the public half")               \
    X(REASON_REPLY, 19, "hsmd's reply makes no sense")

enum reason {
#define X(symbol, number, text) symbol = (number),
    PROVIDER_REASONS(X)
#undef X
};
