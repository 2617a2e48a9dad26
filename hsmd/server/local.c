// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/server/local_internal.h"

#define HANDSHAKE_BURST \
    2                  // steps of handshakes at once: each may cost a tenth of a millisecond,
                       // and whoever connects can cause them
#define READ_BURST 32  // connections read at once
#define SPARE_FILES 64 // for the rest of hsmd
#define MORE_EVENT (LISTENER_EVENT | LISTENERS_MAX)
#define READ_SIZE 16384      // of one connection at a time
#define TRUST_MAX 8          // times that one may be late before it is expected no more
#define OUTPUT_MAX (1 << 20) // replies to one peer that wait, in bytes; more are dropped
#define OUTPUT_ALL (1 << 25) // to all of them

bool local_watch(const struct local *local, int how, int fd, uint32_t what, uint64_t id)
{
    struct epoll_event event = {.events = what, .data.u64 = id};
    return epoll_ctl(local->conf.epoll, how, fd, &event) == 0;
}

enum err local_open(const struct local_conf *conf, struct local **out, struct detail *detail)
{
    struct rlimit files = {0};
    struct local *local = mem_calloc(1, sizeof *local);
    if (!local)
        return err_set(detail, ERR_TEMP, "out of memory");
    local->conf = *conf;
    local->conf.server_key = &local->server_key;
    local->free_slot = NO_SLOT;
    local->more = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    rlim_t most = files.rlim_cur < 1 << 20 ? files.rlim_cur : 1 << 20;
    local->slot_max = (uint32_t)(most > 2 * SPARE_FILES ? most - SPARE_FILES : most / 2);
    local->entering_max = local->slot_max / 4 < ENTERING_MAX ? local->slot_max / 4 : ENTERING_MAX;
    enum err err = local->more >= 0 && local_watch(local, EPOLL_CTL_ADD, local->more,
                                                   EPOLLIN | EPOLLET, MORE_EVENT)
                       ? secret_init(&local->server_key, conf->server_key->len + 1, detail)
                       : err_errno(detail, ERR_TEMP, "eventfd, epoll");
    if (err == ERR_OK)
        err = secret_set(&local->server_key, conf->server_key->data, conf->server_key->len);
    if (err == ERR_OK && !zmtp_public_key((const char *)local->server_key.data, local->public_key))
        err = err_set(detail, ERR_PERM, "the server's CURVE key is none");
    if (err == ERR_OK)
        *out = local;
    else
        local_close(local);
    return err;
}

static void leave_list(struct connection *connection)
{
    struct list *list = connection->list;
    if (!list)
        return;
    connection->list = NULL;
    *(connection->previous ? &connection->previous->next : &list->first) = connection->next;
    *(connection->next ? &connection->next->previous : &list->last) = connection->previous;
}

// Behind the others.
static void stand_in(struct connection *connection, struct list *list)
{
    leave_list(connection);
    connection->list = list;
    connection->next = NULL;
    connection->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = connection;
    list->last = connection;
}

static void leave_entering(struct connection *connection)
{
    struct local *local = connection->local;
    if (!connection->is_entering)
        return;
    connection->is_entering = false;
    local->entering_count--;
    *(connection->older ? &connection->older->younger : &local->entering) = connection->younger;
    *(connection->younger ? &connection->younger->older : &local->entering_last) =
        connection->older;
}

void local_end(struct connection *connection)
{
    struct local *local = connection->local;
    uint32_t index = (uint32_t)connection->id;
    leave_list(connection);
    leave_entering(connection);
    local->kept -= connection->kept;
    local->slots[index].connection = NULL;
    local->slots[index].next_free = local->free_slot;
    local->free_slot = index;
    close(connection->fd);
    zmtp_free(connection->zmtp);
    mem_free(connection);
}

void local_close(struct local *local)
{
    if (!local)
        return;
    for (uint32_t i = 0; i < local->slot_count; i++) {
        if (local->slots[i].connection)
            local_end(local->slots[i].connection);
    }
    for (unsigned i = 0; i < local->listener_count; i++)
        close(local->listeners[i]);
    if (local->more >= 0)
        close(local->more);
    mem_free(local->slots);
    secret_clear(&local->server_key);
    mem_free(local);
}

