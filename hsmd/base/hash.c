// SPDX-License-Identifier: Apache-2.0
#include "hsmd/base/hash.h"

#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

struct row {
    const char *name;
    size_t size;
};

static const struct row rows[HASH_COUNT] = {
#define X(symbol, number, name, size) [symbol] = {name, size},
    HASH_TABLE(X)
#undef X
};

const char *hash_name(enum hash hash)
{
    return (unsigned)hash < HASH_COUNT ? rows[hash].name : "unknown";
}

size_t hash_size(enum hash hash)
{
    return (unsigned)hash < HASH_COUNT ? rows[hash].size : 0;
}

enum hash hash_by_name(const char *name)
{
    static const struct {
        const char *alias;
        enum hash hash;
    } aliases[] = {
        {"SHA-1", HASH_SHA1},      {"SHA2-224", HASH_SHA224}, {"SHA-224", HASH_SHA224},
        {"SHA2-256", HASH_SHA256}, {"SHA-256", HASH_SHA256},  {"SHA2-384", HASH_SHA384},
        {"SHA-384", HASH_SHA384},  {"SHA2-512", HASH_SHA512}, {"SHA-512", HASH_SHA512},
    };
    for (unsigned i = 1; i < HASH_COUNT; i++) {
        if (strcasecmp(rows[i].name, name) == 0)
            return (enum hash)i;
    }
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        if (strcasecmp(aliases[i].alias, name) == 0)
            return aliases[i].hash;
    }
    return HASH_NONE;
}

enum hash hash_by_size(size_t size)
{
    for (unsigned i = 1; i < HASH_COUNT; i++) {
        if (rows[i].size == size)
            return (enum hash)i;
    }
    return HASH_NONE;
}

struct bytes hash_digest_info_prefix(enum hash hash)
{
    // RFC 8017, 9.2, note 1.
    static const uint8_t sha1[] = {0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e,
                                   0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14};
    static const uint8_t sha2[][19] = {
#define PREFIX(total, oid, size)                                  \
    {0x30, total, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, \
     0x65, 0x03,  0x04, 0x02, oid,  0x05, 0x00, 0x04, size}
        PREFIX(0x2d, 4, 28),
        PREFIX(0x31, 1, 32),
        PREFIX(0x41, 2, 48),
        PREFIX(0x51, 3, 64),
#undef PREFIX
    };
    if (hash == HASH_SHA1)
        return bytes_of(sha1, sizeof sha1);
    if (hash >= HASH_SHA224 && hash <= HASH_SHA512)
        return bytes_of(sha2[hash - HASH_SHA224], sizeof sha2[0]);
    return bytes_of(NULL, 0);
}

// Once for all threads: to fetch takes about as long as to hash a line. NULL: out of memory.
static const EVP_MD *fetch(enum hash hash)
{
    static _Atomic(EVP_MD *) fetched[HASH_COUNT];
    EVP_MD *before = atomic_load(&fetched[hash]);
    if (before)
        return before;
    EVP_MD *md = EVP_MD_fetch(NULL, rows[hash].name, NULL);
    if (!md || atomic_compare_exchange_strong(&fetched[hash], &before, md))
        return md;
    EVP_MD_free(md); // another thread was faster
    return before;
}

enum err hash_digest(enum hash hash, struct bytes data, uint8_t *out)
{
    if (!hash_size(hash))
        return ERR_BUG;
    const EVP_MD *md = fetch(hash);
    return md && EVP_Digest(data.data, data.len, out, NULL, md, NULL) == 1 ? ERR_OK : ERR_TEMP;
}
