// SPDX-License-Identifier: Apache-2.0
// A call goes round the endpoints, from the last good one, until somebody gives a final answer or
// the deadline is past. In each round the time left is shared among the endpoints still to be
// asked, so that a silent first one leaves the second its half. After a round in which all failed
// at once (nobody listens, say, because hsmd is being restarted) it waits a little. One that kept a
// call waiting for its whole share, or longer (a name that the resolver does not find out about),
// is not the first of the next call, even if this one failed; and for some time it is not asked at
// all by a call that another endpoint has answered "temp" at once.
#include "hsmd/client/client.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/curve.h"
#include "hsmd/base/file.h"
#include "hsmd/client/pool.h"

#define ENDPOINT_SIZE 256
#define PAUSE_FIRST_MS 10
#define PAUSE_LAST_MS 250
#define FAIR_SHARE_MS 250 // too little time to blame an endpoint for it
#define AWAY_MS 10000     // how long one that is to blame is avoided

struct client {
    char endpoints[CLIENT_ENDPOINTS_MAX][ENDPOINT_SIZE];
    unsigned endpoints_count;
    char server_key[CLIENT_KEY_SIZE];
    char public_key[CLIENT_KEY_SIZE];
    struct secret secret_key; // Z85, with its 0; every new link needs it
    unsigned timeout_ms;
    unsigned sockets_max;
    atomic_uint last_good; // index of an endpoint
    _Atomic deadline_t away_until[CLIENT_ENDPOINTS_MAX];
    _Atomic(struct pool *) pool;
};

// What came of asking one endpoint.
enum outcome {
    OUTCOME_UNTRIED,
    OUTCOME_FINAL, // hsmd answered, and asking another would not help
    OUTCOME_TEMPORARY,
    OUTCOME_UNREACHABLE,
    OUTCOME_UNTRUSTED,
    OUTCOME_REFUSED,
    OUTCOME_SILENT,
    OUTCOME_LOST,
    OUTCOME_MALFORMED,
    OUTCOME_INVALID, // as an endpoint
    OUTCOME_FAILED,  // on our side
};

static const char *const outcome_texts[] = {
    [OUTCOME_UNTRIED] = "not tried",
    [OUTCOME_FINAL] = "answered",
    [OUTCOME_TEMPORARY] = "reports a temporary failure",
    [OUTCOME_UNREACHABLE] = "cannot reach it",
    [OUTCOME_UNTRUSTED] = "the handshake failed (is the server key that of this hsmd?)",
    [OUTCOME_REFUSED] = "refused this client's key",
    [OUTCOME_SILENT] = "does not answer",
    [OUTCOME_LOST] = "the connection was lost",
    [OUTCOME_MALFORMED] = "sent a malformed reply",
    [OUTCOME_INVALID] = "no such endpoint is possible",
    [OUTCOME_FAILED] = "out of sockets or memory",
};

static enum err add_endpoint(struct client *client, const char *text, size_t len,
                             struct detail *detail)
{
    if (client->endpoints_count == CLIENT_ENDPOINTS_MAX)
        return err_set(detail, ERR_PERM, "more than %d endpoints", CLIENT_ENDPOINTS_MAX);
    if (len >= ENDPOINT_SIZE)
        return err_set(detail, ERR_PERM, "an endpoint is longer than %d bytes", ENDPOINT_SIZE - 1);
    char *endpoint = client->endpoints[client->endpoints_count];
    memcpy(endpoint, text, len);
    endpoint[len] = 0;
    if (strncmp(endpoint, "ipc://", 6) != 0 && strncmp(endpoint, "tcp://", 6) != 0)
        return err_set(detail, ERR_PERM, "\"%s\" is no endpoint (ipc:///PATH or tcp://HOST:PORT)",
                       endpoint);
    client->endpoints_count++;
    return ERR_OK;
}

static enum err set_endpoints(struct client *client, const char *list, struct detail *detail)
{
    static const char separators[] = ", \t";
    for (;;) {
        list += strspn(list, separators);
        size_t len = strcspn(list, separators);
        if (!len)
            break;
        enum err err = add_endpoint(client, list, len, detail);
        if (err != ERR_OK)
            return err;
        list += len;
    }
    return client->endpoints_count ? ERR_OK : err_set(detail, ERR_PERM, "no endpoints");
}

static enum err read_secret(const char *path, struct secret *key, struct detail *detail)
{
    enum err err = secret_init(key, CLIENT_KEY_SIZE + 2, detail);
    if (err == ERR_OK)
        err = file_read_secret(path, key, detail);
    if (err != ERR_OK)
        return err;
    key->data[key->len] = 0; // over the line end; room is a page
    if (!curve_is_key((const char *)key->data))
        return err_set(detail, ERR_PERM, "%s: no CURVE key in Z85", path);
    return ERR_OK;
}

