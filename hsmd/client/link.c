// SPDX-License-Identifier: Apache-2.0
// A link connects exactly once. When its connection cannot be made or ends, it is thrown away, and
// the caller decides when and where to try again.
#include "hsmd/client/link.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"
#include "hsmd/wire/wire.h"

#define READ_SIZE 8192
#define HOST_SIZE 256
// A peer that vanished without a word is noticed after some fifteen seconds; the call's deadline
// may come first.
#define KEEPALIVE_S 5
#define KEEPALIVE_PROBES 2

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_un ipc;
        struct sockaddr_storage storage;
    };
    socklen_t len;
};

static enum err ipc_address(const char *path, struct address *address, struct detail *detail)
{
    size_t len = strlen(path);
    if (path[0] != '/' || len >= sizeof address->ipc.sun_path)
        return err_set(detail, ERR_PERM, "ipc://%s: no absolute path of at most %zu bytes", path,
                       sizeof address->ipc.sun_path - 1);
    address->ipc = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->ipc.sun_path, path, len);
    address->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return ERR_OK;
}

static bool is_port(const char *text)
{
    size_t len = strlen(text);
    return len <= 5 && strspn(text, "0123456789") == len && strtoul(text, NULL, 10) > 0 &&
           strtoul(text, NULL, 10) <= UINT16_MAX; // getaddrinfo would take the rest of a division
}

// An IPv6 address stands in brackets. Names are looked up as IPv4: localhost is 127.0.0.1 to many.
// A name that is not found may be tomorrow: that is no address, as len says, but no failure.
static enum err tcp_address(const char *text, struct address *address, struct detail *detail)
{
    char host[HOST_SIZE];
    struct addrinfo *found = NULL;
    const char *colon = strrchr(text, ':');
    bool is_six = text[0] == '[' && colon && colon > text && colon[-1] == ']';
    size_t len = colon ? (size_t)(colon - text) - (is_six ? 2 : 0) : 0;
    struct addrinfo hints = {.ai_family = is_six ? AF_INET6 : AF_INET,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (is_six ? AI_NUMERICHOST : 0)};
    if (!len || len >= sizeof host || !is_port(colon + 1) ||
        (!is_six && strcspn(text, "[:]") < len))
        return err_set(detail, ERR_PERM, "tcp://%s: no HOST:PORT", text);
    memcpy(host, text + is_six, len);
    host[len] = 0;
    int error = getaddrinfo(host, colon + 1, &hints, &found);
    if (error && is_six)
        return err_set(detail, ERR_PERM, "tcp://%s: no IPv6 address", text);
    if (error == EAI_MEMORY || error == EAI_SYSTEM)
        return err_set(detail, ERR_TEMP, "tcp://%s: %s", text, gai_strerror(error));
    if (error)
        return ERR_OK;
    memcpy(&address->storage, found->ai_addr, found->ai_addrlen);
    address->len = found->ai_addrlen;
    freeaddrinfo(found);
    return ERR_OK;
}

static enum err parse(const char *endpoint, struct address *address, struct detail *detail)
{
    if (strncmp(endpoint, "ipc://", 6) == 0)
        return ipc_address(endpoint + 6, address, detail);
    if (strncmp(endpoint, "tcp://", 6) == 0)
        return tcp_address(endpoint + 6, address, detail);
    return err_set(detail, ERR_PERM, "%s: no endpoint", endpoint);
}

static void set_tcp_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

// A full backlog of hsmd's counts as nobody listening: the caller tries again.
static enum err begin(struct link *link, const char *endpoint, struct detail *detail)
{
    struct address address = {0};
    enum err err = parse(endpoint, &address, detail);
    if (err != ERR_OK)
        return err;
    if (!address.len) {
        link->state = LINK_UNREACHABLE;
        return ERR_OK;
    }
    link->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0)
        return err_errno(detail, ERR_TEMP, "cannot make a socket");
    if (address.any.sa_family != AF_UNIX)
        set_tcp_options(link->fd);
    if (connect(link->fd, &address.any, address.len) == 0)
        link->state = LINK_CONNECTED;
    else if (errno != EINPROGRESS)
        link->state = LINK_UNREACHABLE;
    return ERR_OK;
}

enum err link_open(const struct link_conf *conf, struct link **link, struct detail *detail)
{
    struct link *opened = mem_calloc(1, sizeof *opened);
    if (!opened)
        return err_set(detail, ERR_TEMP, "out of memory");
    opened->fd = -1;
    enum err err = zmtp_new(&conf->keys, conf->frame_max ? conf->frame_max : WIRE_FRAME_MAX,
                            &opened->zmtp, detail);
    if (err == ERR_OK)
        err = begin(opened, conf->endpoint, detail);
    if (err == ERR_OK)
        *link = opened;
    else
        link_abandon(opened);
    return err;
}

