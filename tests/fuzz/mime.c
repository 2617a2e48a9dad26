// SPDX-License-Identifier: Apache-2.0
// A message through the MIME room. What must hold whatever it is:
// - it is written as it was read;
// - an entity made of it is 7-bit (but for what somebody signed), and is its own entity;
// - what is wrapped comes out again, verbatim, also when it is wrapped once more.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/mime.h"
#include "gateway/mime_text.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(what)                                                    \
    do {                                                               \
        if (!(what)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort();                                                   \
        }                                                              \
    } while (0)

static const struct spool_conf conf = {"/tmp", 1 << 22, 1 << 24};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    setenv("G_SLICE", "always-malloc", 1);
    mime_init();
    return 0;
}

static struct bytes view_of(struct spool *spool)
{
    struct bytes view;
    CHECK(spool_view(spool, &view, NULL) == ERR_OK);
    return view;
}

static void check_written(struct bytes raw, const struct message *message)
{
    struct spool *out = spool_new(&conf);
    CHECK(message_write(message, out, NULL) == ERR_OK);
    bool has_mbox_line = raw.len >= 5 && memcmp(raw.data, "From ", 5) == 0;
    bool has_nul = raw.len && memchr(raw.data, 0, raw.len);
    CHECK(has_mbox_line || has_nul || bytes_equal(view_of(out), raw));
    spool_free(out);
}

static void check_read(const struct message *message)
{
    struct mime_facts facts;
    CHECK(mime_inspect(message, &facts, NULL) == ERR_OK);
    struct spool *content = spool_new(&conf);
    struct spool *signature = spool_new(&conf);
    struct spool *der = spool_new(&conf);
    enum err err = mime_split_signed(message, content, signature, NULL);
    CHECK(err == ERR_OK || err == ERR_PERM);
    err = mime_decode_pkcs7(message, der, NULL);
    CHECK(err == ERR_OK || err == ERR_PERM);
    spool_free(content);
    spool_free(signature);
    spool_free(der);
}

static void check_wrapped(const struct message *outer, struct bytes entity)
{
    struct bytes signature = BYTES_LITERAL("0\x80signature");
    struct message *wrapped = NULL;
    enum err err = mime_wrap_signed(outer, entity, signature, "sha-256", &wrapped, NULL);
    if (err == ERR_PERM) // too many fields
        return;
    CHECK(err == ERR_OK);
    struct mime_facts facts;
    CHECK(mime_inspect(wrapped, &facts, NULL) == ERR_OK);
    CHECK(facts.kind == MIME_SIGNED && !facts.is_broken);
    struct spool *content = spool_new(&conf);
    struct spool *again = spool_new(&conf);
    struct spool *decoded = spool_new(&conf);
    CHECK(mime_split_signed(wrapped, content, decoded, NULL) == ERR_OK);
    CHECK(bytes_equal(view_of(content), entity));
    CHECK(bytes_equal(view_of(decoded), signature));
    CHECK(mime_make_entity(wrapped, again, NULL) == ERR_OK);
    struct bytes whole = view_of(again);
    CHECK(memmem(whole.data, whole.len, entity.data, entity.len));

    struct message *unwrapped = NULL;
    err = mime_unwrap(wrapped, entity, &unwrapped, NULL);
    CHECK(err == ERR_OK);
    struct spool *inner = spool_new(&conf);
    struct mime_text text = mime_text_scan(entity);
    if (mime_text_is_7bit(&text)) {
        CHECK(mime_make_entity(unwrapped, inner, NULL) == ERR_OK);
        CHECK(bytes_equal(view_of(inner), entity));
    }
    message_free(unwrapped);
    message_free(wrapped);
    spool_free(inner);
    spool_free(content);
    spool_free(again);
    spool_free(decoded);
}

static void check_entity(struct message *message)
{
    struct spool *entity = spool_new(&conf);
    enum err err = mime_make_entity(message, entity, NULL);
    CHECK(err == ERR_OK || err == ERR_PERM);
    if (err == ERR_OK) {
        struct bytes view = view_of(entity);
        struct message *again = NULL;
        struct spool *second = spool_new(&conf);
        CHECK(message_parse(view, &conf, &again, NULL) == ERR_OK);
        CHECK(mime_make_entity(again, second, NULL) == ERR_OK);
        CHECK(bytes_equal(view_of(second), view));
        message_free(again);
        spool_free(second);
        check_wrapped(message, view);
        message->has_crlf = !message->has_crlf;
        check_wrapped(message, view);
    }
    spool_free(entity);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes raw = bytes_of(data, size);
    struct message *message = NULL;
    enum err err = message_parse(raw, &conf, &message, NULL);
    if (err != ERR_OK) {
        CHECK(err == ERR_PERM);
        return 0;
    }
    check_written(raw, message);
    check_read(message);
    struct message *unwrapped = NULL;
    err = mime_unwrap(message, raw, &unwrapped, NULL);
    CHECK(err == ERR_OK || err == ERR_PERM);
    message_free(unwrapped);
    check_entity(message);
    message_free(message);
    return 0;
}
