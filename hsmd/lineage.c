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
    if (lineage->problem[0])
        log_warning("registry", "err", lineage->problem);
    return ERR_OK;
}

static enum err tell_start(const struct lineage *lineage, struct store *store, struct audit *audit,
                           struct detail *detail)
{
    char reason[sizeof lineage->problem + 20];
    struct audit_record record = {.event = AUDIT_START};
    snprintf(reason, sizeof reason, "registry: %s", lineage->problem);
    if (lineage->has_officers) {
        record.instance = bytes_of(store_instance(store), AUDIT_INSTANCE_SIZE);
        record.proposal = lineage->proposal;
    }
    if (lineage->problem[0])
        record.reason = reason;
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
                            struct lineage *lineage, struct audit **audit, struct detail *detail)
{
    char from[PATH_MAX];
    const struct audit_trace *trace = &lineage->trace;
    enum err err = open_audit(config, config->audit_sync, from, audit, detail);
    if (err == ERR_OK)
        err = check(config, from, store, lineage, detail);
    if (err != ERR_OK)
        return err;
    if (trace->has_instance)
        audit_set_registry(*audit, bytes_of(trace->instance, AUDIT_INSTANCE_SIZE), trace->proposal);
    err = audit_reopen(*audit, detail);
    if (err == ERR_OK)
        err = tell_start(lineage, store, *audit, detail);
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

static enum err found(const struct config *config, struct store *store, struct audit *audit,
                      unsigned *officers, struct detail *detail)
{
    char what[80];
    enum err err = count_officers(store, officers, detail);
    if (err == ERR_OK && *officers)
        return err_set(detail, ERR_PERM, "the registry has %u officers: they make others",
                       *officers);
    snprintf(what, sizeof what, "a registry that has no officers; by user %u", (unsigned)getuid());
    const struct audit_record record = {
        .event = AUDIT_FOUND,
        .instance = bytes_of(store_instance(store), AUDIT_INSTANCE_SIZE),
        .what = what,
        .result = err_name(ERR_OK),
    };
    if (err == ERR_OK)
        err = audit_write(audit, &record, detail);
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
        err = store_open(path, &store, detail);
    if (err == ERR_OK)
        err = open_audit(config, AUDIT_SYNC_ALWAYS, from, &audit, detail);
    if (err == ERR_OK)
        err = audit_reopen(audit, detail);
    if (err == ERR_OK)
        err = found(config, store, audit, officers, detail);
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
