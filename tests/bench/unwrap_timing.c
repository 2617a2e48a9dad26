// SPDX-License-Identifier: Apache-2.0
// Does the time that hsmd takes to unwrap tell good padding from bad (promise 5)?
//     bench_unwrap_timing [SAMPLES [KIND...]]
// SAMPLES of each of good and bad (default 50000, at least 1000), kinds of bad by their number from
// 1 (default: all). The keys are in memory, and what RSA makes of the ciphertext is given, so that
// what is measured is hsmd's own code alone: once the unpadding, once core_handle as a whole, from
// the frame to the reply, with authorisation, audit log and encoding.
//
// Good and bad come in random order. Both blocks are made each time, so that what comes before the
// measured span is the same. Each time is taken against the median of those around it, and what
// is farthest from it is cropped, for both alike. A |t| of 4.5 or more has to show twice, with
// fresh data, to count: so large a one comes by chance once in 150,000 times.
//
// Two controls show that a leak would be seen: unpadding as it stands in textbooks, and a core that
// hashes one block more when the padding was bad. Exit status 0: no difference, 1: a difference,
// 2: the controls were not told apart, so nothing can be said (a machine too busy).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/rand.h>

#include "pkcs11/padding.h"
#include "tests/bench/welch.h"
#include "tests/support/custodian.h"

#define THRESHOLD 4.5
#define CROP 0.9
#define WARM_UP 2000 // samples thrown away
#define MODULUS 256  // bytes
#define MESSAGE 32   // bytes: an AES-256 key
#define SEPARATOR (MODULUS - MESSAGE - 1)
#define KEY "rsa.smime-decrypt.enabled"

static struct custodian custodian;
static struct secret out;

static void require(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "bench_unwrap_timing: %s\n", what);
    exit(2);
}

static void random_bytes(uint8_t *to, size_t len)
{
    require(RAND_bytes(to, (int)len) == 1, "no random numbers");
}

static uint8_t random_below(unsigned limit)
{
    uint8_t byte[2];
    random_bytes(byte, sizeof byte);
    return (uint8_t)((byte[0] | (unsigned)byte[1] << 8) % limit);
}

// A good block: 00 02, padding without a zero, 00, message.
static void make_good(uint8_t block[MODULUS])
{
    random_bytes(block, MODULUS);
    for (size_t i = 2; i < MODULUS; i++)
        block[i] = block[i] ? block[i] : 1; // the message too: where it begins is in one place
    block[0] = 0;
    block[1] = 2;
    block[SEPARATOR] = 0;
}

static void spoil_all(uint8_t block[MODULUS])
{
    random_bytes(block, MODULUS);
}

static void spoil_separator(uint8_t block[MODULUS])
{
    block[SEPARATOR] = 0x55;
}

static void spoil_first(uint8_t block[MODULUS])
{
    block[0] = (uint8_t)(1 + random_below(255));
}

static void spoil_type(uint8_t block[MODULUS])
{
    block[1] = (uint8_t)(3 + random_below(253));
}

static void spoil_padding(uint8_t block[MODULUS])
{
    block[2 + random_below(8)] = 0;
}

// A good block with a message of any other length but the one expected.
static void spoil_length(uint8_t block[MODULUS])
{
    unsigned at = 10 + random_below(MODULUS - 11);
    block[SEPARATOR] = 0x55;
    block[at == SEPARATOR ? at + 1 : at] = 0;
}

static void spoil_nothing(uint8_t block[MODULUS])
{
    (void)block;
}

static const struct {
    const char *name;
    void (*spoil)(uint8_t block[MODULUS]);
    unsigned length; // that is expected
} kinds[] = {
    {"random block", spoil_all, MESSAGE},
    {"no separator", spoil_separator, MESSAGE},
    {"first byte not 00", spoil_first, MESSAGE},
    {"second byte not 02", spoil_type, MESSAGE},
    {"short padding", spoil_padding, MESSAGE},
    {"wrong length", spoil_length, MESSAGE},
    {"random block, length unknown", spoil_all, 0},
    {"no separator, length unknown", spoil_separator, 0},
    {"short padding, length unknown", spoil_padding, 0},
    {"nothing (good against good)", spoil_nothing, MESSAGE},
};

