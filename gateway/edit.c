// SPDX-License-Identifier: Apache-2.0
// Which fields stay is a longest common subsequence of both headers. Between two fields that stay,
// old fields of a name that is also among the new ones there are changed in place; the other old
// ones are deleted, the other new ones inserted.
//
// The order of the edits makes them mean the same to every MTA. Changes come first, while the
// indexes are still the old message's; then deletions from the bottom up, so that it does not
// matter whether deleted fields go on being counted (Sendmail) or not (Postfix); then insertions
// from the top down, each when all above it is in its place.
//
// Nothing is inserted above the MTA's own Received field: Postfix would then hide our field from
// the milters behind us and show them the Received field in its place.
#include "gateway/edit.h"

#include <string.h>

#include "gateway/field.h"
#include "hsmd/base/alloc.h"

enum fate { FATE_ODD, FATE_KEPT, FATE_CHANGED };

struct diff {
    const struct message *old;
    const struct message *new;
    size_t start;   // so many fields are the same at the top
    size_t old_end; // and from here on at the bottom
    size_t new_end;
    unsigned char *old_fate;
    unsigned char *new_fate;
    const struct header **changed_to; // of old fields
};

static bool is_same(const struct header *a, const struct header *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->value, b->value) == 0;
}

static void trim(struct diff *diff)
{
    const struct header *old = diff->old->headers;
    const struct header *new = diff->new->headers;
    diff->old_end = diff->old->header_count;
    diff->new_end = diff->new->header_count;
    while (diff->start < diff->old_end && diff->start < diff->new_end &&
           is_same(&old[diff->start], &new[diff->start])) {
        diff->old_fate[diff->start] = diff->new_fate[diff->start] = FATE_KEPT;
        diff->start++;
    }
    while (diff->old_end > diff->start && diff->new_end > diff->start &&
           is_same(&old[diff->old_end - 1], &new[diff->new_end - 1])) {
        diff->old_fate[--diff->old_end] = FATE_KEPT;
        diff->new_fate[--diff->new_end] = FATE_KEPT;
    }
}

static enum err find_kept(struct diff *diff, struct detail *detail)
{
    trim(diff);
    const struct header *old = diff->old->headers + diff->start;
    const struct header *new = diff->new->headers + diff->start;
    size_t n = diff->old_end - diff->start;
    size_t m = diff->new_end - diff->start;
    // length[i * (m + 1) + j]: the longest common subsequence from old[i] and new[j] on.
    unsigned short *length = mem_calloc((n + 1) * (m + 1), sizeof *length);
    if (!length)
        return err_set(detail, ERR_TEMP, "edits: out of memory");
    for (size_t i = n; i-- > 0;) {
        for (size_t j = m; j-- > 0;) {
            unsigned short *here = &length[i * (m + 1) + j];
            unsigned short below = here[m + 1];
            unsigned short right = here[1];
            unsigned short both = (unsigned short)(here[m + 2] + 1);
            if (is_same(&old[i], &new[j]))
                *here = both;
            else
                *here = below > right ? below : right;
        }
    }
    for (size_t i = 0, j = 0; i < n && j < m;) {
        const unsigned short *here = &length[i * (m + 1) + j];
        if (is_same(&old[i], &new[j])) {
            diff->old_fate[diff->start + i++] = FATE_KEPT;
            diff->new_fate[diff->start + j++] = FATE_KEPT;
        } else if (here[m + 1] >= here[1]) {
            i++;
        } else {
            j++;
        }
    }
    mem_free(length);
    return ERR_OK;
}

// An empty value would be a deletion.
static bool can_become(const struct header *old, const struct header *new)
{
    return strcmp(old->name, new->name) == 0 && new->value[0];
}

// Pairs of fields that are changed in place: no kept field between them, and in the same order.
static void find_changed(struct diff *diff)
{
    size_t j = diff->start;
    for (size_t i = diff->start; i < diff->old_end; i++) {
        if (diff->old_fate[i] == FATE_KEPT) {
            while (j < diff->new_end && diff->new_fate[j] != FATE_KEPT)
                j++;
            j++;
            continue;
        }
        for (size_t k = j; k < diff->new_end && diff->new_fate[k] != FATE_KEPT; k++) {
            if (!can_become(&diff->old->headers[i], &diff->new->headers[k]))
                continue;
            diff->old_fate[i] = FATE_CHANGED;
            diff->new_fate[k] = FATE_CHANGED;
            diff->changed_to[i] = &diff->new->headers[k];
            j = k + 1;
            break;
        }
    }
}

