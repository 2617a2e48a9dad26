// SPDX-License-Identifier: Apache-2.0
// A former hsmd.conf with what it names, in a directory of its own, and `hsmd migrate` on it.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/registry/store.h"

#define KEY_1 "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define KEY_2 "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"

extern const char good[], rewritten[]; // the file, and what becomes of it
extern char dir[64];
extern struct buf said; // by hsmd
extern struct buf seen; // in the store
extern struct detail detail;

int setup(void **state);
int teardown(void **state);

const char *in_dir(const char *name); // good for three more calls
void write_text(const char *name, const char *text);

// Exit status of `hsmd migrate -c FILE ARGUMENT`, files limited to so many bytes (0: not).
int run(const char *argument, size_t limit);
void run_well(void);

struct store *open_store(void); // the caller's to close
void assert_file(const char *name, const char *expected);
// Neither the file nor what is beside it has changed.
void assert_unchanged(const char *text);