#define KIND_COUNT (sizeof kinds / sizeof *kinds)
#define FIRST_BYTE 2 // the kind for the controls

// One measurement: block is good or bad, is_bad is for the controls alone.
struct trial {
    uint8_t block[MODULUS];
    uint8_t seed[PADDING_SEED_SIZE];
    bool is_bad;
    unsigned length;
    struct buf frame, reply;
};

typedef void (*span_fn)(struct trial *trial);

static void run_padding(struct trial *trial)
{
    require(padding_remove_pkcs1(bytes_of(trial->block, MODULUS), trial->seed, trial->length,
                                 &out) == ERR_OK,
            "unpadding failed");
}

static void run_core(struct trial *trial)
{
    require(core_handle(&custodian.core, &custodian.worker, custodian.public_keys[CUSTODIAN_OPENER],
                        buf_bytes(&trial->frame), deadline_in(60000), &trial->reply),
            "no answer");
}

// Out of a textbook, with a way out at every step.
static void run_textbook(struct trial *trial)
{
    size_t at = 2;
    secret_wipe(&out);
    if (trial->block[0] != 0 || trial->block[1] != 2)
        return;
    while (at < MODULUS && trial->block[at])
        at++;
    if (at == MODULUS || at < 10)
        return;
    require(secret_set(&out, trial->block + at + 1, MODULUS - at - 1) == ERR_OK, "no room");
}

static void run_longer_core(struct trial *trial)
{
    uint8_t digest[HASH_SIZE_MAX];
    run_core(trial);
    if (trial->is_bad)
        require(hash_digest(HASH_SHA256, bytes_of(trial->block, MODULUS), digest) == ERR_OK,
                "no hash");
}

static double measure(span_fn span, struct trial *trial)
{
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    span(trial);
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
}

// What a client would send: another ciphertext every time.
static void make_frame(struct trial *trial, uint64_t id)
{
    uint8_t ciphertext[MODULUS];
    random_bytes(ciphertext, sizeof ciphertext);
    const struct wire_request request = {
        .operation = WIRE_UNWRAP,
        .id = UINT32_MAX + id, // always as many bytes
        .unwrap = {.key = bytes_of_text(KEY),
                   .algorithm = WIRE_RSAES_PKCS1,
                   .length = trial->length,
                   .ciphertext = bytes_of(ciphertext, sizeof ciphertext)}};
    buf_reset(&trial->frame);
    buf_reset(&trial->reply);
    require(wire_encode_request(&request, &trial->frame) == ERR_OK, "no request");
    random_bytes(trial->seed, sizeof trial->seed);
}

static void check_reply(const struct trial *trial)
{
    struct wire_reply reply;
    require(wire_decode_reply(WIRE_UNWRAP, buf_bytes(&trial->reply), &reply, NULL) == ERR_OK &&
                reply.class == ERR_OK,
            "an answer other than ok");
}

static void prepare(struct trial *trial, size_t kind, bool is_bad, uint64_t id)
{
    uint8_t blocks[2][MODULUS];
    make_good(blocks[0]);
    make_good(blocks[1]);
    kinds[kind].spoil(blocks[1]);
    for (size_t i = 0; i < MODULUS; i++) {
        uint8_t mask = (uint8_t)(0 - (unsigned)is_bad);
        trial->block[i] = (uint8_t)((blocks[0][i] & ~mask) | (blocks[1][i] & mask));
    }
    trial->is_bad = is_bad;
    make_frame(trial, id);
}

