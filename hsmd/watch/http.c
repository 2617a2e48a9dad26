// SPDX-License-Identifier: Apache-2.0
// libmicrohttpd's own time limit is one of idleness, which a client that sends a byte now and then
// never meets. So its sockets are watched from a loop of ours, which also shuts down connections
// that have lasted too long.
#include "hsmd/watch/http.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>

#include "hsmd/base/alloc.h"
#include "hsmd/base/clock.h"
#include "hsmd/base/log.h"
#include "hsmd/base/thread.h"

#define IDLE_SECONDS 5u
#define SWEEP_MS 500
#define FD_NONE (-1)

struct connection {
    int fd; // FD_NONE: free
    deadline_t until;
};

struct http {
    struct http_conf conf;
    struct MHD_Daemon *daemon;
    int stop; // eventfd
    pthread_t thread;
    bool has_thread;
    struct connection connections[HTTP_CONNECTIONS_MAX]; // the thread's
};

static bool parse_port(const char *text, in_port_t *port)
{
    char *end = NULL;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || value == 0 || value > 65535)
        return false;
    *port = htons((in_port_t)value);
    return true;
}

enum err http_parse_address(const char *text, struct http_address *address)
{
    char host[INET6_ADDRSTRLEN + 2] = "";
    const char *colon = strrchr(text, ':');
    struct http_address found = {0};
    struct sockaddr_in *ipv4 = (struct sockaddr_in *)&found.storage;
    struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)&found.storage;
    in_port_t port = 0;
    if (!colon || (size_t)(colon - text) >= sizeof host || !parse_port(colon + 1, &port))
        return ERR_PERM;
    size_t len = (size_t)(colon - text);
    memcpy(host, text, len);
    if (host[0] == '[' && len > 2 && host[len - 1] == ']') {
        host[len - 1] = 0;
        ipv6->sin6_family = AF_INET6;
        ipv6->sin6_port = port;
        found.len = sizeof *ipv6;
        if (inet_pton(AF_INET6, host + 1, &ipv6->sin6_addr) != 1)
            return ERR_PERM;
        found.is_loopback = IN6_IS_ADDR_LOOPBACK(&ipv6->sin6_addr);
    } else {
        ipv4->sin_family = AF_INET;
        ipv4->sin_port = port;
        found.len = sizeof *ipv4;
        if (inet_pton(AF_INET, host, &ipv4->sin_addr) != 1)
            return ERR_PERM;
        found.is_loopback = (ntohl(ipv4->sin_addr.s_addr) >> 24) == 127;
    }
    *address = found;
    return ERR_OK;
}

// Nothing we serve has an escape in its path, and a path with %00 in it shall not look shorter.
static size_t keep_escapes(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

// Clears out. Whatever goes wrong here ends the connection.
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              struct buf *out)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(out->len, out->data, MHD_RESPMEM_MUST_COPY);
    buf_clear(out);
    if (!response)
        return MHD_NO;
    enum MHD_Result result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (result == MHD_YES)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (result == MHD_YES)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (result == MHD_YES && status == MHD_HTTP_METHOD_NOT_ALLOWED)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, MHD_HTTP_METHOD_GET);
    if (result == MHD_YES)
        result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status,
                                   const char *text)
{
    struct buf out;
    buf_init(&out, HTTP_BODY_MAX);
    if (buf_printf(&out, "%s\n", text) != ERR_OK)
        buf_reset(&out);
    return answer(connection, status, "text/plain; charset=utf-8", &out);
}

static bool wants_json(struct MHD_Connection *connection)
{
    const char *accept =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
    return (accept && strstr(accept, "application/json")) ||
           MHD_lookup_connection_value_n(connection, MHD_GET_ARGUMENT_KIND, "json", 4, NULL,
                                         NULL) == MHD_YES;
}

static enum MHD_Result answer_health(struct http *http, struct MHD_Connection *connection)
{
    struct buf out;
    bool is_json = wants_json(connection);
    bool is_well = false;
    buf_init(&out, HTTP_BODY_MAX);
    if (http->conf.put_health(http->conf.context, is_json, &out, &is_well) != ERR_OK) {
        buf_clear(&out);
        return answer_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "cannot be told");
    }
    return answer(connection, is_well ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                  is_json ? "application/json" : "text/plain; charset=utf-8", &out);
}

