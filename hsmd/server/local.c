// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/local.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/server/denials.h"
#include "hsmd/zmtp/zmtp.h"

#define BACKLOG 1024   // connections waiting to be accepted
#define ACCEPT_BURST 8 // of a listener at once
#define HANDSHAKE_BURST \
    2                        // steps of handshakes at once: each may cost a tenth of a millisecond,
                             // and whoever connects can cause them
#define READ_BURST 32        // connections read at once
#define HANDSHAKE_MS 5000    // for a peer to prove who it is
#define ENTERING_MAX 256     // that have not yet, or a quarter of all there is room for
#define FULL_MS 1000         // before we listen again when there was no room
#define SPARE_FILES 64       // for the rest of hsmd
#define READ_SIZE 16384      // of one connection at a time
#define OUTPUT_MAX (1 << 20) // replies to one peer that wait, in bytes; more are dropped
#define OUTPUT_ALL (1 << 25) // to all of them
#define LISTENERS_MAX 16
#define LISTENER_EVENT (UINT64_C(1) << 63)
#define MORE_EVENT (LISTENER_EVENT | LISTENERS_MAX)
#define GENERATION_MAX INT32_MAX
#define NONE UINT32_MAX

struct list {
    struct connection *first, *last;
};

// Its id, the route of its messages and its event, is the slot with the generation above it: one
// that has ended is found no more.
struct connection {
    struct local *local;
    uint64_t id;
    int fd;
    struct ucred peer;
    struct zmtp *zmtp;
    bool is_blocked;   // replies wait until it reads; it is not read meanwhile
    size_t kept;       // bytes of those
    bool has_input;    // it has sent something, and we have not read to the end of it
    bool is_hung_up;   // and that is the end of all
    struct list *list; // where it stands; NULL: nowhere
    struct connection *next, *previous; // there
    bool is_entering;                   // stands among those whose handshake is not over
    struct connection *older, *younger; // there
    deadline_t until;                   // of the handshake
};

struct slot {
    struct connection *connection; // NULL: free
    uint32_t generation;           // of the last one
    uint32_t next_free;
};

struct local {
    struct local_conf conf;
    struct secret server_key;
    struct denials denials;
    int listeners[LISTENERS_MAX];
    unsigned listener_count;
    deadline_t full_until; // not listening; 0: listening
    struct slot *slots;
    uint32_t slot_count;
    uint32_t slot_max;
    uint32_t free_slot;
    size_t kept;          // bytes of replies that wait, of all connections
    struct list ready;    // may have messages; not read before those have been received
    struct list calling;  // have input
    struct list knocking; // have input for their handshake
    struct connection *entering, *entering_last; // the oldest first
    uint32_t entering_count;
    uint32_t entering_max;
    int more; // eventfd, never read: there is something to do that no event of a connection tells
              // again
};

// The kernel asks in the order of the instances. What is not edge-triggered wakes several of those
// who wait in one.
static bool watch(const struct local *local, int fd, uint32_t what, uint64_t id)
{
    for (unsigned i = 0; i < local->conf.epoll_count; i++) {
        struct epoll_event event = {.events = what | EPOLLEXCLUSIVE, .data.u64 = id};
        if (epoll_ctl(local->conf.epolls[i], EPOLL_CTL_ADD, fd, &event) != 0)
            return false;
    }
    return true;
}

static void unwatch(const struct local *local, int fd)
{
    for (unsigned i = 0; i < local->conf.epoll_count; i++)
        (void)epoll_ctl(local->conf.epolls[i], EPOLL_CTL_DEL, fd, NULL);
}

enum err local_open(const struct local_conf *conf, struct local **out, struct detail *detail)
{
    struct rlimit files = {0};
    struct local *local = mem_calloc(1, sizeof *local);
    if (!local)
        return err_set(detail, ERR_TEMP, "out of memory");
    local->conf = *conf;
    local->conf.server_key = &local->server_key;
    local->free_slot = NONE;
    local->more = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)getrlimit(RLIMIT_NOFILE, &files);
    rlim_t most = files.rlim_cur < 1 << 20 ? files.rlim_cur : 1 << 20;
    local->slot_max = (uint32_t)(most > 2 * SPARE_FILES ? most - SPARE_FILES : most / 2);
    local->entering_max = local->slot_max / 4 < ENTERING_MAX ? local->slot_max / 4 : ENTERING_MAX;
    enum err err = local->more >= 0 && watch(local, local->more, EPOLLIN | EPOLLET, MORE_EVENT)
                       ? secret_init(&local->server_key, conf->server_key->len + 1, detail)
                       : err_errno(detail, ERR_TEMP, "eventfd, epoll");
    if (err == ERR_OK)
        err = secret_set(&local->server_key, conf->server_key->data, conf->server_key->len);
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

