// SPDX-License-Identifier: Apache-2.0
// Does the time depend on the plaintext? Run under valgrind's memcheck: the secret blocks are
// marked as undefined, so that every branch and every address that depends on them is an error. By
// itself it only tells that the marked data comes out again.
#include <stdio.h>
#include <string.h>

#include <valgrind/memcheck.h>

#include "pkcs11/ct.h"
#include "pkcs11/padding.h"

static struct secret out;

static void hide(void *data, size_t len)
{
    (void)VALGRIND_MAKE_MEM_UNDEFINED(data, len);
}

static void show(void *data, size_t len)
{
    (void)VALGRIND_MAKE_MEM_DEFINED(data, len);
}

static int remove_pkcs1(uint8_t first, size_t length)
{
    static const uint8_t seed[PADDING_SEED_SIZE] = {1};
    uint8_t block[256];
    memset(block, 0x5c, sizeof block);
    block[0] = first;
    block[1] = 2;
    block[256 - 33] = 0;
    hide(block, sizeof block);
    enum err err = padding_remove_pkcs1(bytes_of(block, sizeof block), seed, length, &out);
    show(&err, sizeof err);
    show(&out.len, sizeof out.len);
    show(out.data, out.room);
    return err == ERR_OK && (first != 0 || (out.len == 32 && out.data[0] == 0x5c)) ? 0 : 1;
}

static int rebuild(bool is_bad)
{
    uint8_t block[256];
    size_t len = 32;
    memset(block, 0x5c, sizeof block);
    hide(block, sizeof block);
    hide(&is_bad, sizeof is_bad);
    hide(&len, sizeof len);
    padding_rebuild_pkcs1(block, sizeof block, len, is_bad);
    show(block, sizeof block);
    show(&is_bad, sizeof is_bad);
    return block[0] == is_bad && block[255] == (is_bad ? 0 : 0x5c) ? 0 : 1;
}

static int remove_oaep(uint8_t first)
{
    uint8_t block[256];
    memset(block, 0x5c, sizeof block);
    block[0] = first;
    hide(block, sizeof block);
    enum err err = padding_remove_oaep(bytes_of(block, sizeof block), HASH_SHA256, HASH_SHA256,
                                       bytes_of(NULL, 0), &out);
    show(&err, sizeof err);
    show(&out.len, sizeof out.len);
    return err == ERR_PERM ? 0 : 1;
}

int main(void)
{
    if (secret_init(&out, PADDING_BLOCK_MAX, NULL) != ERR_OK)
        return 1;
    int failures = remove_pkcs1(0, 0) + remove_pkcs1(0, 32) + remove_pkcs1(1, 0) +
                   remove_pkcs1(1, 32) + rebuild(false) + rebuild(true) + remove_oaep(0) +
                   remove_oaep(1);
    secret_clear(&out);
    if (failures > 0)
        fprintf(stderr, "%d failures\n", failures);
    return failures > 0;
}