static enum MHD_Result answer_metrics(struct http *http, struct MHD_Connection *connection)
{
    struct buf out;
    buf_init(&out, HTTP_BODY_MAX);
    if (http->conf.put_metrics(http->conf.context, &out) != ERR_OK) {
        buf_clear(&out);
        return answer_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "cannot be told");
    }
    return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &out);
}

// Before the body, if there is one, is read: it never is.
static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    struct http *http = context;
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)state;
    bool is_metrics = strcmp(url, "/metrics") == 0;
    if (!is_metrics && strcmp(url, "/healthz") != 0)
        return answer_text(connection, MHD_HTTP_NOT_FOUND, "there are /metrics and /healthz");
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET alone");
    return is_metrics ? answer_metrics(http, connection) : answer_health(http, connection);
}

static struct connection *find_connection(struct http *http, int fd)
{
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        if (http->connections[i].fd == fd)
            return &http->connections[i];
    }
    return NULL;
}

static void notify(void *context, struct MHD_Connection *mhd, void **state,
                   enum MHD_ConnectionNotificationCode code)
{
    struct http *http = context;
    (void)state;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info)
        return;
    bool is_new = code == MHD_CONNECTION_NOTIFY_STARTED;
    struct connection *connection = find_connection(http, is_new ? FD_NONE : info->connect_fd);
    if (!connection)
        return;
    connection->fd = is_new ? info->connect_fd : FD_NONE;
    connection->until = deadline_in(HTTP_CONNECTION_MS);
}

static void end_lasting(struct http *http)
{
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        const struct connection *connection = &http->connections[i];
        if (connection->fd != FD_NONE && deadline_is_past(connection->until))
            shutdown(connection->fd, SHUT_RDWR); // libmicrohttpd sees its end, and closes it
    }
}

static void *serve(void *argument)
{
    struct http *http = argument;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct pollfd fds[] = {{.fd = info->epoll_fd, .events = POLLIN},
                           {.fd = http->stop, .events = POLLIN}};
    for (;;) {
        MHD_UNSIGNED_LONG_LONG wait = SWEEP_MS;
        if (MHD_get_timeout(http->daemon, &wait) != MHD_YES || wait > SWEEP_MS)
            wait = SWEEP_MS;
        if (poll(fds, 2, (int)wait) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            break;
        if (MHD_run(http->daemon) != MHD_YES)
            break;
        end_lasting(http);
    }
    if (!fds[1].revents)
        log_error("metrics", "err", "the web server for monitoring has ended");
    return NULL;
}

static enum err start(struct http *http, struct detail *detail)
{
    http->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (http->stop < 0)
        return err_errno(detail, ERR_TEMP, "eventfd");
    errno = 0;
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | (http->conf.address.storage.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0), 0,
        NULL, NULL, handle, http, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&http->conf.address,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_REQUEST_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        IDLE_SECONDS, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes,
        NULL, MHD_OPTION_NOTIFY_CONNECTION, notify, http, MHD_OPTION_END);
    if (!http->daemon)
        return errno ? err_errno(detail, ERR_PERM, "cannot listen")
                     : err_set(detail, ERR_PERM, "cannot listen");
    http->has_thread = thread_start(&http->thread, serve, http);
    return http->has_thread ? ERR_OK : err_set(detail, ERR_TEMP, "cannot start a thread");
}

enum err http_open(const struct http_conf *conf, struct http **out, struct detail *detail)
{
    struct http *http = mem_calloc(1, sizeof *http);
    if (!http)
        return err_set(detail, ERR_TEMP, "out of memory");
    http->conf = *conf;
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
        http->connections[i].fd = FD_NONE;
    enum err err = start(http, detail);
    if (err != ERR_OK) {
        http_close(http);
        return err;
    }
    *out = http;
    return ERR_OK;
}

void http_close(struct http *http)
{
    uint64_t one = 1;
    if (!http)
        return;
    while (http->has_thread && write(http->stop, &one, sizeof one) < 0 && errno == EINTR)
        ;
    if (http->has_thread)
        pthread_join(http->thread, NULL);
    if (http->daemon)
        MHD_stop_daemon(http->daemon);
    if (http->stop >= 0)
        close(http->stop);
    mem_free(http);
}
