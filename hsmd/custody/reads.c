// SPDX-License-Identifier: Apache-2.0
#include "hsmd/custody/reads.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#define LOG_CHUNK (MESSAGE_REPLY_MAX - 4096)
#define TEXT_MAX 4096

void reads_put(struct reading *reading, json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) != 0)
        reading->is_short = true;
}

void reads_add(struct reading *reading, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) != 0)
        reading->is_short = true;
}

json_t *reads_text(struct bytes text)
{
    char quoted[TEXT_MAX];
    json_t *value = text.len ? json_stringn((const char *)text.data, text.len) : json_string("");
    return value
               ? value
               : json_string(text_quote((const char *)text.data, text.len, quoted, sizeof quoted));
}

json_t *reads_hex(struct bytes bytes)
{
    struct buf hex;
    if (!bytes.len)
        return json_null();
    buf_init(&hex, 2 * bytes.len);
    json_t *value = text_put_hex(&hex, bytes) == ERR_OK ? json_string(buf_text(&hex)) : NULL;
    buf_clear(&hex);
    return value;
}

json_t *reads_base64(struct bytes bytes)
{
    struct buf text;
    uint8_t *place = NULL;
    json_t *value = NULL;
    size_t size = 4 * (bytes.len / 3 + 1) + 1;
    buf_init(&text, size);
    if (bytes.len && buf_reserve(&text, size, &place) == ERR_OK) {
        int len = EVP_EncodeBlock(place, bytes.data, (int)bytes.len);
        value = json_stringn((const char *)place, (size_t)len);
    }
    buf_clear(&text);
    return bytes.len ? value : json_null();
}

json_t *reads_sha256(struct bytes bytes)
{
    uint8_t hash[HASH_SIZE_MAX];
    if (!bytes.len)
        return json_null();
    return hash_digest(HASH_SHA256, bytes, hash) == ERR_OK
               ? reads_hex(bytes_of(hash, hash_size(HASH_SHA256)))
               : NULL;
}

json_t *reads_stamp(int64_t seconds)
{
    char text[32];
    struct tm tm = {0};
    time_t time = (time_t)seconds;
    if (!gmtime_r(&time, &tm) || !strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
        return json_null();
    return json_string(text);
}

json_t *reads_set(uint64_t set, const char *(*name_of)(unsigned number))
{
    json_t *array = json_array();
    if (set == REGISTRY_ALL) {
        json_decref(array);
        return json_null();
    }
    for (unsigned number = 0; number < 64 && array; number++) {
        const char *name = set & REGISTRY_SET(number) ? name_of(number) : NULL;
        if (name && json_array_append_new(array, json_string(name)) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

const char *reads_operation(unsigned number)
{
    return wire_operation_name((enum wire_operation)number);
}

const char *reads_algorithm(unsigned number)
{
    return wire_algorithm_name((enum wire_algorithm)number);
}

// 0 and UINT64_MAX are null.
static json_t *limit_number(uint64_t number)
{
    return number == 0 || number > INT64_MAX ? json_null() : json_integer((json_int_t)number);
}

json_t *reads_limits(const struct budget_limits *limits)
{
    return json_pack("{soso soso}", "per_minute", limit_number(limits->per_minute), "per_hour",
                     limit_number(limits->per_hour), "total", limit_number(limits->total),
                     "failures_per_hour", limit_number(limits->failures_per_hour));
}

// None left is 0; no limit is null.
static json_t *left_number(uint64_t number)
{
    return number > INT64_MAX ? json_null() : json_integer((json_int_t)number);
}

json_t *reads_left(const struct budget_left *left)
{
    return json_pack("{soso soso}", "per_minute", left_number(left->per_minute), "per_hour",
                     left_number(left->per_hour), "total", left_number(left->total),
                     "failures_per_hour", left_number(left->failures_per_hour));
}

// The part of the audit log from offset on; nothing at its end.
static enum err read_audit_log(struct call *call)
{
    const char *path = call->custody->conf.config->audit_log;
    uint64_t offset = call->request.read.offset;
    uint8_t *place = NULL;
    if (offset > INT64_MAX)
        return err_set(&call->detail, ERR_PERM, "there is no such place in the audit log");
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(&call->detail, ERR_TEMP, "%s", path);
    enum err err = buf_reserve(&call->body, LOG_CHUNK, &place);
    ssize_t len = err == ERR_OK ? pread(fd, place, LOG_CHUNK, (off_t)offset) : 0;
    if (len < 0)
        err = err_errno(&call->detail, ERR_TEMP, "%s", path);
    call->body.len = err == ERR_OK ? (size_t)len : 0;
    close(fd);
    return err;
}

static enum err dump(struct call *call, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    enum err err =
        text ? buf_put_text(&call->body, text) : err_set(&call->detail, ERR_TEMP, "out of memory");
    if (err == ERR_PERM)
        err = err_set(&call->detail, err, "too much for one answer: ask for one item by its name");
    free(text);
    return err;
}

static enum err under_lock(struct reading *reading, enum err (*read)(struct reading *reading))
{
    pthread_mutex_lock(&reading->custody->store);
    enum err err = read(reading);
    pthread_mutex_unlock(&reading->custody->store);
    return err;
}

static enum err read_json(struct reading *reading)
{
    switch (reading->call->request.read.what) {
    case READ_STATUS:
        return reads_status(reading);
    case READ_KEYS:
        return under_lock(reading, reads_keys);
    case READ_CLIENTS:
        return under_lock(reading, reads_clients);
    case READ_OFFICERS:
        return under_lock(reading, reads_officers);
    case READ_PROPOSALS:
        return under_lock(reading, reads_proposals);
    case READ_USAGE:
        return reads_usage(reading);
    case READ_OBJECTS:
        return reads_objects(reading);
    case READ_AUDIT_LOG:
        break;
    }
    return err_set(&reading->call->detail, ERR_PERM, "there is nothing of that kind to read");
}

enum err custody_read(struct call *call)
{
    struct reading reading = {.call = call, .custody = call->custody};
    enum message_read what = call->request.read.what;
    if (what == READ_AUDIT_LOG)
        return read_audit_log(call);
    reading.top = what == READ_STATUS || what == READ_OFFICERS || what == READ_USAGE ? json_object()
                                                                                     : json_array();
    reading.is_short = !reading.top;
    enum err err = reading.top ? read_json(&reading) : ERR_TEMP;
    if (reading.is_short)
        err = err_set(&call->detail, ERR_TEMP, "out of memory");
    if (err == ERR_OK)
        err = dump(call, reading.top);
    json_decref(reading.top);
    return err;
}