static struct connection *find(const struct local *local, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    struct connection *connection =
        index < local->slot_count ? local->slots[index].connection : NULL;
    return connection && connection->id == id ? connection : NULL;
}

// It is not read, only written, or the other way round. False: it cannot be watched any more.
static bool set_blocked(struct connection *connection, bool is_blocked)
{
    const struct local *local = connection->local;
    if (connection->is_blocked == is_blocked)
        return true;
    connection->is_blocked = is_blocked;
    connection->is_held = false;
    connection->has_input = false; // when it is watched again, we are told
    return local_watch(local, EPOLL_CTL_MOD, connection->fd,
                       is_blocked ? EPOLLOUT | EPOLLET : READ_EVENTS, connection->id);
}

// Replies that wait are counted.
static void count_kept(struct connection *connection)
{
    size_t kept = zmtp_output(connection->zmtp).len;
    connection->local->kept += kept - connection->kept;
    connection->kept = kept;
}

// False: the connection is of no use any more.
static bool write_some(struct connection *connection)
{
    ssize_t len = 0;
    struct bytes bytes = zmtp_output(connection->zmtp);
    while (bytes.len && (len >= 0 || errno == EINTR)) {
        len = send(connection->fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (len > 0)
            zmtp_written(connection->zmtp, (size_t)len);
        bytes = zmtp_output(connection->zmtp);
    }
    bool is_alive = !bytes.len || errno == EAGAIN;
    count_kept(connection);
    return is_alive && set_blocked(connection, bytes.len);
}

// False: as above. Less than there is room for is all that there was, or it hangs up and is read
// to the end. (Descriptors end a piece too, but no client of ours sends any.) If it still reads, it
// has its answers before that is the end of it.
static bool read_some(struct connection *connection)
{
    uint8_t data[READ_SIZE];
    struct iovec piece = {data, sizeof data};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    ssize_t len = recvmsg(connection->fd, &message, 0);
    if (len < 0) {
        connection->has_input = errno == EINTR;
        return errno == EAGAIN || errno == EINTR;
    }
    connection->has_input = len == sizeof data || (len && connection->hung_up);
    connection->is_over = !len && connection->open && !(connection->hung_up & EPOLLHUP);
    if (!len || message.msg_flags & MSG_CTRUNC)
        return connection->is_over;
    enum err err = zmtp_feed(connection->zmtp, bytes_of(data, (size_t)len));
    // A step of the handshake, or why it ends.
    if (connection->is_entering && !write_some(connection))
        return false;
    return err == ERR_OK;
}

static void read_list(struct local *local, struct list *list, unsigned most)
{
    for (unsigned i = 0; i < most && list->first; i++) {
        struct connection *connection = list->first;
        leave_list(connection);
        if (!connection->has_input) // it does not read
            continue;
        if (!read_some(connection)) {
            local_log_failure(connection, false);
            local_end(connection);
        } else if (zmtp_state(connection->zmtp) == ZMTP_READY) {
            leave_entering(connection);
            stand_in(connection, &local->ready);
        } else if (connection->has_input) {
            stand_in(connection, list);
        }
    }
}

static void take_event(struct local *local, struct connection *connection, uint32_t events)
{
    if (connection->is_blocked) {
        if (!write_some(connection))
            local_end(connection);
        return;
    }
    connection->has_input = true;
    // An event that was taken before another may be handed over after it.
    connection->hung_up |= events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (!connection->list)
        stand_in(connection, connection->is_entering ? &local->knocking : &local->calling);
}

static void read_lists(struct local *local)
{
    read_list(local, &local->calling, READ_BURST);
    read_list(local, &local->knocking, HANDSHAKE_BURST);
    if (local->calling.first || local->knocking.first)
        (void)eventfd_write(local->more, 1);
}

void local_look(struct local *local, const struct epoll_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t id = events[i].data.u64;
        struct connection *connection = id & LISTENER_EVENT ? NULL : find(local, id);
        if (id & LISTENER_EVENT && id != MORE_EVENT)
            local_accept(local, (unsigned)(id & ~LISTENER_EVENT));
        else if (connection && !connection->is_held) // else we are told again
            take_event(local, connection, events[i].events);
    }
    read_lists(local);
}