void link_close(struct link *link)
{
    // A forked child may have the descriptor too, and must not keep the connection open.
    if (link && link->fd >= 0)
        shutdown(link->fd, SHUT_RDWR);
    link_abandon(link);
}

void link_abandon(struct link *link)
{
    if (!link)
        return;
    if (link->fd >= 0)
        close(link->fd);
    zmtp_free(link->zmtp);
    mem_free(link);
}

static bool is_final(enum link_state state)
{
    return state >= LINK_UNREACHABLE;
}

// hsmd ends a connection without a word when our first command is not for its key. One that has
// shown its key is trusted, and ended for another reason.
static void end(struct link *link)
{
    bool is_known = zmtp_state(link->zmtp) == ZMTP_INITIATE || zmtp_state(link->zmtp) == ZMTP_READY;
    link->state = is_known ? LINK_LOST : LINK_UNTRUSTED;
}

// What the handshake says of the connection.
static void look(struct link *link)
{
    static const enum link_state states[] = {
        [ZMTP_GREETING] = LINK_CONNECTED,  [ZMTP_WELCOME] = LINK_CONNECTED,
        [ZMTP_INITIATE] = LINK_CONNECTED,  [ZMTP_READY] = LINK_READY,
        [ZMTP_UNTRUSTED] = LINK_UNTRUSTED, [ZMTP_REFUSED] = LINK_REFUSED,
        [ZMTP_ENDED] = LINK_LOST,          [ZMTP_MALFORMED] = LINK_MALFORMED,
    };
    link->state = states[zmtp_state(link->zmtp)];
}

// A connection that the other side has closed takes nothing, but may still have something to read
// that says why; the end is seen there.
static void write_some(struct link *link)
{
    struct bytes bytes = zmtp_output(link->zmtp);
    while (bytes.len) {
        ssize_t len = send(link->fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0 && errno != EAGAIN)
            len = (ssize_t)bytes.len;
        if (len < 0)
            return;
        zmtp_written(link->zmtp, (size_t)len);
        bytes = zmtp_output(link->zmtp);
    }
}

static void read_some(struct link *link)
{
    uint8_t data[READ_SIZE];
    ssize_t len = recv(link->fd, data, sizeof data, 0);
    if (len == 0 || (len < 0 && errno != EAGAIN && errno != EINTR)) {
        end(link);
    } else if (len > 0) {
        enum err err = zmtp_feed(link->zmtp, bytes_of(data, (size_t)len));
        look(link);
        if (err == ERR_TEMP)
            link->state = LINK_LOST;
        else if (err == ERR_OK)
            write_some(link); // the handshake's next step, and what waited for its end
    }
}

static void finish_connecting(struct link *link)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error)
        link->state = LINK_UNREACHABLE;
    else
        link->state = LINK_CONNECTED;
}

// Waits until something can be done, and does it.
static void wait_for(struct link *link, int patience_ms)
{
    bool is_connecting = link->state == LINK_CONNECTING;
    bool has_output = is_connecting || zmtp_output(link->zmtp).len;
    struct pollfd poll_fd = {.fd = link->fd, .events = has_output ? POLLIN | POLLOUT : POLLIN};
    if (poll(&poll_fd, 1, patience_ms) <= 0) // a signal ends it early, which is no harm
        return;
    if (is_connecting)
        finish_connecting(link);
    if (!is_final(link->state) && poll_fd.revents & POLLOUT)
        write_some(link);
    if (!is_final(link->state) && poll_fd.revents & ~POLLOUT)
        read_some(link);
}

bool link_is_alive(struct link *link)
{
    if (link->state == LINK_CONNECTING)
        wait_for(link, 0);
    else if (!is_final(link->state))
        read_some(link);
    return !is_final(link->state);
}

enum err link_send(struct link *link, struct bytes frame)
{
    if (is_final(link->state) || zmtp_send(link->zmtp, frame) != ERR_OK)
        return ERR_TEMP;
    if (link->state != LINK_CONNECTING)
        write_some(link);
    return ERR_OK;
}

enum err link_receive(struct link *link, deadline_t deadline, struct buf *out)
{
    bool is_there = false;
    buf_reset(out);
    for (;;) {
        enum err err = zmtp_receive(link->zmtp, out, &is_there);
        if (is_there)
            return ERR_OK;
        if (err != ERR_OK)
            link->state = zmtp_state(link->zmtp) == ZMTP_MALFORMED ? LINK_MALFORMED : LINK_LOST;
        int left = deadline_left(deadline);
        if (is_final(link->state) || !left)
            return ERR_TEMP;
        wait_for(link, left);
    }
}
