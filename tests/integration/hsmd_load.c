// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/hsmd_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/rand.h>
#include <openssl/rsa.h>

#include "hsmd/audit/audit_parse.h"
#include "tests/support/custodian.h"
#include "tests/support/require.h"

#define DIGEST_SIZE 32
#define SECRET_SIZE 24
#define PAUSE_US 2000 // after a failure

// What one caller has at hand.
struct tools {
    struct buf frame;
    struct buf attributes; // with the message digest at its end
    uint8_t secret[SECRET_SIZE];
    uint8_t ciphertext[WIRE_CIPHERTEXT_MAX];
};

static bool is_signature(EVP_PKEY *key, struct bytes data, struct bytes signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool is_good = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
                   EVP_DigestVerify(ctx, signature.data, signature.len, data.data, data.len) == 1;
    EVP_MD_CTX_free(ctx);
    return is_good;
}

static enum err sign(struct load *load, struct tools *tools, struct load_answer *answer,
                     bool *is_right)
{
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_SIGN,
                                   .sign = {.key = BYTES_LITERAL("signing"),
                                            .algorithm = WIRE_RSA_PKCS1,
                                            .hash = HASH_SHA256,
                                            .form = WIRE_ATTRIBUTES,
                                            .data = buf_bytes(&tools->attributes)}};
    REQUIRE(RAND_bytes(answer->digest, DIGEST_SIZE) == 1);
    memcpy(tools->attributes.data + tools->attributes.len - DIGEST_SIZE, answer->digest,
           DIGEST_SIZE);
    enum err err = client_call(load->client, &request, &tools->frame, &reply, NULL);
    answer->id = request.id;
    *is_right = err == ERR_OK &&
                is_signature(load->signing, buf_bytes(&tools->attributes), reply.signature);
    return err;
}

static size_t wrap(EVP_PKEY *key, struct tools *tools)
{
    size_t len = sizeof tools->ciphertext;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    REQUIRE(RAND_bytes(tools->secret, SECRET_SIZE) == 1);
    REQUIRE(EVP_PKEY_encrypt_init(ctx) == 1);
    REQUIRE(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1);
    REQUIRE(EVP_PKEY_encrypt(ctx, tools->ciphertext, &len, tools->secret, SECRET_SIZE) == 1);
    EVP_PKEY_CTX_free(ctx);
    return len;
}

static enum err unwrap(struct load *load, struct tools *tools, struct load_answer *answer,
                       bool *is_right)
{
    struct wire_reply reply;
    struct bytes ciphertext = bytes_of(tools->ciphertext, wrap(load->decryption, tools));
    struct wire_request request = {.operation = WIRE_UNWRAP,
                                   .unwrap = {.key = BYTES_LITERAL("decryption"),
                                              .algorithm = WIRE_RSAES_PKCS1,
                                              .length = SECRET_SIZE,
                                              .ciphertext = ciphertext}};
    REQUIRE(hash_digest(HASH_SHA256, ciphertext, answer->digest) == ERR_OK);
    enum err err = client_call(load->client, &request, &tools->frame, &reply, NULL);
    answer->id = request.id;
    *is_right =
        err == ERR_OK && bytes_equal(reply.unwrapped.secret, bytes_of(tools->secret, SECRET_SIZE));
    return err;
}

static void note_answer(struct load_caller *caller, const struct load_answer *answer)
{
    size_t count = atomic_load(&caller->answer_count);
    if (count == caller->answer_room) {
        caller->answer_room = 2 * count + 1024;
        caller->answers = realloc(caller->answers, caller->answer_room * sizeof *caller->answers);
        REQUIRE(caller->answers);
    }
    caller->answers[count] = *answer;
    atomic_store(&caller->answer_count, count + 1);
}

static void raise(atomic_uint *most, unsigned value)
{
    unsigned seen = atomic_load(most);
    while (value > seen && !atomic_compare_exchange_weak(most, &seen, value))
        ;
}

static void call_once(struct load_caller *caller, struct tools *tools, unsigned operation)
{
    struct load *load = caller->load;
    struct load_answer answer = {.operation = operation};
    bool is_right = false;
    deadline_t began = clock_ms();
    buf_reset(&tools->frame);
    enum err err = operation == LOAD_SIGN ? sign(load, tools, &answer, &is_right)
                                          : unwrap(load, tools, &answer, &is_right);
    unsigned took = (unsigned)(clock_ms() - began);
    raise(&load->longest_ms, took);
    if (took > load->late_ms)
        load->late++;
    if (err == ERR_OK && is_right) {
        note_answer(caller, &answer);
        load->answered++;
        atomic_store(&load->begun[operation], began);
    } else if (err == ERR_OK) {
        load->wrong++;
    } else if (err == ERR_TEMP) {
        load->temporary++;
    } else {
        load->other++;
    }
    if (err != ERR_OK)
        usleep(PAUSE_US);
}

static void *call_on(void *argument)
{
    struct load_caller *caller = argument;
    struct tools tools = {0};
    buf_init(&tools.frame, WIRE_FRAME_MAX);
    buf_init(&tools.attributes, 4096);
    custodian_attributes(HASH_SHA256, &tools.attributes);
    for (unsigned turn = (unsigned)(caller - caller->load->callers);
         !atomic_load(&caller->load->is_stopping); turn++)
        call_once(caller, &tools, turn % LOAD_OPERATIONS);
    buf_clear(&tools.attributes);
    buf_clear(&tools.frame);
    return NULL;
}