void local_look_held(struct local *local, uint64_t id)
{
    struct connection *connection = find(local, id);
    if (connection)
        take_event(local, connection, EPOLLIN);
    read_lists(local);
}

// The next message, and the answers to heartbeats on the way. False: as above.
static bool take_message(struct connection *connection, struct buf *frame, bool *is_there)
{
    return zmtp_receive(connection->zmtp, frame, is_there) == ERR_OK &&
           (zmtp_output(connection->zmtp).len == connection->kept || write_some(connection));
}

bool local_receive(struct local *local, struct arrival *arrival)
{
    struct connection *connection;
    while ((connection = local->ready.first)) {
        bool is_there;
        leave_list(connection);
        buf_reset(&arrival->frame);
        if (!take_message(connection, &arrival->frame, &is_there)) {
            local_log_failure(connection, false);
            local_end(connection);
        } else if (is_there) {
            stand_in(connection, &local->ready);
            connection->open++;
            if (clock_us() - connection->answered < LOCAL_PROMPT_US)
                connection->trust = TRUST_MAX;
            arrival->route.connection = connection->id;
            snprintf(arrival->peer, sizeof arrival->peer, "%s", zmtp_peer(connection->zmtp));
            return true;
        } else if (connection->has_input) {
            stand_in(connection, &local->calling);
            (void)eventfd_write(local->more, 1);
        }
    }
    return false;
}

// False: there is no such connection, or no room for the reply. An empty one is not put.
static bool put_reply(struct local *local, struct connection *connection, struct bytes reply)
{
    if (!connection)
        return false;
    connection->open--;
    connection->answered = clock_us();
    if (connection->kept > OUTPUT_MAX || (connection->kept && local->kept > OUTPUT_ALL))
        return false;
    if (!reply.len || zmtp_send(connection->zmtp, reply) == ERR_OK)
        return true;
    local_end(connection); // out of memory: the reply is lost as if the peer had gone
    return false;
}

// The last answer to one that says no more is the end of it.
static void write_reply(struct connection *connection)
{
    if (!write_some(connection) || (connection->is_over && !connection->open && !connection->kept))
        local_end(connection);
}

void local_send(struct local *local, uint64_t id, struct bytes reply)
{
    struct connection *connection = find(local, id);
    if (put_reply(local, connection, reply))
        write_reply(connection);
}

struct bytes local_seal(struct local *local, uint64_t id, struct bytes reply)
{
    struct connection *connection = find(local, id);
    return put_reply(local, connection, reply) ? zmtp_output(connection->zmtp)
                                               : (struct bytes){NULL, 0};
}

void local_sent(struct local *local, uint64_t id, size_t len)
{
    struct connection *connection = find(local, id); // its holder's alone, who has not ended it
    zmtp_written(connection->zmtp, len);
    write_reply(connection);
}

int local_hold(struct local *local, uint64_t id)
{
    struct connection *connection = find(local, id);
    if (!connection || !connection->trust || connection->open > 1 || connection->is_blocked ||
        connection->is_held || connection->is_over || connection->list)
        return -1;
    connection->is_held = local_watch(local, EPOLL_CTL_MOD, connection->fd, EPOLLET, id);
    return connection->is_held ? connection->fd : -1;
}

void local_let_go(struct local *local, uint64_t id, bool is_late)
{
    struct connection *connection = find(local, id);
    if (!connection || !connection->is_held)
        return;
    connection->is_held = false;
    connection->trust -= is_late && connection->trust;
    if (!local_watch(local, EPOLL_CTL_MOD, connection->fd, READ_EVENTS, id))
        local_end(connection);
}

deadline_t local_expire(struct local *local)
{
    while (local->entering && deadline_is_past(local->entering->until)) {
        local_log_failure(local->entering, true);
        local_end(local->entering);
    }
    if (local->full_until && deadline_is_past(local->full_until))
        local_listen_again(local);
    deadline_t due = local->entering ? local->entering->until : UINT64_MAX;
    return local->full_until && local->full_until < due ? local->full_until : due;
}
