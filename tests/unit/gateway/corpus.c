// SPDX-License-Identifier: Apache-2.0
#include "corpus.h"

#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool has_ending(const char *name, const char *const *endings)
{
    if (!endings)
        return true;
    for (; *endings; endings++) {
        size_t n = strlen(name);
        size_t k = strlen(*endings);
        if (n >= k && strcmp(name + n - k, *endings) == 0)
            return true;
    }
    return false;
}

static struct bytes slurp(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size + 1);
    if (!file || !data || fread(data, 1, size, file) != size)
        abort();
    fclose(file);
    return bytes_of(data, size);
}

size_t corpus_each(const char *directory, const char *const *endings,
                   void (*take)(const char *path, struct bytes content, void *ctx), void *ctx)
{
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", directory);
    char *paths[] = {copy, NULL};
    FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    size_t count = 0;
    for (FTSENT *entry; fts && (entry = fts_read(fts));) {
        if (entry->fts_info != FTS_F || !has_ending(entry->fts_name, endings))
            continue;
        struct bytes content = slurp(entry->fts_path, (size_t)entry->fts_statp->st_size);
        take(entry->fts_path, content, ctx);
        free((void *)content.data);
        count++;
    }
    if (fts)
        fts_close(fts);
    return count;
}
