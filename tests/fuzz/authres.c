// SPDX-License-Identifier: Apache-2.0
// Addresses and Authentication-Results: hostile text in what we read and in what we write.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/address.h"
#include "gateway/authres.h"
#include "gateway/mime.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(what)                                                    \
    do {                                                               \
        if (!(what)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                   \
        }                                                              \
    } while (0)

#define ID "mx.a.example"

static const struct spool_conf conf = {"/tmp", 1 << 22, 1 << 24};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    setenv("G_SLICE", "always-malloc", 1);
    mime_init();
    return 0;
}

static void check_address(const char *text)
{
    char address[ADDRESS_MAX];
    char again[ADDRESS_MAX];
    if (address_normalise(text, address, NULL) == ERR_OK && *address) {
        CHECK(address_normalise(address, again, NULL) == ERR_OK);
        CHECK(strcmp(address, again) == 0);
        CHECK(!strpbrk(address_domain(address), "@ \"<>"));
        if (*address_domain(address) && !strchr(address_domain(address), '['))
            CHECK(address_is_in_domain(address, address_domain(address)));
    }
}

// text as the value of a field: From, then Authentication-Results.
static void check_fields(const char *text)
{
    struct message *message = message_new(&conf);
    char from[ADDRESS_MAX];
    CHECK(message_add_header(message, "From", text, NULL) == ERR_OK);
    if (address_from(message, from, NULL) == ERR_OK)
        CHECK(*address_domain(from));
    CHECK(message_add_header(message, "Authentication-Results", text, NULL) == ERR_OK);
    size_t removed = authres_remove_forged(message, ID);
    CHECK(removed + message->header_count == 2);
    // A field that begins with our name is ours, whatever follows.
    char value[5000];
    snprintf(value, sizeof value, " (c) " ID " %s", text);
    CHECK(message_add_header(message, "Authentication-Results", value, NULL) == ERR_OK);
    CHECK(authres_remove_forged(message, ID) == 1);
    message_free(message);
}

static void copy(char *out, size_t size, const char *text)
{
    size_t n = strnlen(text, size - 1);
    memcpy(out, text, n);
    out[n] = 0;
}

static void check_written(const char *text)
{
    struct authres authres = {.result = AUTHRES_FAIL, .was_encrypted = strlen(text) % 2};
    copy(authres.reason, sizeof authres.reason, text);
    copy(authres.identifier, sizeof authres.identifier, text);
    copy(authres.serial, sizeof authres.serial, text);
    copy(authres.issuer, sizeof authres.issuer, text);
    struct message *message = message_new(&conf);
    CHECK(authres_add(message, ID, &authres, NULL) == ERR_OK);
    struct spool *out = spool_new(&conf);
    struct bytes view;
    struct message *read = NULL;
    CHECK(message_write(message, out, NULL) == ERR_OK);
    CHECK(spool_view(out, &view, NULL) == ERR_OK);
    CHECK(message_parse(view, &conf, &read, NULL) == ERR_OK);
    CHECK(read->header_count == 1 && spool_len(read->body) == 0);
    CHECK(authres_remove_forged(read, ID) == 1);
    message_free(read);
    message_free(message);
    spool_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[4000];
    if (size >= sizeof text || (size && memchr(data, 0, size)))
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    check_address(text);
    check_fields(text);
    check_written(text);
    return 0;
}
