// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_half.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

// A histogram of latencies in nanoseconds: 256 equal steps for each power of two, so that it is
// within 0.4 %, up to a quarter of an hour.
#define STEPS_LOG2 8
#define STEPS (1U << STEPS_LOG2)
#define POWERS 34
#define SLOTS (POWERS * STEPS)

struct caller {
    const struct bench_half *half;
    struct run *run;
    pthread_t thread;
    void *state;
    uint64_t count, failures;
    uint32_t slots[SLOTS];
};

struct run {
    pthread_barrier_t start;
    atomic_bool is_over;
};

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static unsigned slot_of(uint64_t ns)
{
    if (ns < STEPS)
        return (unsigned)ns;
    unsigned power = 63 - (unsigned)__builtin_clzll(ns) - STEPS_LOG2;
    unsigned slot = (power + 1) * STEPS + (unsigned)((ns >> power) & (STEPS - 1));
    return slot < SLOTS ? slot : SLOTS - 1;
}

static double slot_us(unsigned slot) // its middle
{
    unsigned power = slot / STEPS;
    if (power == 0)
        return slot / 1e3;
    uint64_t low = (uint64_t)(STEPS + slot % STEPS) << (power - 1);
    return ((double)low + (double)(1ULL << (power - 1)) / 2) / 1e3;
}

static void *call_on(void *argument)
{
    struct caller *caller = argument;
    const struct bench_half *half = caller->half;
    pthread_barrier_wait(&caller->run->start);
    for (uint64_t before = now_ns(), after; !atomic_load(&caller->run->is_over); before = after) {
        bool ok = half->once(caller->state);
        after = now_ns();
        caller->count += ok;
        caller->failures += !ok;
        if (ok)
            caller->slots[slot_of(after - before)]++;
    }
    return NULL;
}

static double percentile(const struct caller *callers, unsigned count, uint64_t total, double part)
{
    uint64_t passed = 0;
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (unsigned i = 0; i < count; i++)
            passed += callers[i].slots[slot];
        if (passed && (double)passed >= part * (double)total)
            return slot_us(slot);
    }
    return 0;
}

static void run(struct caller *callers, unsigned count, unsigned ms)
{
    struct run state = {0};
    uint64_t total = 0, failures = 0;
    pthread_barrier_init(&state.start, NULL, count + 1);
    for (unsigned i = 0; i < count; i++) {
        callers[i].run = &state;
        callers[i].count = callers[i].failures = 0;
        memset(callers[i].slots, 0, sizeof callers[i].slots);
        if (pthread_create(&callers[i].thread, NULL, call_on, &callers[i]) != 0) {
            fprintf(stderr, "cannot start %u threads\n", count);
            exit(1);
        }
    }
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    double cpu = cpu_seconds();
    pthread_barrier_wait(&state.start);
    uint64_t began = now_ns();
    nanosleep(&time, NULL);
    atomic_store(&state.is_over, true);
    for (unsigned i = 0; i < count; i++) {
        pthread_join(callers[i].thread, NULL);
        total += callers[i].count;
        failures += callers[i].failures;
    }
    // What was under way at the end counts, and so does the time until it was done.
    double seconds = (double)(now_ns() - began) / 1e9;
    printf("%ju %.6f %.6f %.2f %.2f %ju\n", (uintmax_t)total, seconds, cpu_seconds() - cpu,
           percentile(callers, count, total, 0.50), percentile(callers, count, total, 0.99),
           (uintmax_t)failures);
    fflush(stdout);
    pthread_barrier_destroy(&state.start);
}

int bench_half_serve(const struct bench_half *half)
{
    char line[64];
    struct caller *callers = calloc(half->callers, sizeof *callers);
    if (!callers) {
        fputs("out of memory\n", stderr);
        return 1;
    }
    unsigned open = 0;
    while (open < half->callers && (callers[open].state = half->open(half)) != NULL)
        callers[open++].half = half;
    if (open == half->callers) {
        printf("ready %s\n", half->spki);
        fflush(stdout);
        while (fgets(line, sizeof line, stdin) && strncmp(line, "run ", 4) == 0) {
            line[strcspn(line, "\n")] = 0;
            run(callers, half->callers, bench_number(line + 4, 3600000));
        }
    }
    int status = open == half->callers ? 0 : 1;
    while (open > 0)
        status |= !half->close(callers[--open].state);
    free(callers);
    return status;
}
