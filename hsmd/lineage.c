// SPDX-License-Identifier: Apache-2.0
#include "hsmd/lineage.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hsmd/audit/audit_resume.h"
#include "hsmd/base/log.h"
#include "hsmd/config_check.h"
#include "hsmd/custody/founding.h"
#include "hsmd/state_directory.h"

static enum err see_officer(void *context, const struct store_officer *officer)
{
    (void)officer;
    ++*(unsigned *)context;
    return ERR_OK;
}

static enum err count_officers(struct store *store, unsigned *count, struct detail *detail)
{
    *count = 0;
    return store_each_officer(store, NULL, see_officer, count, detail);
}

static bool is_known(const struct lineage *lineage, unsigned which)
{
    const struct audit_trace *trace = &lineage->trace;
    return which < trace->known &&
           memcmp(trace->registry[which], lineage->digest, sizeof lineage->digest) == 0;
}

static void compare(struct store *store, struct lineage *lineage)
{
    const struct audit_trace *trace = &lineage->trace;
    bool is_same = trace->has_instance &&
                   memcmp(trace->instance, store_instance(store), AUDIT_INSTANCE_SIZE) == 0;
    if (trace->has_instance && !is_same)
        snprintf(lineage->problem, sizeof lineage->problem,
                 "it is not the one that the audit log knows");
    else if (trace->has_instance && !lineage->has_officers)
        snprintf(lineage->problem, sizeof lineage->problem,
                 "it has no officers, and had some by the audit log");
    else if (trace->proposal > lineage->proposal)
        snprintf(lineage->problem, sizeof lineage->problem,
                 "it is older than the audit log: its last proposal is %" PRIu64
                 ", that of the log %" PRIu64,
                 lineage->proposal, trace->proposal);
}

static enum err see_pending(void *context, const struct store_proposal *proposal)
{
    *(uint64_t *)context = proposal->number;
    return ERR_OK;
}

// Of a registry that goes on where the log left off: it says what it said before the act.
static enum err find_lost_act(struct store *store, struct lineage *lineage, struct detail *detail)
{
    char text[24];
    uint64_t number = 0;
    const struct audit_trace *trace = &lineage->trace;
    if (!trace->act || lineage->problem[0])
        return ERR_OK;
    enum err err = store_each_proposal(store, trace->act, true, see_pending, &number, detail);
    if (err != ERR_OK || !number)
        return err;
    snprintf(text, sizeof text, "%" PRIu64, number);
    if (!trace->known || (trace->is_act && is_known(lineage, 1))) {
        lineage->lost_act = number;
        log_warning("act-lost", "proposal", text, "err", LINEAGE_LOST_ACT);
    } else {
        snprintf(lineage->problem, sizeof lineage->problem,
                 "proposal %s waits in it, and was carried out by the audit log: it was put back, "
                 "or somebody else has changed it",
                 text);
    }
    return ERR_OK;
}

// Of a registry that is the one of the log: does it say what it said?
static void compare_said(struct lineage *lineage)
{
    bool is_before = is_known(lineage, 1);
    if (lineage->problem[0] || !lineage->trace.known || is_known(lineage, 0) || lineage->lost_act)
        return;
    snprintf(lineage->problem, sizeof lineage->problem, "%s",
             lineage->trace.is_act && is_before
                 ? "the last act of the audit log is not in it: hsmd ended before that was "
                   "written, or it was put back"
                 : "officers, clients, grants, keys or locks in it are not those that the audit "
                   "log knows: somebody else has changed it");
}

static enum err check(const struct config *config, const char *log, struct store *store,
                      struct lineage *lineage, struct detail *detail)
{
    unsigned officers = 0;
    const struct audit_trace *trace = &lineage->trace;
    *lineage = (struct lineage){0};
    enum err err = audit_trace_read(log, &lineage->trace, detail);
    if (err == ERR_OK)
        err = count_officers(store, &officers, detail);
    if (err == ERR_OK)
        err = store_last_proposal(store, &lineage->proposal, detail);
    if (err == ERR_OK)
        err = store_digest(store, lineage->digest, detail);
    if (err != ERR_OK)
        return err;
    lineage->has_officers = officers > 0;
    if (!officers && config->officer_count && (trace->has_instance || trace->has_acts))
        return err_set(
            detail, ERR_PERM,
            "registry: it has no officers, and had some by the audit log: %s/" STORE_FILE
            " was removed or replaced, or was never written. Put it back; if there is none, "
            "'hsmd found -c %s' takes the officers from there anew, and says so in the "
            "audit log",
            config->state_directory, config->path);
    compare(store, lineage);
    err = find_lost_act(store, lineage, detail);
    compare_said(lineage);
    if (lineage->problem[0])
        log_warning("registry", "err", lineage->problem);
    return err;
}