static enum err read_keys(struct client *client, const struct client_conf *conf,
                          struct detail *detail)
{
    if (!conf->server_key_file || !conf->public_key_file || !conf->secret_key_file)
        return err_set(detail, ERR_PERM, "no %s key file is set",
                       !conf->server_key_file   ? "server"
                       : !conf->public_key_file ? "public"
                                                : "secret");
    enum err err = curve_read_public(conf->server_key_file, client->server_key, detail);
    if (err == ERR_OK)
        err = curve_read_public(conf->public_key_file, client->public_key, detail);
    if (err == ERR_OK)
        err = read_secret(conf->secret_key_file, &client->secret_key, detail);
    if (err != ERR_OK)
        return err;
    if (!zmtp_is_pair(client->public_key, (const char *)client->secret_key.data))
        return err_set(detail, ERR_PERM, "%s is not the public key of %s", conf->public_key_file,
                       conf->secret_key_file);
    return ERR_OK;
}

enum err client_open(const struct client_conf *conf, struct client **client, struct detail *detail)
{
    struct client *opened = mem_calloc(1, sizeof *opened);
    if (!opened)
        return err_set(detail, ERR_TEMP, "out of memory");
    opened->timeout_ms = conf->timeout_ms ? conf->timeout_ms : CLIENT_TIMEOUT_MS;
    opened->sockets_max = conf->sockets_max ? conf->sockets_max : CLIENT_SOCKETS_MAX;
    enum err err = set_endpoints(opened, conf->endpoints ? conf->endpoints : "", detail);
    if (err == ERR_OK)
        err = read_keys(opened, conf, detail);
    if (err != ERR_OK) {
        client_close(opened);
        return err;
    }
    *client = opened;
    return ERR_OK;
}

void client_close(struct client *client)
{
    if (!client)
        return;
    pool_free(atomic_load(&client->pool));
    secret_clear(&client->secret_key);
    mem_free(client);
}

// The pool of this process, made on first use and again after a fork. Without a lock: the one that
// a parent's thread held at the fork would stay held in the child.
static enum err get_pool(struct client *client, struct pool **pool, struct detail *detail)
{
    struct pool *found = atomic_load(&client->pool);
    struct pool *made = NULL;
    if (!found || !pool_is_ours(found)) {
        enum err err = pool_new(client->sockets_max, &made, detail);
        if (err != ERR_OK)
            return err;
        pool_set_inherited(made, found);
        if (atomic_compare_exchange_strong(&client->pool, &found, made)) {
            found = made;
        } else { // another thread was first
            pool_set_inherited(made, NULL);
            pool_free(made);
        }
    }
    *pool = found;
    return ERR_OK;
}

static enum outcome outcome_of_dead(enum link_state state)
{
    switch (state) {
    case LINK_UNREACHABLE:
    case LINK_CONNECTING:
        return OUTCOME_UNREACHABLE;
    case LINK_UNTRUSTED:
        return OUTCOME_UNTRUSTED;
    case LINK_REFUSED:
        return OUTCOME_REFUSED;
    case LINK_LOST:
        return OUTCOME_LOST;
    case LINK_MALFORMED:
        return OUTCOME_MALFORMED;
    case LINK_CONNECTED:
    case LINK_READY:
        break;
    }
    return OUTCOME_SILENT;
}

struct call {
    struct client *client;
    struct pool *pool;
    const struct wire_request *request;
    struct bytes encoded;
    struct buf *frame;
    struct wire_reply *reply;
    struct detail *detail;
    enum outcome outcomes[CLIENT_ENDPOINTS_MAX];
};

// Waits for the reply to this request; one to another is dropped.
static enum outcome receive_reply(struct call *call, struct link *link, deadline_t deadline)
{
    for (;;) {
        if (link_receive(link, deadline, call->frame) != ERR_OK)
            return outcome_of_dead(link->state);
        enum err err = wire_decode_reply(call->request->operation, buf_bytes(call->frame),
                                         call->reply, call->detail);
        if (call->reply->id == call->request->id) {
            if (err == ERR_OK)
                return call->reply->class == ERR_TEMP ? OUTCOME_TEMPORARY : OUTCOME_FINAL;
            link->state = LINK_MALFORMED;
        }
        explicit_bzero(call->frame->data, call->frame->len);
        if (link->state == LINK_MALFORMED)
            return OUTCOME_MALFORMED;
    }
}

// A link that did not bring the reply is closed: the reply could come in the next call.
static enum outcome ask_endpoint(struct call *call, unsigned index, deadline_t deadline)
{
    struct client *client = call->client;
    struct link *link = NULL;
    const struct link_conf conf = {
        .endpoint = client->endpoints[index],
        .keys = {client->server_key, client->public_key, (const char *)client->secret_key.data},
    };
    enum err err = pool_take(call->pool, &conf, index, &link, call->detail);
    if (err != ERR_OK)
        return err == ERR_PERM ? OUTCOME_INVALID : OUTCOME_FAILED;
    enum outcome outcome = link_send(link, call->encoded) == ERR_OK
                               ? receive_reply(call, link, deadline)
                               : outcome_of_dead(link->state);
    if (outcome == OUTCOME_FINAL || outcome == OUTCOME_TEMPORARY)
        pool_give(call->pool, link);
    else
        link_close(link);
    return outcome;
}

