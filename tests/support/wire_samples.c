// SPDX-License-Identifier: Apache-2.0
#include "wire_samples.h"

#define X(symbol, number, name, rest) symbol,
const enum wire_operation sample_operations[] = {WIRE_OPERATIONS(X)};
#undef X
const size_t sample_operations_count = sizeof sample_operations / sizeof *sample_operations;

static const uint8_t filler[WIRE_FRAME_MAX] = {0x30, 0x82, 0x01, 0x00, 0xff, 0x00, 0x7f, 0x80};

static struct bytes fill(enum sample_size size, size_t min, size_t typical, size_t max)
{
    const size_t lens[] = {min, typical, max};
    return bytes_of(filler, lens[size]);
}

static unsigned number(enum sample_size size, unsigned min, unsigned typical, unsigned max)
{
    const unsigned numbers[] = {min, typical, max};
    return numbers[size];
}

static struct bytes name(enum sample_size size)
{
    static const char *const names[] = {
        "a", "signing", "0123456789abcdefghijklmnopqrstuvwxyz_ABCDEFGHIJKLMNOPQRSTUVW.-Z9"};
    return bytes_of_text(names[size]);
}

static struct wire_sign sign_sample(enum sample_size size)
{
    static const struct {
        enum wire_algorithm algorithm;
        enum hash hash;
        enum wire_form form;
    } choices[] = {
        {WIRE_EDDSA, HASH_NONE, WIRE_MESSAGE},
        {WIRE_ECDSA, HASH_SHA256, WIRE_DIGEST},
        {WIRE_RSA_PSS, HASH_SHA512, WIRE_DIGEST},
    };
    return (struct wire_sign){
        .key = name(size),
        .algorithm = choices[size].algorithm,
        .hash = choices[size].hash,
        .salt = number(size, 0, 0, WIRE_SALT_MAX),
        .form = choices[size].form,
        .data = fill(size, 1, 32, WIRE_DATA_MAX),
    };
}

static struct wire_unwrap unwrap_sample(enum sample_size size)
{
    struct wire_unwrap unwrap = {
        .key = name(size),
        .algorithm = size == SAMPLE_LARGEST ? WIRE_RSAES_OAEP : WIRE_RSAES_PKCS1,
        .length = number(size, 0, 32, 0), // none with OAEP
        .ciphertext = fill(size, 1, 384, WIRE_CIPHERTEXT_MAX),
    };
    if (size == SAMPLE_LARGEST) {
        unwrap.hash = HASH_SHA512;
        unwrap.mgf_hash = HASH_SHA1;
        unwrap.label = bytes_of(filler, WIRE_LABEL_MAX);
    }
    return unwrap;
}

struct wire_request sample_request(enum wire_operation operation, enum sample_size size)
{
    static const uint64_t ids[] = {0, 0x0123456789abcdef, UINT64_MAX};
    struct wire_request request = {.operation = operation, .id = ids[size]};
    switch (operation) {
    case WIRE_SIGN:
        request.sign = sign_sample(size);
        break;
    case WIRE_UNWRAP:
        request.unwrap = unwrap_sample(size);
        break;
    case WIRE_AGREE:
        request.agree = (struct wire_agree){
            .key = name(size),
            .algorithm = WIRE_ECDH_X963,
            .hash = size == SAMPLE_LARGEST ? HASH_SHA512 : HASH_SHA1,
            .cofactor = size == SAMPLE_LARGEST,
            .peer = fill(size, 1, 65, WIRE_POINT_MAX),
            .info = fill(size, 0, 24, WIRE_LABEL_MAX),
            .length = number(size, 1, 32, WIRE_SECRET_MAX),
        };
        break;
    case WIRE_LIST:
        request.list.after = size == SAMPLE_SMALLEST ? bytes_of(NULL, 0) : name(size);
        break;
    case WIRE_DESCRIBE:
        request.describe.key = name(size);
        break;
    }
    return request;
}

static struct wire_description description_sample(enum sample_size size)
{
    return (struct wire_description){
        .name = name(size),
        .type = size == SAMPLE_LARGEST    ? WIRE_KEY_ED25519
                : size == SAMPLE_SMALLEST ? WIRE_KEY_EC
                                          : WIRE_KEY_RSA,
        .purpose = size == SAMPLE_LARGEST ? WIRE_GENERAL : WIRE_SMIME_SIGN,
        .state = size == SAMPLE_LARGEST ? WIRE_RETIRED : WIRE_ENABLED,
        .bits = number(size, 1, 3072, WIRE_BITS_MAX),
        .public_key = fill(size, 1, 422, WIRE_PUBLIC_KEY_MAX),
        .certificates = fill(size, 0, 1200, WIRE_CERTIFICATES_MAX),
    };
}

