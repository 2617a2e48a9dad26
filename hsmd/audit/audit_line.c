// SPDX-License-Identifier: Apache-2.0
#include "hsmd/audit/audit_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "hsmd/base/hash.h"
#include "hsmd/base/text.h"

// Room that is kept for seq, time and prev round a body.
#define FRAME_SIZE 160
#define REASON_MAX 480
#define ESCAPED_MAX 6 // bytes that a byte may become

static const char *const event_names[AUDIT_EVENT_COUNT] = {
#define X(symbol, name, when) [symbol] = (name),
    AUDIT_EVENTS(X)
#undef X
};

static const struct {
    const char *name;
    enum audit_kind kind;
} fields[AUDIT_FIELD_COUNT] = {
#define X(symbol, name, kind, what) [symbol] = {(name), (kind)},
    AUDIT_FIELDS(X)
#undef X
};

static const char *const sync_names[AUDIT_SYNC_COUNT] = {
#define X(symbol, name) [symbol] = (name),
    AUDIT_SYNCS(X)
#undef X
};

static const char *event_name(enum audit_event event)
{
    return (unsigned)event < AUDIT_EVENT_COUNT ? event_names[event] : "unknown";
}

bool audit_event_by_name(struct bytes name, enum audit_event *event)
{
    for (unsigned i = 0; i < AUDIT_EVENT_COUNT; i++) {
        if (bytes_equal(name, bytes_of_text(event_names[i]))) {
            *event = (enum audit_event)i;
            return true;
        }
    }
    return false;
}

const char *audit_field_name(enum audit_field field)
{
    return (unsigned)field < AUDIT_FIELD_COUNT ? fields[field].name : "unknown";
}

enum audit_kind audit_field_kind(enum audit_field field)
{
    return fields[field].kind;
}

const char *audit_sync_name(enum audit_sync sync)
{
    return (unsigned)sync < AUDIT_SYNC_COUNT ? sync_names[sync] : "unknown";
}

bool audit_sync_by_name(const char *name, enum audit_sync *sync)
{
    for (unsigned i = 0; i < AUDIT_SYNC_COUNT; i++) {
        if (strcmp(sync_names[i], name) == 0) {
            *sync = (enum audit_sync)i;
            return true;
        }
    }
    return false;
}

static enum err put_name(struct buf *out, const char *name)
{
    enum err err = buf_put_text(out, "\"");
    if (err == ERR_OK)
        err = buf_put_text(out, name);
    return err == ERR_OK ? buf_put_text(out, "\":\"") : err;
}

static enum err put_number(struct buf *out, const char *before, uint64_t number)
{
    enum err err = buf_put_text(out, before);
    if (err == ERR_OK)
        err = buf_put_decimal(out, number);
    return err == ERR_OK ? buf_put_text(out, ",") : err;
}

// RFC 8259: quote, backslash and control characters escaped; what is not ASCII too, so that the
// file is ASCII whatever a client calls a key.
// Cut when that makes more than max bytes.
static enum err put_cut_string(struct buf *out, const char *name, struct bytes text, size_t max)
{
    char escaped[AUDIT_LINE_MAX + ESCAPED_MAX + 1];
    _Static_assert(AUDIT_WHAT_MAX <= AUDIT_LINE_MAX, "what is cut fits");
    size_t len = 0;
    for (size_t i = 0; i < text.len && len + ESCAPED_MAX <= max; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\')
            escaped[len++] = '\\';
        if (c >= 0x20 && c < 0x7f)
            escaped[len++] = (char)c;
        else
            len += (size_t)snprintf(escaped + len, ESCAPED_MAX + 1, "\\u%04x", c);
    }
    enum err err = put_name(out, name);
    if (err == ERR_OK)
        err = buf_put(out, escaped, len);
    return err == ERR_OK ? buf_put_text(out, "\",") : err;
}

// What is longer than that is longer than a line.
static enum err put_string(struct buf *out, const char *name, struct bytes text)
{
    return put_cut_string(out, name, text, AUDIT_LINE_MAX + ESCAPED_MAX);
}

static enum err put_text(struct buf *out, const char *name, const char *text)
{
    return text && *text ? put_string(out, name, bytes_of_text(text)) : ERR_OK;
}

