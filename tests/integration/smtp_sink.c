// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/smtp_sink.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/require.h"

#define KEPT_MAX (1 << 25)
static void take_data(struct smtp_sink *sink, FILE *in)
{
    char line[4000];
    pthread_mutex_lock(&sink->mutex);
    while (fgets(line, sizeof line, in) && strcmp(line, ".\r\n") != 0) {
        size_t len = strlen(line);
        // A bare LF would be the smuggler's way in.
        REQUIRE(len < 2 || line[len - 1] != '\n' || line[len - 2] == '\r');
        REQUIRE(buf_put_text(&sink->kept.data, *line == '.' ? line + 1 : line) == ERR_OK);
    }
    sink->kept.count++;
    pthread_mutex_unlock(&sink->mutex);
}

static void serve(struct smtp_sink *sink, FILE *in, FILE *out)
{
    char line[4000];
    fprintf(out, "220 sink\r\n");
    while (fflush(out) == 0 && fgets(line, sizeof line, in)) {
        const char *answer = "250 ok";
        if (strncasecmp(line, "EHLO", 4) == 0)
            answer = "250-sink\r\n250 SIZE 99999999";
        if (strncasecmp(line, "QUIT", 4) == 0)
            answer = "221 bye";
        pthread_mutex_lock(&sink->mutex);
        bool refuses = sink->refusal && sink->kept.count >= sink->refuse_after;
        if (strncasecmp(line, "RCPT", 4) == 0 && refuses)
            answer = sink->refusal;
        else if (strncasecmp(line, "RCPT", 4) == 0 || strncasecmp(line, "MAIL", 4) == 0)
            REQUIRE(buf_printf(&sink->kept.envelopes, "%.*s\n", (int)strcspn(line, "\r\n"), line) ==
                    ERR_OK);
        pthread_mutex_unlock(&sink->mutex);
        if (strncasecmp(line, "DATA", 4) == 0) {
            fprintf(out, "354 go on\r\n");
            fflush(out);
            take_data(sink, in);
        }
        fprintf(out, "%s\r\n", answer);
    }
}

static void *run(void *arg)
{
    struct smtp_sink *sink = arg;
    for (int fd; (fd = accept4(sink->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        FILE *in = fdopen(fd, "r");
        FILE *out = fdopen(dup(fd), "w");
        REQUIRE(in && out);
        serve(sink, in, out);
        fclose(in);
        fclose(out);
    }
    return NULL;
}

void smtp_sink_open(struct smtp_sink *sink)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    *sink = (struct smtp_sink){.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    buf_init(&sink->kept.envelopes, KEPT_MAX);
    buf_init(&sink->kept.data, KEPT_MAX);
    buf_init(&sink->seen.envelopes, KEPT_MAX);
    buf_init(&sink->seen.data, KEPT_MAX);
    pthread_mutex_init(&sink->mutex, NULL);
    REQUIRE(bind(sink->listener, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(sink->listener, 8) == 0);
    REQUIRE(getsockname(sink->listener, (struct sockaddr *)&address, &len) == 0);
    sink->port = ntohs(address.sin_port);
    REQUIRE(pthread_create(&sink->thread, NULL, run, sink) == 0);
}

void smtp_sink_reset(struct smtp_sink *sink, unsigned refuse_after, const char *refusal)
{
    pthread_mutex_lock(&sink->mutex);
    buf_reset(&sink->kept.envelopes);
    buf_reset(&sink->kept.data);
    sink->kept.count = 0;
    sink->refuse_after = refuse_after;
    sink->refusal = refusal;
    pthread_mutex_unlock(&sink->mutex);
}

void smtp_sink_look(struct smtp_sink *sink)
{
    buf_reset(&sink->seen.envelopes);
    buf_reset(&sink->seen.data);
    pthread_mutex_lock(&sink->mutex);
    sink->seen.count = sink->kept.count;
    REQUIRE(buf_put_bytes(&sink->seen.envelopes, buf_bytes(&sink->kept.envelopes)) == ERR_OK);
    REQUIRE(buf_put_bytes(&sink->seen.data, buf_bytes(&sink->kept.data)) == ERR_OK);
    pthread_mutex_unlock(&sink->mutex);
}

void smtp_sink_close(struct smtp_sink *sink)
{
    shutdown(sink->listener, SHUT_RDWR);
    pthread_join(sink->thread, NULL);
    close(sink->listener);
    buf_clear(&sink->kept.envelopes);
    buf_clear(&sink->kept.data);
    buf_clear(&sink->seen.envelopes);
    buf_clear(&sink->seen.data);
    pthread_mutex_destroy(&sink->mutex);
}
