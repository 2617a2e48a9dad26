// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/local.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/server/denials.h"
#include "hsmd/zmtp/zmtp.h"

#define BACKLOG 1024         // connections waiting to be accepted
#define ACCEPT_BURST 16      // at once; a handshake costs a third of a millisecond
#define HANDSHAKE_MS 5000    // for a peer to prove who it is
#define FULL_MS 1000         // before we listen again when there was no room
#define SPARE_FILES 64       // for the rest of hsmd
#define READ_SIZE 16384      // of one connection at a time
#define OUTPUT_MAX (1 << 20) // replies to one peer that wait, in bytes; more are dropped
#define LISTENERS_MAX 16
#define LISTENER_EVENT (UINT64_C(1) << 63)
#define GENERATION_MAX INT32_MAX
#define NONE UINT32_MAX

// Its id, the route of its messages and its event, is the slot with the generation above it: one
// that has ended is found no more.
struct connection {
    struct local *local;
    uint64_t id;
    int fd;
    struct zmtp *zmtp;
    bool is_blocked;                    // replies wait until it reads; it is not read meanwhile
    bool has_more;                      // to read, of which no event tells
    bool is_ready;                      // stands among those that may have messages
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
    struct connection *ready, *ready_last;
    struct connection *entering, *entering_last; // the oldest first
};

// The kernel asks in the order of the instances.
static bool watch(const struct local *local, int fd, uint64_t id, uint32_t how)
{
    for (unsigned i = 0; i < local->conf.epoll_count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE | how, .data.u64 = id};
        if (epoll_ctl(local->conf.epolls[i], EPOLL_CTL_ADD, fd, &event) != 0)
            return false;
    }
    return true;
}

// Edge-triggered: with several threads in one instance the kernel would wake another for the same.
static bool watch_connection(const struct connection *connection)
{
    return watch(connection->local, connection->fd, connection->id, EPOLLET);
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
    (void)getrlimit(RLIMIT_NOFILE, &files);
    rlim_t most = files.rlim_cur < 1 << 20 ? files.rlim_cur : 1 << 20;
    local->slot_max = (uint32_t)(most > 2 * SPARE_FILES ? most - SPARE_FILES : most / 2);
    enum err err = secret_init(&local->server_key, conf->server_key->len + 1, detail);
    if (err == ERR_OK)
        err = secret_set(&local->server_key, conf->server_key->data, conf->server_key->len);
    if (err == ERR_OK)
        *out = local;
    else
        local_close(local);
    return err;
}

static void leave_ready(struct connection *connection)
{
    struct local *local = connection->local;
    if (!connection->is_ready)
        return;
    connection->is_ready = false;
    *(connection->previous ? &connection->previous->next : &local->ready) = connection->next;
    *(connection->next ? &connection->next->previous : &local->ready_last) = connection->previous;
}

static void stand_ready(struct connection *connection)
{
    struct local *local = connection->local;
    if (connection->is_ready)
        return;
    connection->is_ready = true;
    connection->next = NULL;
    connection->previous = local->ready_last;
    *(local->ready_last ? &local->ready_last->next : &local->ready) = connection;
    local->ready_last = connection;
}

static void leave_entering(struct connection *connection)
{
    struct local *local = connection->local;
    if (!connection->is_entering)
        return;
    connection->is_entering = false;
    *(connection->older ? &connection->older->younger : &local->entering) = connection->younger;
    *(connection->younger ? &connection->younger->older : &local->entering_last) =
        connection->older;
}

static void stand_entering(struct connection *connection)
{
    struct local *local = connection->local;
    connection->is_entering = true;
    connection->until = deadline_in(HANDSHAKE_MS);
    connection->older = local->entering_last;
    *(local->entering_last ? &local->entering_last->younger : &local->entering) = connection;
    local->entering_last = connection;
}

static void end_connection(struct connection *connection)
{
    struct local *local = connection->local;
    uint32_t index = (uint32_t)connection->id;
    leave_ready(connection);
    leave_entering(connection);
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
        !watch(local, fd, LISTENER_EVENT | local->listener_count, 0)) {
        enum err err = err_errno(detail, ERR_PERM, "cannot listen");
        close(fd);
        return err;
    }
    local->listeners[local->listener_count++] = fd;
    return ERR_OK;
}

// For people: who is at the other end.
static void describe_peer(int fd, char *text, size_t size)
{
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
        snprintf(text, size, "process %d of user %u", (int)peer.pid, (unsigned)peer.uid);
    else
        snprintf(text, size, "unknown");
}

