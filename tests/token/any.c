// SPDX-License-Identifier: Apache-2.0
#include "tests/token/any.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

#include "hsmd/base/file.h"

#define ROWS_MAX 64
#define SLOTS_MAX 64

static CK_FUNCTION_LIST *functions;
static CK_SLOT_ID slot;
static struct {
    char operation[64], result[200];
} sheet[ROWS_MAX];
static unsigned rows;

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);
    if (!value)
        fail_msg("%s is not set: to be run by with-token", name);
    return value;
}

const char *any_kind(void)
{
    return from_environment("TOKEN_KIND");
}

// The module is loaded already; this is a second look at it.
static void ask_directly(const char *module, const char *label)
{
    CK_C_GetFunctionList get = NULL;
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    void *handle = dlopen(module, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    assert_non_null(handle);
    *(void **)&get = dlsym(handle, "C_GetFunctionList");
    assert_int_equal(get(&functions), CKR_OK);
    assert_int_equal(functions->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (functions->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
            strncmp((char *)info.label, label, strlen(label)) == 0)
            slot = slots[i];
    }
    dlclose(handle);
}

void any_begin(unsigned sessions)
{
    struct detail detail = {0};
    const char *init_args = from_environment("TOKEN_INIT_ARGS");
    const struct token_conf conf = {.name = any_kind(),
                                    .module = from_environment("TOKEN_MODULE"),
                                    .label = from_environment("TOKEN_LABEL"),
                                    .init_args = *init_args ? init_args : NULL,
                                    .sessions = sessions,
                                    .wait_ms = 60000,
                                    .copy_keys = true};
    assert_ok(secret_init(&fixture.pin, 64, &detail), &detail);
    assert_ok(secret_init(&fixture.out, 4096, &detail), &detail);
    assert_ok(file_read_secret(from_environment("TOKEN_PIN_FILE"), &fixture.pin, &detail), &detail);
    assert_ok(token_open(&conf, &fixture.token, &detail), &detail);
    ask_directly(conf.module, conf.label);
    assert_ok(token_login(fixture.token, &fixture.pin, &detail), &detail);
}

void any_end(void)
{
    token_close(fixture.token);
    secret_clear(&fixture.pin);
    secret_clear(&fixture.out);
}

bool any_offers(unsigned long mechanism, unsigned long flags)
{
    CK_MECHANISM_INFO info;
    return functions->C_GetMechanismInfo(slot, mechanism, &info) == CKR_OK &&
           (info.flags & flags) == flags;
}

bool any_sizes(unsigned long mechanism, unsigned long *min, unsigned long *max)
{
    CK_MECHANISM_INFO info;
    if (functions->C_GetMechanismInfo(slot, mechanism, &info) != CKR_OK)
        return false;
    *min = info.ulMinKeySize;
    *max = info.ulMaxKeySize;
    return true;
}

// Private keys with that label, in a session to be closed by the caller.
static CK_SESSION_HANDLE find_directly(const char *label, bool is_token, CK_OBJECT_HANDLE *first,
                                       CK_ULONG *count)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_BBOOL token = is_token ? CK_TRUE : CK_FALSE;
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class},
                            {CKA_TOKEN, &token, sizeof token},
                            {CKA_LABEL, (void *)label, strlen(label)}};
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE objects[64];
    assert_int_equal(functions->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session), 0);
    assert_int_equal(functions->C_FindObjectsInit(session, match, 3), CKR_OK);
    assert_int_equal(functions->C_FindObjects(session, objects, 64, count), CKR_OK);
    assert_int_equal(functions->C_FindObjectsFinal(session), CKR_OK);
    *first = objects[0];
    return session;
}

unsigned long any_sign_directly(const char *label, unsigned long type)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_BYTE data[32] = {0}, signature[TOKEN_SIGNATURE_MAX];
    CK_OBJECT_HANDLE object;
    CK_ULONG count = 0, len = sizeof signature;
    CK_SESSION_HANDLE session = find_directly(label, true, &object, &count);
    assert_int_equal(count, 1);
    CK_RV rv = functions->C_SignInit(session, &mechanism, object);
    if (rv == CKR_OK)
        rv = functions->C_Sign(session, data, sizeof data, signature, &len);
    assert_int_equal(functions->C_CloseSession(session), CKR_OK);
    return rv;
}