struct wire_reply sample_reply(enum wire_operation operation, enum sample_size size)
{
    struct wire_reply reply = {.class = ERR_OK, .id = sample_request(operation, size).id};
    switch (operation) {
    case WIRE_SIGN:
        reply.signature = fill(size, 1, 384, WIRE_SIGNATURE_MAX);
        break;
    case WIRE_UNWRAP:
        reply.unwrapped = (struct wire_unwrapped){fill(size, 0, 32, WIRE_SECRET_MAX),
                                                  number(size, 1, 256, WIRE_SECRET_MAX)};
        break;
    case WIRE_AGREE:
        reply.secret = fill(size, 0, 32, WIRE_SECRET_MAX);
        break;
    case WIRE_LIST:
        reply.list.count = number(size, 0, 2, WIRE_LIST_MAX);
        for (size_t i = 0; i < reply.list.count; i++)
            reply.list.names[i] = name(size);
        break;
    case WIRE_DESCRIBE:
        reply.description = description_sample(size);
        break;
    }
    return reply;
}

// By hand, field by field: the table that encodes and decodes shall not be its own judge.
static bool sign_equal(const struct wire_sign *a, const struct wire_sign *b)
{
    return bytes_equal(a->key, b->key) && a->algorithm == b->algorithm && a->hash == b->hash &&
           a->salt == b->salt && a->form == b->form && bytes_equal(a->data, b->data);
}

static bool unwrap_equal(const struct wire_unwrap *a, const struct wire_unwrap *b)
{
    return bytes_equal(a->key, b->key) && a->algorithm == b->algorithm && a->hash == b->hash &&
           a->mgf_hash == b->mgf_hash && bytes_equal(a->label, b->label) &&
           a->length == b->length && bytes_equal(a->ciphertext, b->ciphertext);
}

static bool agree_equal(const struct wire_agree *a, const struct wire_agree *b)
{
    return bytes_equal(a->key, b->key) && a->algorithm == b->algorithm && a->hash == b->hash &&
           a->cofactor == b->cofactor && bytes_equal(a->peer, b->peer) &&
           bytes_equal(a->info, b->info) && a->length == b->length;
}

bool sample_request_equal(const struct wire_request *a, const struct wire_request *b)
{
    if (a->operation != b->operation || a->id != b->id)
        return false;
    switch (a->operation) {
    case WIRE_SIGN:
        return sign_equal(&a->sign, &b->sign);
    case WIRE_UNWRAP:
        return unwrap_equal(&a->unwrap, &b->unwrap);
    case WIRE_AGREE:
        return agree_equal(&a->agree, &b->agree);
    case WIRE_LIST:
        return bytes_equal(a->list.after, b->list.after);
    case WIRE_DESCRIBE:
        return bytes_equal(a->describe.key, b->describe.key);
    }
    return false;
}

static bool description_equal(const struct wire_description *a, const struct wire_description *b)
{
    return bytes_equal(a->name, b->name) && a->type == b->type && a->purpose == b->purpose &&
           a->state == b->state && a->bits == b->bits &&
           bytes_equal(a->public_key, b->public_key) &&
           bytes_equal(a->certificates, b->certificates);
}

bool sample_reply_equal(enum wire_operation operation, const struct wire_reply *a,
                        const struct wire_reply *b)
{
    if (a->class != b->class || a->id != b->id)
        return false;
    if (a->class != ERR_OK)
        return true;
    switch (operation) {
    case WIRE_SIGN:
        return bytes_equal(a->signature, b->signature);
    case WIRE_UNWRAP:
        return bytes_equal(a->unwrapped.secret, b->unwrapped.secret) &&
               a->unwrapped.size == b->unwrapped.size;
    case WIRE_AGREE:
        return bytes_equal(a->secret, b->secret);
    case WIRE_LIST:
        if (a->list.count != b->list.count)
            return false;
        for (size_t i = 0; i < a->list.count; i++) {
            if (!bytes_equal(a->list.names[i], b->list.names[i]))
                return false;
        }
        return true;
    case WIRE_DESCRIBE:
        return description_equal(&a->description, &b->description);
    }
    return false;
}
