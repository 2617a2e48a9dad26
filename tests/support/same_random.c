// SPDX-License-Identifier: Apache-2.0
#include "tests/support/same_random.h"

#include <stdint.h>

#include <sodium.h>

static uint64_t drawn;

static void draw(void *place, size_t size)
{
    uint8_t *bytes = place;
    for (size_t i = 0; i < size; i++) {
        drawn = drawn * 6364136223846793005 + 1442695040888963407;
        bytes[i] = (uint8_t)(drawn >> 56);
    }
}

static const char *draw_name(void)
{
    return "the same each time";
}

static uint32_t draw_number(void)
{
    uint32_t number = 0;
    draw(&number, sizeof number);
    return number;
}

int same_random_install(void)
{
    static struct randombytes_implementation same = {
        .implementation_name = draw_name, .random = draw_number, .buf = draw};
    return randombytes_set_implementation(&same);
}

void same_random_restart(void)
{
    drawn = 0;
}