void load_begin(struct load *load, struct hsmd *hsmd, unsigned timeout_ms, unsigned late_ms)
{
    memset(load, 0, sizeof *load);
    load->late_ms = late_ms;
    load->client = hsmd_client(hsmd, "gw", timeout_ms);
    load->signing = softhsm_public_key(&hsmd->hsm, "rsa2048");
    load->decryption = softhsm_public_key(&hsmd->hsm, "rsa3072");
    REQUIRE(load->signing && load->decryption);
    for (unsigned i = 0; i < LOAD_CALLERS; i++) {
        struct load_caller *caller = &load->callers[i];
        caller->load = load;
        REQUIRE(pthread_create(&caller->thread, NULL, call_on, caller) == 0);
        caller->is_started = true;
    }
}

bool load_wait(struct load *load, unsigned more, unsigned ms)
{
    unsigned before = load->answered;
    deadline_t limit = deadline_in(ms);
    while (load->answered - before < more && !deadline_is_past(limit))
        usleep(1000);
    return load->answered - before >= more;
}

unsigned load_wait_healthy(struct load *load, unsigned limit_ms)
{
    deadline_t from = clock_ms();
    deadline_t limit = deadline_in(limit_ms);
    while ((load->begun[LOAD_SIGN] < from || load->begun[LOAD_UNWRAP] < from) &&
           !deadline_is_past(limit))
        usleep(1000);
    return (unsigned)(clock_ms() - from);
}

bool load_wait_everybody(struct load *load, unsigned ms)
{
    size_t before[LOAD_CALLERS];
    deadline_t limit = deadline_in(ms);
    unsigned served = 0;
    for (unsigned i = 0; i < LOAD_CALLERS; i++)
        before[i] = load->callers[i].answer_count;
    while (served < LOAD_CALLERS && !deadline_is_past(limit)) {
        served = 0;
        for (unsigned i = 0; i < LOAD_CALLERS; i++)
            served += load->callers[i].answer_count > before[i];
        usleep(1000);
    }
    return served == LOAD_CALLERS;
}

void load_stop(struct load *load)
{
    atomic_store(&load->is_stopping, true);
    for (unsigned i = 0; i < LOAD_CALLERS; i++) {
        if (load->callers[i].is_started)
            pthread_join(load->callers[i].thread, NULL);
        load->callers[i].is_started = false;
    }
}

void load_clear(struct load *load)
{
    load_stop(load);
    for (unsigned i = 0; i < LOAD_CALLERS; i++)
        free(load->callers[i].answers);
    client_close(load->client);
    EVP_PKEY_free(load->signing);
    EVP_PKEY_free(load->decryption);
    memset(load, 0, sizeof *load);
}

static int compare(const void *a, const void *b)
{
    const struct load_answer *x = a;
    const struct load_answer *y = b;
    return memcmp(x->digest, y->digest, DIGEST_SIZE);
}

static bool get_hex(struct bytes text, uint8_t out[DIGEST_SIZE])
{
    char copy[2 * DIGEST_SIZE + 1] = "";
    size_t len = 0;
    if (text.len != sizeof copy - 1)
        return false;
    memcpy(copy, text.data, text.len);
    return OPENSSL_hexstr2buf_ex(out, DIGEST_SIZE, &len, copy, 0) == 1 && len == DIGEST_SIZE;
}

// The uses that went well, sorted by their digests. The caller frees them.
static struct load_answer *used(struct bytes log, size_t *count)
{
    size_t room = log.len / 200 + 1; // two hashes of 64 digits and more
    struct load_answer *uses = calloc(room, sizeof *uses);
    REQUIRE(uses);
    *count = 0;
    while (log.len) {
        const uint8_t *end = memchr(log.data, '\n', log.len);
        size_t len = end ? (size_t)(end - log.data) : log.len;
        struct audit_line line;
        struct load_answer use = {0};
        if (audit_parse(bytes_of(log.data, len), &line, NULL) == ERR_OK &&
            line.event == AUDIT_USE &&
            bytes_equal(line.fields[AUDIT_FIELD_RESULT], BYTES_LITERAL("ok"))) {
            bool is_sign = bytes_equal(line.fields[AUDIT_FIELD_OPERATION], BYTES_LITERAL("sign"));
            use.operation = is_sign ? LOAD_SIGN : LOAD_UNWRAP;
            use.id = audit_field_number(line.fields[AUDIT_FIELD_ID]);
            REQUIRE(
                get_hex(line.fields[is_sign ? AUDIT_FIELD_MESSAGE_DIGEST : AUDIT_FIELD_CIPHERTEXT],
                        use.digest));
            REQUIRE(*count < room);
            uses[(*count)++] = use;
        }
        len += end ? 1 : 0;
        log = bytes_of(log.data + len, log.len - len);
    }
    qsort(uses, *count, sizeof *uses, compare);
    return uses;
}

static bool is_once(const struct load_answer *answer, const struct load_answer *uses, size_t count)
{
    const struct load_answer *at = bsearch(answer, uses, count, sizeof *uses, compare);
    return at && at->id == answer->id && at->operation == answer->operation &&
           (at == uses || compare(at, at - 1) != 0) &&
           (at + 1 == uses + count || compare(at, at + 1) != 0);
}

unsigned load_missing(const struct load *load, struct bytes log)
{
    size_t count = 0;
    unsigned missing = 0;
    struct load_answer *uses = used(log, &count);
    for (unsigned i = 0; i < LOAD_CALLERS; i++) {
        const struct load_caller *caller = &load->callers[i];
        for (size_t n = 0; n < caller->answer_count; n++) {
            if (is_once(&caller->answers[n], uses, count))
                continue;
            missing++;
            fprintf(stderr, "request %ju was answered and has not one line in the log\n",
                    (uintmax_t)caller->answers[n].id);
        }
    }
    free(uses);
    return missing;
}