static void check_budgets(struct lineage *lineage, struct budgets *budgets)
{
    uint64_t writes = budgets_writes_read(budgets);
    struct detail ignored = {0}; // it logs itself
    if (writes < lineage->trace.budgets) {
        snprintf(lineage->budgets_problem, sizeof lineage->budgets_problem,
                 writes ? "their file is older than the audit log: what was used since is forgotten"
                        : "their file was removed: what was used before is forgotten");
        log_warning("budget", "err", lineage->budgets_problem);
    }
    (void)budgets_write(budgets, clock_ms(), &ignored);
}

static enum err tell_start(const struct lineage *lineage, struct store *store,
                           struct budgets *budgets, struct audit *audit, struct detail *detail)
{
    char reason[sizeof lineage->problem + sizeof lineage->budgets_problem + 40];
    struct audit_record record = {.event = AUDIT_START, .budgets = budgets_writes(budgets)};
    const char *both = lineage->problem[0] && lineage->budgets_problem[0] ? "; " : "";
    snprintf(reason, sizeof reason, "%s%s%s%s%s", lineage->problem[0] ? "registry: " : "",
             lineage->problem, both, lineage->budgets_problem[0] ? "budgets: " : "",
             lineage->budgets_problem);
    if (lineage->has_officers) {
        record.instance = bytes_of(store_instance(store), AUDIT_INSTANCE_SIZE);
        record.proposal = lineage->proposal;
        record.registry = bytes_of(lineage->digest, sizeof lineage->digest);
    }
    if (reason[0])
        record.reason = reason;
    const struct audit_record lost = {.event = AUDIT_ACT_LOST,
                                      .proposal = lineage->lost_act,
                                      .registry = record.registry,
                                      .reason = LINEAGE_LOST_ACT};
    enum err err = lineage->lost_act ? audit_write(audit, &lost, detail) : ERR_OK;
    return err == ERR_OK ? audit_write(audit, &record, detail) : err;
}

enum err lineage_tell_stop(struct store *store, struct budgets *budgets, struct audit *audit,
                           struct detail *detail)
{
    struct detail ignored = {0}; // it logs itself
    uint8_t digest[STORE_DIGEST_SIZE];
    unsigned officers = 0;
    (void)budgets_write(budgets, clock_ms(), &ignored);
    struct audit_record record = {.event = AUDIT_STOP, .budgets = budgets_writes(budgets)};
    if (store && count_officers(store, &officers, NULL) == ERR_OK && officers &&
        store_digest(store, digest, NULL) == ERR_OK)
        record.registry = bytes_of(digest, sizeof digest);
    return audit_write(audit, &record, detail);
}

static enum err state_path(const struct config *config, const char *name, char path[PATH_MAX],
                           struct detail *detail)
{
    return snprintf(path, PATH_MAX, "%s/%s", config->state_directory, name) < PATH_MAX
               ? ERR_OK
               : err_set(detail, ERR_PERM, "state directory: its path is too long");
}

// from: the file that it is in so far.
static enum err open_audit(const struct config *config, enum audit_sync sync, char from[PATH_MAX],
                           struct audit **audit, struct detail *detail)
{
    char head[PATH_MAX];
    enum err err = state_path(config, AUDIT_HEAD_FILE, head, detail);
    if (err == ERR_OK)
        err = audit_open_last(config->audit_log, head, from, audit, detail);
    return err == ERR_OK ? audit_set_sync(*audit, sync, detail) : err;
}