static void stand_entering(struct connection *connection)
{
    struct local *local = connection->local;
    connection->is_entering = true;
    local->entering_count++;
    connection->until = deadline_in(HANDSHAKE_MS);
    connection->older = local->entering_last;
    *(local->entering_last ? &local->entering_last->younger : &local->entering) = connection;
    local->entering_last = connection;
}

static void end_connection(struct connection *connection)
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
            end_connection(local->slots[i].connection);
    }
    for (unsigned i = 0; i < local->listener_count; i++)
        close(local->listeners[i]);
    if (local->more >= 0)
        close(local->more);
    mem_free(local->slots);
    secret_clear(&local->server_key);
    mem_free(local);
}

enum err local_bind(struct local *local, const char *path, struct detail *detail)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return err_set(detail, ERR_PERM, "the path has more than %zu bytes",
                       sizeof address.sun_path - 1);
    if (local->listener_count == LISTENERS_MAX)
        return err_set(detail, ERR_PERM, "more than %d ipc endpoints", LISTENERS_MAX);
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(detail, ERR_TEMP, "socket");
    (void)unlink(path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0 ||
        !watch(local, fd, EPOLLIN, LISTENER_EVENT | local->listener_count)) {
        enum err err = err_errno(detail, ERR_PERM, "cannot listen");
        close(fd);
        return err;
    }
    local->listeners[local->listener_count++] = fd;
    return ERR_OK;
}

static bool is_allowed(void *context, const char *public_key)
{
    char address[64];
    struct connection *connection = context;
    struct local *local = connection->local;
    if (local->conf.is_allowed(local->conf.context, public_key))
        return true;
    snprintf(address, sizeof address, "process %d of user %u", (int)connection->peer.pid,
             (unsigned)connection->peer.uid);
    denials_log(&local->denials, local->conf.domain, address, public_key);
    return false;
}

// Sees to it that there is a free slot. False: there is no room.
static bool make_room(struct local *local)
{
    if (local->free_slot != NONE)
        return true;
    if (local->slot_count == local->slot_max)
        return false;
    if ((local->slot_count & (local->slot_count - 1)) == 0) {
        size_t count = local->slot_count ? 2 * (size_t)local->slot_count : 1;
        struct slot *slots = mem_realloc(local->slots, count * sizeof *slots);
        if (!slots)
            return false;
        local->slots = slots;
    }
    local->slots[local->slot_count] = (struct slot){.next_free = NONE};
    local->free_slot = local->slot_count++;
    return true;
}

// Strangers have not all the slots. When so many have not proved who they are, the one of the same
// user goes who has had the most time to do so: one user's crowd is in nobody else's way.
static void make_place(struct local *local, uid_t user)
{
    struct connection *connection = local->entering;
    if (!connection || local->entering_count < local->entering_max)
        return;
    while (connection && connection->peer.uid != user)
        connection = connection->younger;
    end_connection(connection ? connection : local->entering);
}

// There is a free slot. ERR_TEMP: out of memory; the descriptor is
// closed.
static enum err begin_connection(struct local *local, int fd)
{
    struct connection *connection = mem_calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        return ERR_TEMP;
    }
    struct ucred peer = {0};
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t){sizeof peer});
    make_place(local, peer.uid);
    uint32_t index = local->free_slot;
    struct slot *slot = &local->slots[index];
    local->free_slot = slot->next_free;
    slot->generation = slot->generation % GENERATION_MAX + 1;
    slot->connection = connection;
    *connection = (struct connection){
        .local = local, .id = (uint64_t)slot->generation << 32 | index, .fd = fd, .peer = peer};
    stand_entering(connection);
    const struct zmtp_host host = {.secret_key = (const char *)local->server_key.data,
                                   .is_allowed = is_allowed,
                                   .context = connection};
    enum err err = zmtp_serve(&host, local->conf.request_max, &connection->zmtp, NULL);
    if (err == ERR_OK && watch(local, fd, EPOLLIN | EPOLLET, connection->id))
        return ERR_OK;
    end_connection(connection);
    return ERR_TEMP;
}

