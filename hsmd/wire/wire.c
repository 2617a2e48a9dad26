// SPDX-License-Identifier: Apache-2.0
#include "hsmd/wire/wire.h"

#include <string.h>

struct row {
    unsigned number;
    const char *name;
};

#define X(symbol, number, name, rest) {symbol, name},
static const struct row operations[] = {WIRE_OPERATIONS(X){0, NULL}};
static const struct row algorithms[] = {WIRE_ALGORITHMS(X){0, NULL}};
static const struct row purposes[] = {WIRE_PURPOSES(X){0, NULL}};
static const struct row states[] = {WIRE_STATES(X){0, NULL}};
#undef X

static const char *name_of(const struct row *rows, unsigned number)
{
    for (; rows->name; rows++) {
        if (rows->number == number)
            return rows->name;
    }
    return NULL;
}

static unsigned number_of(const struct row *rows, const char *name)
{
    for (; rows->name; rows++) {
        if (strcmp(rows->name, name) == 0)
            return rows->number;
    }
    return 0;
}

const char *wire_operation_name(enum wire_operation operation)
{
    return name_of(operations, operation);
}

enum wire_operation wire_operation_by_name(const char *name)
{
    return (enum wire_operation)number_of(operations, name);
}

const char *wire_algorithm_name(enum wire_algorithm algorithm)
{
    return name_of(algorithms, algorithm);
}

enum wire_algorithm wire_algorithm_by_name(const char *name)
{
    return (enum wire_algorithm)number_of(algorithms, name);
}

enum wire_operation wire_algorithm_operation(enum wire_algorithm algorithm)
{
#define X(symbol, number, name, operation) \
    if (algorithm == (symbol))             \
        return operation;
    WIRE_ALGORITHMS(X)
#undef X
    return (enum wire_operation)0;
}

const char *wire_purpose_name(enum wire_purpose purpose)
{
    return name_of(purposes, purpose);
}

enum wire_purpose wire_purpose_by_name(const char *name)
{
    return (enum wire_purpose)number_of(purposes, name);
}

const char *wire_state_name(enum wire_state state)
{
    return name_of(states, state);
}

enum wire_state wire_state_by_name(const char *name)
{
    return (enum wire_state)number_of(states, name);
}