// Asking again would bring the same; a failed handshake may be hsmd's restart, and heal.
static bool is_hopeless(enum outcome outcome)
{
    return outcome == OUTCOME_REFUSED || outcome == OUTCOME_TEMPORARY ||
           outcome == OUTCOME_MALFORMED || outcome == OUTCOME_INVALID;
}

// It took the whole share of a call. Whoever found a better one meanwhile knows better.
static void blame(struct client *client, unsigned index)
{
    unsigned expected = index;
    atomic_store(&client->away_until[index], deadline_in(AWAY_MS));
    (void)atomic_compare_exchange_strong(&client->last_good, &expected,
                                         (index + 1) % client->endpoints_count);
}

// Whether there is no point in a further round.
static bool ask_all(struct call *call, deadline_t deadline)
{
    struct client *client = call->client;
    unsigned count = client->endpoints_count;
    unsigned first = atomic_load(&client->last_good);
    unsigned hopeless = 0;
    bool has_answer = false;
    for (unsigned i = 0; i < count && !deadline_is_past(deadline); i++) {
        unsigned index = (first + i) % count;
        unsigned share = (unsigned)deadline_left(deadline) / (count - i);
        deadline_t until = deadline_in(share);
        if (has_answer && !deadline_is_past(atomic_load(&client->away_until[index]))) {
            hopeless++;
            continue;
        }
        enum outcome outcome = ask_endpoint(call, index, until);
        bool late = outcome == OUTCOME_SILENT || outcome == OUTCOME_UNREACHABLE;
        if (!late || share >= FAIR_SHARE_MS || call->outcomes[index] == OUTCOME_UNTRIED)
            call->outcomes[index] = outcome;
        if (late && share >= FAIR_SHARE_MS && deadline_is_past(until))
            blame(client, index);
        has_answer = has_answer || outcome == OUTCOME_TEMPORARY;
        if (outcome == OUTCOME_FINAL) {
            atomic_store(&client->last_good, index);
            atomic_store(&client->away_until[index], 0);
            return true;
        }
        hopeless += is_hopeless(outcome);
    }
    return hopeless == count;
}

static void pause_for(unsigned ms, deadline_t deadline)
{
    unsigned left = (unsigned)deadline_left(deadline);
    ms = ms < left ? ms : left;
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

// What each endpoint did, as one line.
static void describe_failure(const struct call *call)
{
    const struct client *client = call->client;
    struct detail *detail = call->detail;
    size_t len = 0;
    for (unsigned i = 0; detail && i < client->endpoints_count; i++) {
        int n = snprintf(detail->text + len, sizeof detail->text - len, "%s%s: %s", i ? "; " : "",
                         client->endpoints[i], outcome_texts[call->outcomes[i]]);
        if (n < 0 || (len += (size_t)n) >= sizeof detail->text)
            return;
    }
    if (detail)
        snprintf(detail->text + len, sizeof detail->text - len, " (id %ju)",
                 (uintmax_t)call->request->id);
}

static enum err finish(const struct call *call)
{
    const struct wire_reply *reply = call->reply;
    for (unsigned i = 0; i < call->client->endpoints_count; i++) {
        if (call->outcomes[i] != OUTCOME_FINAL)
            continue;
        if (reply->class == ERR_OK)
            return ERR_OK;
        return err_set(call->detail, reply->class, "hsmd answers \"%s\" to %s (id %ju in its log)",
                       err_name(reply->class), wire_operation_name(call->request->operation),
                       (uintmax_t)reply->id);
    }
    describe_failure(call);
    return ERR_TEMP;
}

enum err client_call(struct client *client, struct wire_request *request, struct buf *frame,
                     struct wire_reply *reply, struct detail *detail)
{
    deadline_t deadline = deadline_in(client->timeout_ms);
    struct buf encoded;
    struct call call = {
        .client = client,
        .request = request,
        .frame = frame,
        .reply = reply,
        .detail = detail,
    };
    buf_init(&encoded, WIRE_FRAME_MAX);
    enum err err = get_pool(client, &call.pool, detail);
    if (err != ERR_OK)
        return err;
    request->id = pool_next_id(call.pool);
    err = wire_encode_request(request, &encoded);
    if (err != ERR_OK) {
        (void)err_set(detail, err, "the request cannot be encoded");
        goto out;
    }
    call.encoded = buf_bytes(&encoded);
    err = pool_enter(call.pool, deadline, detail);
    if (err != ERR_OK)
        goto out;
    unsigned pause = PAUSE_FIRST_MS;
    while (!ask_all(&call, deadline) && !deadline_is_past(deadline)) {
        pause_for(pause, deadline);
        pause = pause * 2 < PAUSE_LAST_MS ? pause * 2 : PAUSE_LAST_MS;
    }
    pool_leave(call.pool);
    err = finish(&call);
out:
    buf_clear(&encoded);
    return err;
}
