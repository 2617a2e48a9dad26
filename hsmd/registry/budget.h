// SPDX-License-Identifier: Apache-2.0
// Budgets: how often a key, or a grant, may be used. All in atomics, so that workers never wait for
// one another; never more than the budget is granted, whoever races with whom.
//
// Rates are of sliding windows. A window is cut into 60 slots (of a second, of a minute), and a use
// counts until 60 whole slots have begun after its own: in no minute (hour) whatsoever are there
// more uses than the limit, and a use is forgotten at most a second (a minute) later than it could
// be. Windows that have a limit are in the
// file too, by the wall clock: uses of the last seconds before a crash may be missing there, but a
// failure is in it before its answer leaves.
//
// Totals outlive the process, in the same file. Uses are granted only as far as a ceiling that the
// file has already; when it is reached it is raised, by a hundredth of the total (1 to 1000), and
// the file is written before the use. A clean stop writes what was really used. After a crash we go
// on from the ceiling: too much is taken for used, never too little.
//
// Failures (an unwrapping of OAEP whose padding is wrong, an agreement that is refused; never an
// unwrapping of PKCS#1 v1.5, which does not tell) are counted when they happen, so those under way
// when the limit is reached may still come on top of it: as many as there are workers.
#pragma once

#include <stdint.h>

#include "hsmd/base/clock.h"
#include "hsmd/base/err.h"

#define BUDGET_LIMIT_MAX 1000000000
#define BUDGET_IDENTITY_MAX 256

// 0: no limit.
struct budget_limits {
    unsigned per_minute;
    unsigned per_hour;
    unsigned total;
    unsigned failures_per_hour;
};

// What is left; UINT64_MAX: no limit.
struct budget_left {
    uint64_t per_minute, per_hour, total, failures_per_hour;
};

struct budget;  // of one key or grant
struct budgets; // all of them; budgets live as long

// path: the file of budgets, read here; NULL: all is kept in memory. now: clock_ms(); wall: the
// wall clock at that moment, in ms. ERR_PERM: it is not one of ours.
enum err budgets_open(const char *path, deadline_t now, deadline_t wall, struct budgets **budgets,
                      struct detail *detail);
// How often the file was written ever, as it says itself: when it was read (0: there was none, or
// one of before it was counted), and by now.
uint64_t budgets_writes_read(const struct budgets *budgets);
uint64_t budgets_writes(struct budgets *budgets);
// Writes all that there is, whether it has changed or not. ERR_TEMP: it cannot be; it has logged.
enum err budgets_write(struct budgets *budgets, deadline_t now, struct detail *detail);
// Writes the totals as they are. Nobody uses a budget any more.
void budgets_close(struct budgets *budgets);

// The budget of that identity ("key signing"; one line, no control characters), made if it is not
// there, with these limits from now on; what was used stays used. Whoever fills a registry calls
// it, anew for every registry. ERR_TEMP: out of memory.
enum err budgets_get(struct budgets *budgets, const char *identity,
                     const struct budget_limits *limits, struct budget **budget,
                     struct detail *detail);

// Takes one use from all of count budgets, or from none. now: clock_ms(). NULLs among them have no
// limit. may_fail: the use is one whose failures are counted, and must find room for one.
// ERR_DENIED: the detail names the budget that is used up; the first refusal after a minute without
// one is logged here. ERR_TEMP: the file of totals cannot be written.
enum err budget_take(struct budget *const *budgets, unsigned count, bool may_fail, deadline_t now,
                     struct detail *detail);
// A use that was taken has failed. Writes the file. If that cannot be done, nothing that may fail
// is granted (ERR_TEMP) before it can.
void budget_add_failure(struct budget *budget, deadline_t now);

// Every few seconds: writes what has changed, and logs budgets from which nothing has been
// refused for a minute since they ran out.
void budgets_tick(struct budgets *budgets, deadline_t now);

// For metrics. By index; NULL past the last. Those without a limit are among them.
struct budget *budgets_at(struct budgets *budgets, unsigned index);
const char *budget_identity(const struct budget *budget);
uint64_t budget_refused(const struct budget *budget);
uint64_t budget_used(const struct budget *budget); // in all, if it has a limit of the total
struct budget_limits budget_get_limits(const struct budget *budget);
struct budget_left budget_get_left(struct budget *budget, deadline_t now);
