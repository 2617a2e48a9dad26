// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/spool.h"
#include "hsmd/base/alloc.h"

static char directory[] = "/tmp/sealgate-spool.XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

// Also proves that nothing is left in the directory.
static int tear_down(void **state)
{
    (void)state;
    return rmdir(directory);
}

static const struct {
    const char *name;
    size_t memory_max, max, chunk, count;
    enum err last; // of the last put
} cases[] = {
    {"nothing", 100, 100, 0, 1, ERR_OK},
    {"in memory", 1000, 1000, 10, 100, ERR_OK},
    {"one byte over the cap", 1000, 999, 10, 100, ERR_PERM},
    {"one byte over into a file", 999, 100000, 10, 100, ERR_OK},
    {"a file from the start", 0, 1 << 20, 1, 5000, ERR_OK},
    {"over the cap of a file", 0, 99, 10, 10, ERR_PERM},
    {"large chunks", 1 << 16, 1 << 24, 300000, 10, ERR_OK},
    {"chunks as large as the write buffer", 100, 1 << 24, 65536, 5, ERR_OK},
    {"odd chunks", 1 << 16, 1 << 24, 4093, 100, ERR_OK},
};

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8));
}

static void test_content(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        print_message("%s\n", cases[c].name);
        struct spool_conf conf = {directory, cases[c].memory_max, cases[c].max};
        struct spool *spool = spool_new(&conf);
        assert_non_null(spool);
        assert_ptr_equal(spool_conf(spool), &conf);
        uint8_t *chunk = calloc(1, cases[c].chunk + 1);
        size_t len = 0;
        for (size_t k = 0; k < cases[c].count; k++) {
            for (size_t i = 0; i < cases[c].chunk; i++)
                chunk[i] = pattern(len + i);
            struct detail detail = {0};
            enum err err = spool_put(spool, bytes_of(chunk, cases[c].chunk), &detail);
            bool is_last = k + 1 == cases[c].count;
            assert_int_equal(err, is_last ? cases[c].last : ERR_OK);
            assert_int_equal(detail.text[0] != 0, err != ERR_OK);
            if (err == ERR_OK)
                len += cases[c].chunk;
            // Views between the puts, so that a mapping has to be made anew.
            if (k % 7 == 3 || is_last) {
                struct bytes view;
                assert_int_equal(spool_view(spool, &view, NULL), ERR_OK);
                assert_int_equal(view.len, len);
                for (size_t i = 0; i < len; i++)
                    assert_int_equal(view.data[i], pattern(i));
            }
        }
        assert_int_equal(spool_len(spool), len);
        spool_free(spool);
        free(chunk);
    }
}

static void test_failures(void **state)
{
    (void)state;
    struct detail detail = {0};
    struct spool_conf nowhere = {"/nonexistent/spool", 3, 100};
    struct spool *spool = spool_new(&nowhere);
    assert_int_equal(spool_put(spool, BYTES_LITERAL("abc"), &detail), ERR_OK);
    assert_int_equal(spool_put(spool, BYTES_LITERAL("d"), &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, "/nonexistent/spool"));
    struct bytes view;
    assert_int_equal(spool_view(spool, &view, NULL), ERR_OK);
    assert_true(bytes_equal(view, BYTES_LITERAL("abc")));
    spool_free(spool);
    spool_free(NULL);

    struct spool_conf conf = {directory, 1 << 20, 1 << 20};
    for (unsigned n = 1; n < 4; n++) {
        mem_fail_at(n);
        spool = spool_new(&conf);
        enum err err = ERR_TEMP;
        if (spool)
            err = spool_put(spool, BYTES_LITERAL("abc"), &detail);
        mem_fail_at(0);
        assert_int_equal(err, n < 3 ? ERR_TEMP : ERR_OK);
        spool_free(spool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
