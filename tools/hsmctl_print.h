// SPDX-License-Identifier: Apache-2.0
// What people read, and what programs read.
#pragma once

#include <stdio.h>

#include <jansson.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

// Appends text as a terminal may have it: UTF-8 as it is, but for control characters and those that
// change the direction of writing, and bytes that are no UTF-8: \xNN. Line ends stay if asked for.
enum err print_clean(struct buf *out, struct bytes text, bool keeps_lines);
// The same to a stream.
void print_text(FILE *out, const char *text, bool keeps_lines);

struct column {
    const char *title;
    const char *path; // "left.per_hour"; of an array: of each of its items, with commas between
};

// A value for people: text, number, yes or no, a list with commas, "-" if there is none.
enum err print_value(const json_t *object, const char *path, struct buf *out);
// An array of objects as a table; nothing in it: the text empty.
enum err print_table(FILE *out, const json_t *array, const struct column *columns, size_t count,
                     const char *empty);
// An object as lines "title: value"; values that are not there are left out.
enum err print_fields(FILE *out, const json_t *object, const struct column *columns, size_t count);
enum err print_json(const json_t *json, struct detail *detail);
