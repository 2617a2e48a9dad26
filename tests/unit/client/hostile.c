// SPDX-License-Identifier: Apache-2.0
#include "hostile.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void send_out(struct peer *peer, int fd)
{
    for (size_t at = 0; at < peer->out.len;) {
        ssize_t len = send(fd, peer->out.data + at, peer->out.len - at, MSG_NOSIGNAL);
        if (len <= 0)
            break;
        at += (size_t)len;
    }
    buf_reset(&peer->out);
}

// At least len bytes, in all.
static void read_until(struct peer *peer, int fd, size_t len)
{
    while (peer->in.len < len) {
        uint8_t data[65536];
        ssize_t got = recv(fd, data, sizeof data, 0);
        must(got > 0 && buf_put(&peer->in, data, (size_t)got) == ERR_OK);
    }
}

static void drop(struct peer *peer, size_t len)
{
    peer->in.len -= len;
    memmove(peer->in.data, peer->in.data + len, peer->in.len);
}

// Waits until some byte has come, and reads it not.
static void await(int fd)
{
    uint8_t byte;
    must(recv(fd, &byte, 1, MSG_PEEK) == 1);
}

static void echo(struct peer *peer, int fd)
{
    struct buf content;
    size_t len = 0;
    buf_init(&content, 2 * BIG);
    for (read_until(peer, fd, 2); !(len = zmtp_server_frame_len(buf_bytes(&peer->in)));)
        read_until(peer, fd, peer->in.len + 1);
    must(zmtp_server_take_message(&peer->server, bytes_of(peer->in.data, len), &content));
    drop(peer, len);
    zmtp_server_message(&peer->server, 0, buf_bytes(&content), &peer->out);
    send_out(peer, fd);
    buf_clear(&content);
}

static void act(struct peer *peer, int fd)
{
    uint8_t byte;
    switch (peer->act) {
    case ACT_CLOSE:
        break;
    case ACT_RESET:
        await(fd);
        break;
    case ACT_REFUSE:
    case ACT_FAIL:
        await(fd);
        zmtp_server_error(peer->act == ACT_REFUSE ? "400" : "500", &peer->out);
        send_out(peer, fd);
        break;
    case ACT_GARBAGE:
        must(buf_put_text(&peer->out, "HTTP/1.1 400 Bad Request\r\n\r\n") == ERR_OK);
        send_out(peer, fd);
        must(read(peer->quit[0], &byte, 1) == 0);
        break;
    case ACT_PART:
        zmtp_server_message(&peer->server, 0, BYTES_LITERAL("half of it"), &peer->out);
        peer->out.len /= 2;
        send_out(peer, fd);
        break;
    case ACT_ECHO:
        echo(peer, fd);
        // fall through
    case ACT_WAIT:
        must(read(peer->quit[0], &byte, 1) == 0);
        break;
    case ACT_ECHO_CLOSE:
        echo(peer, fd);
        break;
    }
}

static void shake_hands(struct peer *peer, int fd)
{
    if (peer->stage >= AT_GREETING) {
        zmtp_server_greeting("CURVE", &peer->out);
        send_out(peer, fd);
    }
    if (peer->stage >= AT_HELLO) {
        read_until(peer, fd, ZMTP_GREETING_SIZE + ZMTP_HELLO_SIZE);
        must(zmtp_server_take_hello(&peer->server,
                                    bytes_of(peer->in.data + ZMTP_GREETING_SIZE, ZMTP_HELLO_SIZE)));
        drop(peer, ZMTP_GREETING_SIZE + ZMTP_HELLO_SIZE);
    }
    if (peer->stage >= AT_WELCOME) {
        zmtp_server_welcome(&peer->server, &peer->out);
        send_out(peer, fd);
    }
    if (peer->stage >= AT_INITIATE) {
        read_until(peer, fd, ZMTP_INITIATE_SIZE);
        must(zmtp_server_take_initiate(&peer->server, bytes_of(peer->in.data, ZMTP_INITIATE_SIZE)));
        drop(peer, ZMTP_INITIATE_SIZE);
    }
    if (peer->stage >= AT_READY) {
        zmtp_server_ready(&peer->server, &peer->out);
        send_out(peer, fd);
    }
}

static void *run(void *data)
{
    struct peer *peer = data;
    int fd = accept(peer->listener, NULL, NULL);
    must(fd >= 0);
    shake_hands(peer, fd);
    act(peer, fd);
    close(fd);
    return NULL;
}

// family: AF_UNIX, AF_INET (as localhost), AF_INET6. False: this machine has no such.
static bool listen_at(struct peer *peer, int family)
{
    struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr *any = (struct sockaddr *)&unix_address;
    socklen_t len = sizeof unix_address;
    const char *directory = getenv("TMPDIR");
    snprintf(peer->directory, sizeof peer->directory, "%.30s/sealgate-link-XXXXXX",
             directory ? directory : "/tmp");
    must(mkdtemp(peer->directory) != NULL);
    snprintf(unix_address.sun_path, sizeof unix_address.sun_path, "%s/socket", peer->directory);
    if (family == AF_INET) {
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        any = (struct sockaddr *)&address;
        len = sizeof address;
    } else if (family == AF_INET6) {
        any = (struct sockaddr *)&six;
        len = sizeof six;
    }
    peer->listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (peer->listener < 0 || bind(peer->listener, any, len) != 0)
        return false;
    must(listen(peer->listener, 4) == 0 && getsockname(peer->listener, any, &len) == 0);
    if (family == AF_UNIX)
        snprintf(peer->endpoint, sizeof peer->endpoint, "ipc://%s", unix_address.sun_path);
    else if (family == AF_INET)
        snprintf(peer->endpoint, sizeof peer->endpoint, "tcp://localhost:%u",
                 ntohs(address.sin_port));
    else
        snprintf(peer->endpoint, sizeof peer->endpoint, "tcp://[::1]:%u", ntohs(six.sin6_port));
    return true;
}

bool peer_start(struct peer *peer, enum stage stage, enum act act, int family)
{
    sigset_t all;
    sigset_t before;
    *peer = (struct peer){.stage = stage, .act = act};
    buf_init(&peer->in, 2 * BIG);
    buf_init(&peer->out, 2 * BIG);
    zmtp_server_init(&peer->server, ZMTP_SERVER_SECRET);
    if (!listen_at(peer, family)) {
        rmdir(peer->directory);
        return false;
    }
    must(pipe(peer->quit) == 0);
    sigfillset(&all); // signals are for the link
    pthread_sigmask(SIG_SETMASK, &all, &before);
    must(pthread_create(&peer->thread, NULL, run, peer) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return true;
}

void peer_stop(struct peer *peer)
{
    char path[128];
    close(peer->quit[1]);
    pthread_join(peer->thread, NULL);
    close(peer->quit[0]);
    close(peer->listener);
    snprintf(path, sizeof path, "%s/socket", peer->directory);
    unlink(path);
    rmdir(peer->directory);
    buf_clear(&peer->in);
    buf_clear(&peer->out);
}