static enum err put_hex(struct buf *out, const char *name, struct bytes bytes)
{
    if (!bytes.len)
        return ERR_OK;
    enum err err = put_name(out, name);
    if (err == ERR_OK)
        err = text_put_hex(out, bytes);
    return err == ERR_OK ? buf_put_text(out, "\",") : err;
}

static enum err put_base64(struct buf *out, const char *name, struct bytes bytes)
{
    uint8_t text[4 * (AUDIT_SIGNATURE_MAX + 2) / 3 + 1];
    if (bytes.len > AUDIT_SIGNATURE_MAX)
        return ERR_PERM;
    int len = EVP_EncodeBlock(text, bytes.data, (int)bytes.len);
    enum err err = put_name(out, name);
    if (err == ERR_OK)
        err = buf_put(out, text, (size_t)len);
    return err == ERR_OK ? buf_put_text(out, "\",") : err;
}

static enum err put_checkpoint(const struct audit_checkpoint *checkpoint, struct buf *out)
{
    enum err err = put_number(out, "\"covers\":", checkpoint->covered.seq);
    if (err == ERR_OK)
        err = put_hex(out, "chain",
                      bytes_of(checkpoint->covered.hash, sizeof checkpoint->covered.hash));
    if (err == ERR_OK)
        err = put_hex(out, "key_id", bytes_of(checkpoint->key_id, sizeof checkpoint->key_id));
    return err == ERR_OK ? put_base64(out, "signature", checkpoint->signature) : err;
}

enum err audit_line_signed(const struct audit_link *covered, const char *stamp, struct buf *out)
{
    enum err err =
        buf_printf(out, "%s\n%s\n%" PRIu64 "\n", AUDIT_CHECKPOINT_LABEL, stamp, covered->seq);
    if (err == ERR_OK)
        err = text_put_hex(out, bytes_of(covered->hash, sizeof covered->hash));
    return err == ERR_OK ? buf_put_text(out, "\n") : err;
}

// Of officers' acts.
static enum err put_act(const struct audit_record *record, struct buf *out)
{
    enum err err = put_text(out, "officer", record->officer);
    if (err == ERR_OK)
        err = put_hex(out, "instance", record->instance);
    if (err == ERR_OK && record->proposal)
        err = put_number(out, "\"proposal\":", record->proposal);
    if (err == ERR_OK)
        err = put_hex(out, "registry_sha256", record->registry);
    if (err == ERR_OK && record->budgets)
        err = put_number(out, "\"budgets\":", record->budgets);
    if (err == ERR_OK)
        err = put_text(out, "act", record->act);
    if (err == ERR_OK && record->what)
        err = put_cut_string(out, "what", bytes_of_text(record->what), AUDIT_WHAT_MAX);
    if (err == ERR_OK)
        err = put_hex(out, "act_sha256", record->act_sha256);
    return err == ERR_OK ? put_text(out, "token", record->token) : err;
}

enum err audit_line_body(const struct audit_record *record, struct buf *out)
{
    enum err err = put_text(out, "event", event_name(record->event));
    if (err == ERR_OK)
        err = put_text(out, "client", record->client);
    if (err == ERR_OK)
        err = put_act(record, out);
    if (err == ERR_OK && record->key.len)
        err = put_string(out, "key", record->key);
    if (err == ERR_OK)
        err = put_text(out, "operation", record->operation);
    if (err == ERR_OK)
        err = put_text(out, "algorithm", record->algorithm);
    if (err == ERR_OK)
        err = put_text(out, "hash", record->hash);
    if (err == ERR_OK && record->has_id)
        err = put_number(out, "\"id\":", record->id);
    if (err == ERR_OK)
        err = put_text(out, "result", record->result);
    if (err == ERR_OK)
        err = put_hex(out, "message_digest", record->message_digest);
    if (err == ERR_OK)
        err = put_hex(out, "ciphertext_sha256", record->ciphertext);
    if (err == ERR_OK && record->checkpoint)
        err = put_checkpoint(record->checkpoint, out);
    if (err != ERR_OK || record->checkpoint || !record->reason)
        return err;
    // Last, since it alone may be too long; each byte may become six.
    size_t room = (AUDIT_LINE_MAX - FRAME_SIZE - out->len) / ESCAPED_MAX;
    size_t len = strnlen(record->reason, room < REASON_MAX ? room : REASON_MAX);
    return len ? put_string(out, "reason", bytes_of(record->reason, len)) : ERR_OK;
}

