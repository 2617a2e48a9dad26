// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/log.h"
#include "hsmd/server/local_internal.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 // of asm-generic/socket.h since Linux 6.16
#endif

#define BACKLOG 1024      // connections waiting to be accepted
#define ACCEPT_BURST 8    // of a listener at once
#define HANDSHAKE_MS 5000 // for a peer to prove who it is
#define FULL_MS 1000      // before we listen again when there was no room
#define QUIET_MS 60000    // between two lines about that
#define GENERATION_MAX INT32_MAX
#define ADDRESS_SIZE 64

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
    // Descriptors that a peer sends along are closed by whoever reads from it, and the last close
    // of one can take as long as the peer likes. An older kernel has no way not to be sent any.
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){0}, sizeof(int));
    (void)unlink(path);
    bool is_bound = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (!is_bound || listen(fd, BACKLOG) != 0 ||
        !local_watch(local, EPOLL_CTL_ADD, fd, EPOLLIN, LISTENER_EVENT | local->listener_count)) {
        enum err err = err_errno(detail, ERR_PERM, "cannot listen");
        if (is_bound)
            (void)unlink(path);
        close(fd);
        return err;
    }
    local->listeners[local->listener_count++] = fd;
    return ERR_OK;
}

static void name_peer(const struct connection *connection, char address[ADDRESS_SIZE])
{
    snprintf(address, ADDRESS_SIZE, "process %d of user %u", (int)connection->peer.pid,
             (unsigned)connection->peer.uid);
}

static bool is_allowed(void *context, const char *public_key)
{
    char address[ADDRESS_SIZE];
    struct connection *connection = context;
    struct local *local = connection->local;
    if (local->conf.is_allowed(local->conf.context, public_key))
        return true;
    name_peer(connection, address);
    denials_log(&local->denials, local->conf.domain, address, public_key);
    return false;
}

void local_log_failure(const struct connection *connection, bool is_late)
{
    static const char *const reasons[] = {
        [ZMTP_GREETING] = "handshake failed: not ZMTP 3 with CURVE",
        [ZMTP_HELLO] = "handshake failed: wrong server key",
        [ZMTP_INITIATE] =
            "handshake failed: no proof of its key, a routing id, or another type of socket",
        [ZMTP_READY] = "cut off: it sent what is no message, or too long a one",
    };
    char address[ADDRESS_SIZE];
    struct local *local = connection->local;
    enum zmtp_state state = zmtp_state(connection->zmtp);
    if (!is_late && state != ZMTP_UNTRUSTED && state != ZMTP_MALFORMED)
        return;
    name_peer(connection, address);
    denials_log_failure(&local->failures, local->conf.domain, address, connection->peer.uid,
                        is_late ? "handshake failed: timed out"
                                : reasons[zmtp_reached(connection->zmtp)]);
}

// Sees to it that there is a free slot. False: there is no room.
static bool make_room(struct local *local)
{
    if (local->free_slot != NO_SLOT)
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
    local->slots[local->slot_count] = (struct slot){.next_free = NO_SLOT};
    local->free_slot = local->slot_count++;
    return true;
}

// Of those whose handshake is not over, the oldest of the user who has the most of them, so that
// one user's crowd is in nobody else's way; if several have as many, the oldest. newcomer: one more
// user to count, or NULL. NULL: there are none.
static struct connection *find_crowding(const struct local *local, const uid_t *newcomer)
{
    struct {
        uid_t user;
        uint32_t count;
        struct connection *oldest;
    } users[ENTERING_MAX];
    uint32_t count = 0;
    uint32_t most = 0;
    for (struct connection *at = local->entering; at; at = at->younger) {
        uint32_t i = 0;
        while (i < count && users[i].user != at->peer.uid)
            i++;
        if (i == count) {
            users[count].user = at->peer.uid;
            users[count].count = newcomer && *newcomer == at->peer.uid;
            users[count++].oldest = at;
        }
        users[i].count++;
    }
    for (uint32_t i = 1; i < count; i++)
        most = users[i].count > users[most].count ? i : most;
    return count ? users[most].oldest : NULL;
}

static bool end_crowding(struct local *local, const uid_t *newcomer)
{
    struct connection *connection = find_crowding(local, newcomer);
    if (connection)
        local_end(connection);
    return connection;
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

// There is a free slot, or there are some whose handshake is not over: strangers have not all the
// slots. ERR_TEMP: out of memory; the descriptor is closed.
static enum err begin_connection(struct local *local, int fd)
{
    struct connection *connection = mem_calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        return ERR_TEMP;
    }
    struct ucred peer = {0};
    (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t){sizeof peer});
    if (local->entering_count >= local->entering_max || local->free_slot == NO_SLOT)
        (void)end_crowding(local, &peer.uid);
    uint32_t index = local->free_slot;
    struct slot *slot = &local->slots[index];
    local->free_slot = slot->next_free;
    slot->generation = slot->generation % GENERATION_MAX + 1;
    slot->connection = connection;
    *connection = (struct connection){
        .local = local, .id = (uint64_t)slot->generation << 32 | index, .fd = fd, .peer = peer};
    stand_entering(connection);
    const struct zmtp_host host = {.secret_key = (const char *)local->server_key.data,
                                   .public_key = local->public_key,
                                   .is_allowed = is_allowed,
                                   .context = connection};
    enum err err = zmtp_serve(&host, local->conf.request_max, &connection->zmtp, NULL);
    if (err == ERR_OK && local_watch(local, EPOLL_CTL_ADD, fd, READ_EVENTS, connection->id))
        return ERR_OK;
    local_end(connection);
    return ERR_TEMP;
}

// Without descriptors or memory there is nothing to do but to let them wait.
static void stop_listening(struct local *local)
{
    if (deadline_is_past(local->quiet_until)) {
        log_warning("connect", "domain", local->conf.domain, "err",
                    "no room for another connection; the next ones wait");
        local->quiet_until = deadline_in(QUIET_MS);
    }
    for (unsigned i = 0; i < local->listener_count; i++)
        (void)local_watch(local, EPOLL_CTL_DEL, local->listeners[i], 0, 0);
    local->full_until = deadline_in(FULL_MS);
}

void local_listen_again(struct local *local)
{
    local->full_until = 0;
    for (unsigned i = 0; i < local->listener_count; i++) {
        if (!local_watch(local, EPOLL_CTL_ADD, local->listeners[i], EPOLLIN, LISTENER_EVENT | i)) {
            stop_listening(local);
            return;
        }
    }
}

static bool is_awaited(int listener)
{
    struct pollfd poll_fd = {.fd = listener, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

// Somebody waits. Whose handshake is not over gives up its descriptor if there is no other.
static int accept_next(struct local *local, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE) && end_crowding(local, NULL))
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return fd;
}

void local_accept(struct local *local, unsigned listener)
{
    int from = local->listeners[listener];
    for (int i = 0; i < ACCEPT_BURST && !local->full_until && is_awaited(from); i++) {
        bool has_room = make_room(local) || local->entering;
        int fd = has_room ? accept_next(local, from) : -1;
        if (has_room && fd < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR))
            return;
        if (fd < 0 || begin_connection(local, fd) != ERR_OK)
            stop_listening(local);
    }
}