// Without descriptors or memory there is nothing to do but to let them wait.
static void stop_listening(struct local *local)
{
    log_warning("connect", "domain", local->conf.domain, "err",
                "no room for another connection; the next ones wait");
    for (unsigned i = 0; i < local->listener_count; i++)
        unwatch(local, local->listeners[i]);
    local->full_until = deadline_in(FULL_MS);
}

static void listen_again(struct local *local)
{
    local->full_until = 0;
    for (unsigned i = 0; i < local->listener_count; i++) {
        if (!watch(local, local->listeners[i], EPOLLIN, LISTENER_EVENT | i)) {
            stop_listening(local);
            return;
        }
    }
}

static void accept_some(struct local *local, unsigned listener)
{
    for (int i = 0; i < ACCEPT_BURST && !local->full_until; i++) {
        bool has_room = make_room(local);
        int fd = has_room
                     ? accept4(local->listeners[listener], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)
                     : -1;
        if (has_room && fd < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR))
            return;
        if (fd < 0 || begin_connection(local, fd) != ERR_OK)
            stop_listening(local);
    }
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
    connection->has_input = false; // when it is watched again, we are told
    unwatch(local, connection->fd);
    return watch(local, connection->fd, (is_blocked ? EPOLLOUT : EPOLLIN) | EPOLLET,
                 connection->id);
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

// False: as above.
static bool read_some(struct connection *connection)
{
    uint8_t data[READ_SIZE];
    ssize_t len = recv(connection->fd, data, sizeof data, 0);
    if (len < 0) {
        connection->has_input = errno == EINTR;
        return errno == EAGAIN || errno == EINTR;
    }
    if (!len)
        return false;
    connection->has_input = len == sizeof data || connection->is_hung_up;
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
            end_connection(connection);
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
            end_connection(connection);
        return;
    }
    connection->has_input = true;
    connection->is_hung_up = events & (EPOLLHUP | EPOLLERR);
    if (!connection->list)
        stand_in(connection, connection->is_entering ? &local->knocking : &local->calling);
}

void local_look(struct local *local, const struct epoll_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t id = events[i].data.u64;
        struct connection *connection = id & LISTENER_EVENT ? NULL : find(local, id);
        if (id & LISTENER_EVENT && id != MORE_EVENT)
            accept_some(local, (unsigned)(id & ~LISTENER_EVENT));
        else if (connection)
            take_event(local, connection, events[i].events);
    }
    read_list(local, &local->calling, READ_BURST);
    read_list(local, &local->knocking, HANDSHAKE_BURST);
    if (local->calling.first || local->knocking.first)
        (void)eventfd_write(local->more, 1);
}

bool local_receive(struct local *local, struct arrival *arrival)
{
    struct connection *connection;
    while ((connection = local->ready.first)) {
        bool is_there;
        leave_list(connection);
        buf_reset(&arrival->frame);
        if (zmtp_receive(connection->zmtp, &arrival->frame, &is_there) != ERR_OK) {
            end_connection(connection);
        } else if (is_there) {
            stand_in(connection, &local->ready);
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

void local_send(struct local *local, uint64_t id, struct bytes reply)
{
    struct connection *connection = find(local, id);
    if (!connection || connection->kept > OUTPUT_MAX ||
        (connection->kept && local->kept > OUTPUT_ALL))
        return;
    // Out of memory: the reply is lost as if the peer had gone.
    if (zmtp_send(connection->zmtp, reply) != ERR_OK || !write_some(connection))
        end_connection(connection);
}

deadline_t local_expire(struct local *local)
{
    while (local->entering && deadline_is_past(local->entering->until))
        end_connection(local->entering);
    if (local->full_until && deadline_is_past(local->full_until))
        listen_again(local);
    deadline_t due = local->entering ? local->entering->until : UINT64_MAX;
    return local->full_until && local->full_until < due ? local->full_until : due;
}