// Fills samples: count of each lot, in random order.
static void take(span_fn span, size_t kind, struct welch_sample *samples, size_t count)
{
    struct trial trial = {.length = kinds[kind].length};
    size_t left[2] = {count, count};
    bool has_reply = span == run_core || span == run_longer_core;
    buf_init(&trial.frame, WIRE_FRAME_MAX);
    buf_init(&trial.reply, WIRE_FRAME_MAX);
    memstore_key_set_raw(custodian.stores[CUSTODIAN_RSA], bytes_of(trial.block, MODULUS));
    for (size_t i = 0; left[0] || left[1];) {
        bool is_warm_up = i < WARM_UP;
        bool is_bad = random_below(2);
        if (!is_warm_up && !left[is_bad])
            is_bad = !is_bad;
        prepare(&trial, kind, is_bad, i++);
        double ns = measure(span, &trial);
        if (has_reply)
            check_reply(&trial);
        if (is_warm_up)
            continue;
        left[is_bad]--;
        *samples++ = (struct welch_sample){.ns = ns, .is_bad = is_bad};
    }
    buf_clear(&trial.frame);
    buf_clear(&trial.reply);
}

// One whole measurement, printed.
static double try(const char *what, span_fn span, size_t kind, struct welch_sample *samples,
                  size_t count)
{
    custodian_setup(&custodian);
    require(audit_set_sync(custodian.audit, AUDIT_SYNC_OFF, NULL) == ERR_OK, "no audit log");
    take(span, kind, samples, count);
    memstore_key_set_raw(custodian.stores[CUSTODIAN_RSA], (struct bytes){0});
    custodian_teardown(&custodian);
    double median = welch_limit(samples, 2 * count, 0.5);
    welch_level(samples, 2 * count);
    double t = welch_t(samples, 2 * count, welch_limit(samples, 2 * count, CROP));
    printf("%-21s %-30s t = %7.2f  (not cropped: %7.2f; median %6.1f us)\n", what, kinds[kind].name,
           t, welch_t(samples, 2 * count, HUGE_VAL), median / 1000);
    fflush(stdout);
    return t;
}

static bool is_seen(const char *what, span_fn span, size_t kind, struct welch_sample *samples,
                    size_t count)
{
    return fabs(try(what, span, kind, samples, count)) >= THRESHOLD ||
           fabs(try("  once more", span, kind, samples, count)) >= THRESHOLD;
}

static bool differs(const char *what, span_fn span, size_t kind, struct welch_sample *samples,
                    size_t count)
{
    return fabs(try(what, span, kind, samples, count)) >= THRESHOLD &&
           fabs(try("  once more", span, kind, samples, count)) >= THRESHOLD;
}

static bool is_wanted(size_t kind, int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        if (strtoul(argv[i], NULL, 10) == kind + 1)
            return true;
    }
    return argc <= 2;
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 50000;
    bool has_difference = false;
    bool has_control = true;
    unsigned looked_at = 0;
    require(count >= 1000, "usage: bench_unwrap_timing [SAMPLES [KIND...]]");
    struct welch_sample *samples = calloc(2 * count, sizeof *samples);
    require(samples && secret_init(&out, PADDING_BLOCK_MAX, NULL) == ERR_OK, "out of memory");
    printf("%zu each of good and bad, %.0f %% cropped\n", count, 100 - 100 * CROP);
    for (size_t kind = 0; kind < KIND_COUNT; kind++) {
        if (!is_wanted(kind, argc, argv))
            continue;
        has_difference |= differs("unpadding", run_padding, kind, samples, count);
        has_difference |= differs("core_handle", run_core, kind, samples, count);
        looked_at++;
    }
    require(looked_at > 0, "no such kind");
    has_control &= is_seen("control: textbook", run_textbook, FIRST_BYTE, samples, count);
    has_control &= is_seen("control: 1 hash more", run_longer_core, FIRST_BYTE, samples, count);
    secret_clear(&out);
    free(samples);
    printf("%s\n", has_difference ? "good and bad padding DIFFER"
                   : has_control  ? "good and bad padding take the same"
                                  : "the controls were not told apart: nothing can be said");
    return has_difference ? 1 : has_control ? 0 : 2;
}