static bool is_allowed(void *context, const char *public_key)
{
    char address[64];
    struct connection *connection = context;
    struct local *local = connection->local;
    if (local->conf.is_allowed(local->conf.context, public_key))
        return true;
    describe_peer(connection->fd, address, sizeof address);
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

// There is a free slot. ERR_TEMP: out of memory; the descriptor is closed.
static enum err begin_connection(struct local *local, int fd)
{
    struct connection *connection = mem_calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        return ERR_TEMP;
    }
    uint32_t index = local->free_slot;
    struct slot *slot = &local->slots[index];
    local->free_slot = slot->next_free;
    slot->generation = slot->generation % GENERATION_MAX + 1;
    slot->connection = connection;
    *connection = (struct connection){
        .local = local, .id = (uint64_t)slot->generation << 32 | index, .fd = fd};
    stand_entering(connection);
    const struct zmtp_host host = {.secret_key = (const char *)local->server_key.data,
                                   .is_allowed = is_allowed,
                                   .context = connection};
    enum err err = zmtp_serve(&host, local->conf.request_max, &connection->zmtp, NULL);
    if (err == ERR_OK && watch_connection(connection))
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
        if (!watch(local, local->listeners[i], LISTENER_EVENT | i, 0)) {
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
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = connection->id};
    if (connection->is_blocked == is_blocked)
        return true;
    connection->is_blocked = is_blocked;
    unwatch(local, connection->fd);
    return is_blocked ? epoll_ctl(local->conf.epolls[0], EPOLL_CTL_ADD, connection->fd, &event) == 0
                      : watch_connection(connection);
}

// False: the connection is of no use any more.
static bool write_some(struct connection *connection)
{
    struct bytes bytes = zmtp_output(connection->zmtp);
    while (bytes.len) {
        ssize_t len = send(connection->fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0)
            return errno == EAGAIN && set_blocked(connection, true);
        zmtp_written(connection->zmtp, (size_t)len);
        bytes = zmtp_output(connection->zmtp);
    }
    return set_blocked(connection, false);
}

static bool read_some(struct connection *connection)
{
    uint8_t data[READ_SIZE];
    ssize_t len = recv(connection->fd, data, sizeof data, 0);
    if (len < 0)
        return errno == EAGAIN || errno == EINTR;
    if (!len)
        return false;
    connection->has_more = len == sizeof data;
    enum err err = zmtp_feed(connection->zmtp, bytes_of(data, (size_t)len));
    // A step of the handshake, or why it ends.
    if (connection->is_entering && !write_some(connection))
        return false;
    if (err == ERR_OK && zmtp_state(connection->zmtp) == ZMTP_READY) {
        leave_entering(connection);
        stand_ready(connection);
    }
    return err == ERR_OK;
}

static void look_at(struct connection *connection)
{
    bool is_alive = connection->is_blocked ? write_some(connection) : read_some(connection);
    if (!is_alive)
        end_connection(connection);
}

void local_look(struct local *local, const struct epoll_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t id = events[i].data.u64;
        struct connection *connection = id & LISTENER_EVENT ? NULL : find(local, id);
        if (id & LISTENER_EVENT)
            accept_some(local, (unsigned)(id & ~LISTENER_EVENT));
        else if (connection)
            look_at(connection);
    }
}

// False: the connection is of no use any more.
static bool receive(struct connection *connection, struct arrival *arrival, bool *is_there)
{
    buf_reset(&arrival->frame);
    if (zmtp_receive(connection->zmtp, &arrival->frame, is_there) != ERR_OK)
        return false;
    if (!*is_there)
        return !connection->has_more || connection->is_blocked || read_some(connection);
    stand_ready(connection); // behind the others
    arrival->route.connection = connection->id;
    snprintf(arrival->peer, sizeof arrival->peer, "%s", zmtp_peer(connection->zmtp));
    return true;
}

bool local_receive(struct local *local, struct arrival *arrival)
{
    bool is_there = false;
    while (!is_there && local->ready) {
        struct connection *connection = local->ready;
        leave_ready(connection);
        if (!receive(connection, arrival, &is_there))
            end_connection(connection);
    }
    return is_there;
}

void local_send(struct local *local, uint64_t id, struct bytes reply)
{
    struct connection *connection = find(local, id);
    if (!connection || zmtp_output(connection->zmtp).len > OUTPUT_MAX)
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
