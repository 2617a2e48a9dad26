// SPDX-License-Identifier: Apache-2.0
// One half of a measurement: a program that does an operation over and over, with as many callers
// as asked for. `hsmctl bench` (bench_pair.h) starts two of them and lets them run in turns.
//
// A half says "ready SPKI" when its callers are open, which is its key's SubjectPublicKeyInfo (RFC
// 5280, 4.1), DER in hexadecimal: both halves must have the same. Then it answers each line
// "run MILLISECONDS" with
//     OPERATIONS SECONDS CPU-SECONDS P50 P99 FAILURES
// (CPU of this process, latencies in microseconds), and ends with its standard input; with a status
// other than 0 if a result was wrong. What went wrong goes to standard error.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_operation {
    BENCH_SIGN,        // RSA PKCS#1 v1.5, ECDSA, Ed25519
    BENCH_SIGN_PSS,    // SHA-256, MGF1 with it, a salt as long
    BENCH_UNWRAP,      // RSA PKCS#1 v1.5
    BENCH_UNWRAP_OAEP, // SHA-1, MGF1 with it, no label
    BENCH_AGREE,       // ECDH
    BENCH_OPERATIONS
};
#define BENCH_OPERATIONS_TEXT "sign|sign-pss|unwrap|unwrap-oaep|agree"

#define BENCH_CALLERS_MAX 1024
#define BENCH_SECRET_SIZE 32 // what is unwrapped, or agreed on

struct bench_half {
    enum bench_operation operation;
    unsigned callers;
    char *spki;
    // One caller's own state, and one operation with it; false: it failed, and said why. Results
    // are looked at in once as far as that costs nothing; others, which are signatures, in open the
    // first and in close the last one, if that did not fail already. False: it is wrong, and that
    // was said.
    void *(*open)(const struct bench_half *half);
    bool (*once)(void *caller);
    bool (*close)(void *caller);
};

// -1: there is none of that name.
int bench_operation_by_name(const char *name);

// A number of an option within 1..max, or the program ends.
unsigned bench_number(const char *text, unsigned max);

// Opens the callers and serves standard input. Returns the exit status.
int bench_half_serve(const struct bench_half *half);