unsigned long any_copy_directly(const char *label, unsigned *copies)
{
    CK_BBOOL no = CK_FALSE;
    CK_ATTRIBUTE template = {CKA_TOKEN, &no, sizeof no};
    CK_OBJECT_HANDLE object, copy;
    CK_ULONG count = 0;
    assert_int_equal(functions->C_CloseSession(find_directly(label, false, &object, &count)), 0);
    *copies = (unsigned)count;
    CK_SESSION_HANDLE session = find_directly(label, true, &object, &count);
    assert_int_equal(count, 1);
    CK_RV rv = functions->C_CopyObject(session, object, &template, 1, &copy);
    assert_int_equal(functions->C_CloseSession(session), CKR_OK);
    return rv;
}

static void note(const char *operation, const char *result)
{
    assert_true(rows < ROWS_MAX);
    snprintf(sheet[rows].operation, sizeof sheet->operation, "%s", operation);
    snprintf(sheet[rows].result, sizeof sheet->result, "%s", result);
    printf("    %-36s %s\n", operation, result);
    rows++;
}

void sheet_tested(const char *operation)
{
    note(operation, "tested");
}

void sheet_cannot(const char *operation, const char *fmt, ...)
{
    char reason[160], result[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    snprintf(result, sizeof result, "token cannot: %s", reason);
    note(operation, result);
}

// The cell of a table's line, without the blanks around it. False: there is none.
static bool cell(const char *line, unsigned column, char *out, size_t room)
{
    for (unsigned i = 0; i <= column; i++) {
        line = strchr(line, '|');
        if (!line)
            return false;
        line++;
    }
    line += strspn(line, " ");
    size_t len = strcspn(line, "|\n");
    while (len > 0 && line[len - 1] == ' ')
        len--;
    snprintf(out, room, "%.*s", (int)len, line);
    return true;
}

// The column of the token in the table's first line; 0: none.
static unsigned column_of(const char *line, const char *kind)
{
    char text[64];
    for (unsigned i = 1; cell(line, i, text, sizeof text); i++) {
        if (strcmp(text, kind) == 0)
            return i;
    }
    return 0;
}

static void write_sheet(void)
{
    const char *path = getenv("TOKEN_SHEET");
    FILE *file = path ? fopen(path, "w") : NULL;
    for (unsigned i = 0; i < rows && file; i++)
        fprintf(file, "%s|%s\n", sheet[i].operation, sheet[i].result);
    if (file)
        assert_int_equal(fclose(file), 0);
}

void sheet_compare(const char *table)
{
    char line[2000], operation[64], result[200];
    unsigned column = 0, at = 0, wrong = 0;
    write_sheet();
    FILE *file = fopen(table, "r");
    if (!file)
        fail_msg("cannot read %s", table);
    while (fgets(line, sizeof line, file)) {
        if (column == 0) {
            column = *line == '|' ? column_of(line, any_kind()) : 0;
            continue;
        }
        if (!cell(line, 0, operation, sizeof operation))
            break; // what follows is another table
        if (*operation == '-' || !cell(line, column, result, sizeof result))
            continue;
        bool same = at < rows && strcmp(sheet[at].operation, operation) == 0 &&
                    strcmp(sheet[at].result, result) == 0;
        if (!same)
            printf("table: %s: %s\n  came: %s: %s\n", operation, result,
                   at < rows ? sheet[at].operation : "", at < rows ? sheet[at].result : "nothing");
        wrong += !same;
        at++;
    }
    fclose(file);
    if (column == 0 || wrong > 0 || at != rows)
        fail_msg("%s is not what came out for %s: %u rows of %u differ; tests/token/make-table "
                 "writes it anew",
                 table, any_kind(), wrong, rows);
}
