// SPDX-License-Identifier: Apache-2.0
// What audit-sync costs: signatures a second of a real hsmd with SoftHSM, several clients at a
// time. Not a test: run it on the machine that is asked about.
//     bench_hsmd_audit [ROUNDS [SECONDS [KEYS]]]
// KEYS: 1, RSA-2048 alone. Settings take turns within a round, in the other direction every other
// round, so that what else the machine does meets all alike; printed are the medians, the smallest
// and greatest, and the medians of the ratios within a round.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"

#define CLIENTS 8
#define ROUNDS_MAX 99

static struct hsmd hsmd;
static struct buf attributes;
static const char *key_name;
static volatile bool is_stopping;

struct signer {
    pthread_t thread;
    struct client *client;
    unsigned count;
};

static void *sign_on(void *argument)
{
    struct signer *signer = argument;
    bool is_ec = strcmp(key_name, "ec-signing") == 0;
    struct buf frame;
    buf_init(&frame, WIRE_FRAME_MAX);
    while (!is_stopping) {
        struct wire_reply reply;
        struct wire_request request = {.operation = WIRE_SIGN,
                                       .sign = {.key = bytes_of_text(key_name),
                                                .algorithm = is_ec ? WIRE_ECDSA : WIRE_RSA_PKCS1,
                                                .hash = HASH_SHA256,
                                                .form = WIRE_ATTRIBUTES,
                                                .data = buf_bytes(&attributes)}};
        buf_reset(&frame);
        signer->count += client_call(signer->client, &request, &frame, &reply, NULL) == ERR_OK;
    }
    buf_clear(&frame);
    return NULL;
}

static double measure(const char *sync, unsigned seconds)
{
    char text[100];
    struct signer signers[CLIENTS] = {0};
    unsigned sum = 0;
    snprintf(text, sizeof text, "log-level = warning\naudit-sync = %s\n", sync);
    hsmd_configure(&hsmd, "log-level = info", text, "sessions = 2", "sessions = 4", NULL);
    hsmd_drop_log(&hsmd);
    if (!hsmd_start(&hsmd, NULL))
        exit(1);
    is_stopping = false;
    for (unsigned i = 0; i < CLIENTS; i++) {
        signers[i].client = hsmd_client(&hsmd, "gw", 4000);
        pthread_create(&signers[i].thread, NULL, sign_on, &signers[i]);
    }
    sleep(seconds);
    is_stopping = true;
    for (unsigned i = 0; i < CLIENTS; i++) {
        pthread_join(signers[i].thread, NULL);
        client_close(signers[i].client);
        sum += signers[i].count;
    }
    (void)hsmd_stop(&hsmd, SIGTERM);
    return (double)sum / seconds;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// Of measurements made one after the other: what else goes on changes slower than that.
static void print_ratios(double results[][ROUNDS_MAX], unsigned rounds, const char *name)
{
    double ratios[ROUNDS_MAX];
    for (unsigned sync = AUDIT_SYNC_OFF + 1; sync < AUDIT_SYNC_COUNT; sync++) {
        for (unsigned i = 0; i < rounds; i++)
            ratios[i] = 100 * results[sync][i] / results[AUDIT_SYNC_OFF][i];
        qsort(ratios, rounds, sizeof *ratios, compare);
        printf("%-8s %-6s median %5.1f %% of off in the same round\n", name,
               audit_sync_name((enum audit_sync)sync), ratios[rounds / 2]);
    }
}

int main(int argc, char **argv)
{
    static const char *const keys[] = {"signing", "ec-signing"};
    static const char *const names[] = {"RSA-2048", "P-256"};
    static double results[AUDIT_SYNC_COUNT][ROUNDS_MAX];
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 9;
    unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 3;
    unsigned count = argc > 3 ? (unsigned)atoi(argv[3]) : 2;
    if (count < 1 || count > 2 || rounds < 1 || rounds > ROUNDS_MAX || seconds < 1)
        return 2;
    hsmd_setup(&hsmd);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    for (unsigned k = 0; k < count; k++) {
        key_name = keys[k];
        for (unsigned round = 0; round < rounds; round++) {
            for (unsigned i = 0; i < AUDIT_SYNC_COUNT; i++) {
                unsigned sync = round % 2 ? AUDIT_SYNC_COUNT - 1 - i : i;
                results[sync][round] = measure(audit_sync_name((enum audit_sync)sync), seconds);
            }
        }
        print_ratios(results, rounds, names[k]);
        for (unsigned sync = 0; sync < AUDIT_SYNC_COUNT; sync++) {
            qsort(results[sync], rounds, sizeof **results, compare);
            printf("%-8s %-6s median %6.0f/s  (%.0f to %.0f)\n", names[k],
                   audit_sync_name((enum audit_sync)sync), results[sync][rounds / 2],
                   results[sync][0], results[sync][rounds - 1]);
        }
    }
    hsmd_teardown(&hsmd);
    buf_clear(&attributes);
    return 0;
}