enum err lineage_open_audit(const struct config *config, struct store *store,
                            struct budgets *budgets, struct lineage *lineage, struct audit **audit,
                            struct detail *detail)
{
    char from[PATH_MAX];
    const struct audit_trace *trace = &lineage->trace;
    lineage->is_told = false;
    enum err err = open_audit(config, config->audit_sync, from, audit, detail);
    if (err == ERR_OK)
        err = check(config, from, store, lineage, detail);
    if (err != ERR_OK)
        return err;
    if (lineage->has_officers)
        audit_set_registry(*audit, bytes_of(store_instance(store), AUDIT_INSTANCE_SIZE),
                           lineage->proposal);
    else if (trace->has_instance)
        audit_set_registry(*audit, bytes_of(trace->instance, AUDIT_INSTANCE_SIZE), trace->proposal);
    check_budgets(lineage, budgets);
    err = tell_start(lineage, store, budgets, *audit, detail);
    lineage->is_told = err == ERR_OK;
    if (err == ERR_OK)
        err = audit_reopen(*audit, detail);
    if (err == ERR_OK)
        audit_note_head(*audit);
    return err;
}

enum err lineage_remember(struct store *store, struct audit *audit, struct detail *detail)
{
    uint64_t proposal = 0;
    unsigned officers = 0;
    enum err err = count_officers(store, &officers, detail);
    if (err == ERR_OK && officers)
        err = store_last_proposal(store, &proposal, detail);
    if (err == ERR_OK && officers)
        audit_set_registry(audit, bytes_of(store_instance(store), AUDIT_INSTANCE_SIZE), proposal);
    return err;
}

static enum err open_empty_store(const char *path, struct store **store, struct detail *detail)
{
    unsigned officers = 0;
    enum err err = store_open(path, store, detail);
    if (err == ERR_OK)
        err = count_officers(*store, &officers, detail);
    return err == ERR_OK && officers
               ? err_set(detail, ERR_PERM, "the registry has %u officers: they make others",
                         officers)
               : err;
}

// from: the file that the log is in so far. What it knows of budgets is not forgotten.
static enum err found(const struct config *config, const char *from, struct store *store,
                      struct audit *audit, unsigned *officers, struct detail *detail)
{
    char what[80];
    struct audit_trace trace;
    const struct bytes instance = bytes_of(store_instance(store), AUDIT_INSTANCE_SIZE);
    enum err err = audit_trace_read(from, &trace, detail);
    snprintf(what, sizeof what, "a registry that has no officers; by user %u", (unsigned)getuid());
    const struct audit_record record = {
        .event = AUDIT_FOUND,
        .instance = instance,
        .budgets = trace.budgets,
        .what = what,
        .result = err_name(ERR_OK),
    };
    if (err == ERR_OK)
        err = audit_write(audit, &record, detail);
    audit_set_registry(audit, instance, 0);
    if (err == ERR_OK)
        err = audit_reopen(audit, detail);
    if (err == ERR_OK)
        err = founding_do(config, store, audit, detail);
    return err == ERR_OK ? count_officers(store, officers, detail) : err;
}

static enum err found_from(const struct config *config, unsigned *officers, struct detail *detail)
{
    struct store *store = NULL;
    struct audit *audit = NULL;
    char path[PATH_MAX];
    char from[PATH_MAX];
    enum err err = config_check_former(config, detail);
    if (err == ERR_OK && !config->officer_count)
        err = err_set(detail, ERR_PERM, "%s: it has no officer sections", config->path);
    if (err == ERR_OK)
        err = state_directory_own(config->state_directory, detail);
    if (err == ERR_OK)
        err = state_path(config, STORE_FILE, path, detail);
    if (err == ERR_OK)
        err = open_empty_store(path, &store, detail);
    if (err == ERR_OK)
        err = open_audit(config, AUDIT_SYNC_ALWAYS, from, &audit, detail);
    if (err == ERR_OK)
        err = found(config, from, store, audit, officers, detail);
    audit_close(audit);
    store_close(store);
    return err;
}

enum err lineage_found(const char *path, unsigned *officers, struct detail *detail)
{
    struct config *config = NULL;
    enum err err = config_load(path, &config, detail);
    if (err != ERR_OK)
        return err;
    err = found_from(config, officers, detail);
    config_free(config);
    return err;
}