enum err audit_line_put(struct buf *out, struct bytes body, const char *stamp,
                        struct audit_link *link)
{
    size_t start = out->len;
    struct audit_link next = {.seq = link->seq + 1};
    enum err err = put_number(out, "{\"seq\":", next.seq);
    if (err == ERR_OK)
        err = put_string(out, "time", bytes_of_text(stamp));
    if (err == ERR_OK)
        err = buf_put_bytes(out, body);
    if (err == ERR_OK)
        err = buf_put_text(out, "\"prev\":\"");
    if (err == ERR_OK)
        err = text_put_hex(out, bytes_of(link->hash, sizeof link->hash));
    if (err == ERR_OK)
        err = buf_put_text(out, "\"}");
    if (err == ERR_OK)
        err = hash_digest(HASH_SHA256, bytes_of(out->data + start, out->len - start), next.hash);
    if (err == ERR_OK)
        err = buf_put_text(out, "\n");
    if (err == ERR_OK)
        *link = next;
    else
        out->len = start;
    return err;
}

bool audit_line_seq(struct bytes line, uint64_t *seq)
{
    static const char start[] = "{\"seq\":";
    static const char middle[] = ",\"prev\":\"";
    const size_t tail = sizeof middle - 1 + 2 * (size_t)AUDIT_HASH_SIZE + 2;
    uint64_t value = 0;
    size_t at = sizeof start - 1;
    // The quotes of a text are escaped, so the begin of the last field is nowhere else.
    if (line.len < at + tail || memcmp(line.data, start, at) != 0 ||
        memcmp(line.data + line.len - tail, middle, sizeof middle - 1) != 0 ||
        memcmp(line.data + line.len - 2, "\"}", 2) != 0)
        return false;
    for (; at < line.len && line.data[at] >= '0' && line.data[at] <= '9'; at++) {
        if (value > UINT64_MAX / 10 - 1)
            return false;
        value = value * 10 + (uint64_t)(line.data[at] - '0');
    }
    *seq = value;
    return value > 0 && at < line.len && line.data[at] == ',';
}

// The last line of text, which must not end with a line end; text is cut before it.
static struct bytes take_last_line(struct bytes *text)
{
    const uint8_t *end = text->len ? memrchr(text->data, '\n', text->len) : NULL;
    size_t start = end ? (size_t)(end - text->data) + 1 : 0;
    struct bytes line = bytes_of(text->data + start, text->len - start);
    text->len = end ? start - 1 : 0;
    return line;
}

// Could these be the first bytes of a first line?
static bool is_first_torn(struct bytes line)
{
    static const char start[] = "{\"seq\":1,";
    size_t len = line.len < sizeof start - 1 ? line.len : sizeof start - 1;
    return memcmp(line.data, start, len) == 0;
}

enum err audit_line_find_end(struct bytes tail, struct audit_link *link, bool *torn)
{
    struct audit_link found = {0};
    *link = found;
    *torn = false;
    if (!tail.len)
        return ERR_OK;
    bool has_end = tail.data[tail.len - 1] == '\n';
    if (has_end)
        tail.len--;
    // The chain goes on from the last line, whole or not; the numbers from the last whole one. (A
    // torn line that was given its line end just before the next crash is not whole either.)
    struct bytes line = take_last_line(&tail);
    bool is_whole = audit_line_seq(line, &found.seq);
    bool is_torn = !has_end || !is_whole;
    if (!is_whole && !tail.len && is_first_torn(line))
        is_whole = true; // nothing before it
    while (!is_whole && tail.len)
        is_whole = audit_line_seq(take_last_line(&tail), &found.seq);
    if (!is_whole)
        return ERR_PERM;
    enum err err = hash_digest(HASH_SHA256, line, found.hash);
    if (err != ERR_OK)
        return err;
    *link = found;
    *torn = is_torn;
    return ERR_OK;
}