static enum err add(struct edits *edits, enum edit_kind kind, size_t index, const char *name,
                    const char *value, struct detail *detail)
{
    struct edit edit = {kind, (unsigned)index, mem_strdup(name), value ? mem_strdup(value) : NULL};
    if (!edit.name || (value && !edit.value)) {
        mem_free(edit.name);
        mem_free(edit.value);
        return err_set(detail, ERR_TEMP, "edits: out of memory");
    }
    edits->items[edits->count++] = edit;
    return ERR_OK;
}

// From 1, among the fields of that name.
static size_t index_by_name(const struct message *message, size_t i)
{
    size_t index = 1;
    struct bytes name = bytes_of_text(message->headers[i].name);
    while (i-- > 0)
        if (field_name_equal(bytes_of_text(message->headers[i].name), name))
            index++;
    return index;
}

static enum err list_edits(const struct diff *diff, struct edits *edits, struct detail *detail)
{
    const struct message *old = diff->old;
    const struct message *new = diff->new;
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < old->header_count; i++)
        if (diff->old_fate[i] == FATE_CHANGED)
            err = add(edits, EDIT_CHANGE_HEADER, index_by_name(old, i), old->headers[i].name,
                      diff->changed_to[i]->value, detail);
    for (size_t i = old->header_count; err == ERR_OK && i-- > 0;)
        if (diff->old_fate[i] == FATE_ODD)
            err = add(edits, EDIT_CHANGE_HEADER, index_by_name(old, i), old->headers[i].name, NULL,
                      detail);
    size_t last_old = new->header_count;
    while (last_old > 0 && diff->new_fate[last_old - 1] == FATE_ODD)
        last_old--;
    for (size_t j = 0; err == ERR_OK && j < new->header_count; j++)
        if (diff->new_fate[j] == FATE_ODD)
            err = add(edits, j < last_old ? EDIT_INSERT_HEADER : EDIT_ADD_HEADER, j + 1,
                      new->headers[j].name, new->headers[j].value, detail);
    return err;
}

static enum err compare_bodies(const struct message *old, const struct message *new, bool *differ,
                               struct detail *detail)
{
    struct bytes a;
    struct bytes b;
    enum err err = spool_view(old->body, &a, detail);
    if (err == ERR_OK)
        err = spool_view(new->body, &b, detail);
    if (err == ERR_OK)
        *differ = !bytes_equal(a, b);
    return err;
}

enum err edits_compute(const struct message *old, const struct message *new, struct edits *edits,
                       struct detail *detail)
{
    size_t all = old->header_count + new->header_count + 1;
    struct edits made = {.items = mem_calloc(all, sizeof *made.items)};
    struct diff diff = {.old = old,
                        .new = new,
                        .old_fate = mem_calloc(old->header_count, 1),
                        .new_fate = mem_calloc(new->header_count, 1),
                        .changed_to = mem_calloc(old->header_count, sizeof *diff.changed_to)};
    enum err err = ERR_OK;
    if (!made.items || !diff.old_fate || !diff.new_fate || !diff.changed_to)
        err = err_set(detail, ERR_TEMP, "edits: out of memory");
    if (err == ERR_OK)
        err = find_kept(&diff, detail);
    if (err == ERR_OK) {
        find_changed(&diff);
        err = list_edits(&diff, &made, detail);
    }
    if (err == ERR_OK)
        err = compare_bodies(old, new, &made.has_new_body, detail);
    mem_free(diff.old_fate);
    mem_free(diff.new_fate);
    mem_free(diff.changed_to);
    if (err == ERR_OK)
        *edits = made;
    else
        edits_clear(&made);
    return err;
}

void edits_clear(struct edits *edits)
{
    for (size_t i = 0; i < edits->count; i++) {
        mem_free(edits->items[i].name);
        mem_free(edits->items[i].value);
    }
    mem_free(edits->items);
    *edits = (struct edits){0};
}
