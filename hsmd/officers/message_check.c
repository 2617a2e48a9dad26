// SPDX-License-Identifier: Apache-2.0
#include "hsmd/officers/message_check.h"

#define NUMBER_MAX INT64_MAX // of a proposal, as SQLite counts them

const char *message_operation_name(enum message_operation operation)
{
    switch (operation) {
#define X(symbol, number, name) \
    case symbol:                \
        return name;
        MESSAGE_OPERATIONS(X)
#undef X
    }
    return NULL;
}

static const char *read_name(enum message_read read)
{
    switch (read) {
#define X(symbol, number, name) \
    case symbol:                \
        return name;
        MESSAGE_READS(X)
#undef X
    }
    return NULL;
}

static bool is_number(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    }
    return text.len > 0 && text.len < 19 && text.data[0] != '0';
}

static bool is_argument_of(enum message_read what, struct bytes argument)
{
    bool is_name = text_is_name((const char *)argument.data, argument.len);
    switch (what) {
    case READ_KEYS:
    case READ_CLIENTS:
        return !argument.len || is_name;
    case READ_PROPOSALS:
        return !argument.len || is_number(argument) || bytes_equal(argument, BYTES_LITERAL("all"));
    case READ_OBJECTS:
        return is_name;
    default:
        return !argument.len;
    }
}

static enum err check_size(const char *name, struct bytes bytes, size_t min, size_t max,
                           struct detail *detail)
{
    if (bytes.len >= min && bytes.len <= max)
        return ERR_OK;
    return err_set(detail, ERR_PERM, "%s: %zu bytes, not %zu to %zu", name, bytes.len, min, max);
}

static enum err check_read(const struct message_request *request, struct detail *detail)
{
    enum message_read what = request->read.what;
    if (!read_name(what))
        return err_set(detail, ERR_PERM, "read: no such number %u", (unsigned)what);
    if (!is_argument_of(what, request->read.argument))
        return err_set(detail, ERR_PERM, "%s: not such an argument", read_name(what));
    if (request->read.offset > INT64_MAX || (request->read.offset && what != READ_AUDIT_LOG))
        return err_set(detail, ERR_PERM, "%s: not such an offset", read_name(what));
    return ERR_OK;
}

static enum err check_propose(const struct message_request *request, struct detail *detail)
{
    const struct statement *statement = &request->propose.statement;
    if (statement->replaces > NUMBER_MAX)
        return err_set(detail, ERR_PERM, "replaces: no such number");
    if (statement->lapse < 1 || statement->lapse > STATEMENT_TIME_MAX)
        return err_set(detail, ERR_PERM, "lapse: no such time");
    enum err err =
        check_size("nonce", statement->nonce, STATEMENT_NONCE_SIZE, STATEMENT_NONCE_SIZE, detail);
    if (err == ERR_OK)
        err = check_size("act", statement->act, 1, ACT_SIZE_MAX, detail);
    if (err == ERR_OK)
        err = check_size("signature", request->propose.signature, STATEMENT_SIGNATURE_SIZE,
                         STATEMENT_SIGNATURE_SIZE, detail);
    if (err == ERR_OK)
        err = check_size("attachment", request->propose.attachment, 0, ACT_ATTACHMENT_MAX, detail);
    return err;
}

static enum err check_verdict(const struct message_request *request, struct detail *detail)
{
    if (!request->verdict.number || request->verdict.number > NUMBER_MAX)
        return err_set(detail, ERR_PERM, "number: no such proposal");
    enum err err = check_size("digest", request->verdict.digest, STATEMENT_DIGEST_SIZE,
                              STATEMENT_DIGEST_SIZE, detail);
    if (err == ERR_OK)
        err = check_size("signature", request->verdict.signature, STATEMENT_SIGNATURE_SIZE,
                         STATEMENT_SIGNATURE_SIZE, detail);
    return err;
}

enum err message_check_request(const struct message_request *request, struct detail *detail)
{
    switch (request->operation) {
    case MESSAGE_READ:
        return check_read(request, detail);
    case MESSAGE_PROPOSE:
        return check_propose(request, detail);
    case MESSAGE_APPROVE:
    case MESSAGE_REJECT:
        return check_verdict(request, detail);
    }
    return err_set(detail, ERR_PERM, "no such operation %u", (unsigned)request->operation);
}

enum err message_check_reply(const struct message_reply *reply, struct detail *detail)
{
    if (reply->class > ERR_BUG)
        return err_set(detail, ERR_PERM, "no such class %u", (unsigned)reply->class);
    if (reply->class == ERR_OK && reply->detail.len)
        return err_set(detail, ERR_PERM, "a reason, and no failure");
    for (size_t i = 0; i < reply->detail.len; i++) {
        if (reply->detail.data[i] < ' ' || reply->detail.data[i] >= 0x7f)
            return err_set(detail, ERR_PERM, "detail: not printable");
    }
    return check_size("detail", reply->detail, 0, MESSAGE_DETAIL_MAX, detail);
}
