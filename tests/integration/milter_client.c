// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/milter_client.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <libmilter/mfdef.h>

#include "hsmd/base/alloc.h"
#include "tests/support/require.h"

#define PACKET_MAX (1 << 17)
#define BODY_CHUNK 65535
#define ACTIONS 0x1ffU

static void put_packet(struct milter_client *client, char command, const void *data, size_t len)
{
    uint8_t head[5];
    uint32_t size = htonl((uint32_t)len + 1);
    memcpy(head, &size, 4);
    head[4] = (uint8_t)command;
    REQUIRE(write(client->fd, head, 5) == 5);
    for (size_t done = 0; done < len;) {
        ssize_t n = write(client->fd, (const char *)data + done, len - done);
        REQUIRE(n > 0);
        done += (size_t)n;
    }
}

static bool get_bytes(struct milter_client *client, void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(client->fd, (char *)data + done, len - done);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

// The answer's letter; 0 if the milter has gone. The content is followed by a 0.
static char get_packet(struct milter_client *client, struct buf *content)
{
    uint32_t size;
    uint8_t *place;
    char command;
    buf_reset(content);
    if (!get_bytes(client, &size, 4))
        return 0;
    size = ntohl(size);
    REQUIRE(size >= 1 && size < PACKET_MAX);
    REQUIRE(get_bytes(client, &command, 1));
    REQUIRE(buf_reserve(content, size - 1, &place) == ERR_OK);
    REQUIRE(get_bytes(client, place, size - 1));
    return command;
}

static void put_text(struct buf *buf, const char *text)
{
    REQUIRE(buf_put(buf, text, strlen(text) + 1) == ERR_OK);
}

void milter_client_open(struct milter_client *client, const char *path, uint32_t steps)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct buf answer;
    uint32_t options[3] = {htonl(6), htonl(ACTIONS), htonl(steps)};
    *client = (struct milter_client){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    REQUIRE(connect(client->fd, (struct sockaddr *)&address, sizeof address) == 0);
    put_packet(client, SMFIC_OPTNEG, options, sizeof options);
    buf_init(&answer, PACKET_MAX);
    char command = get_packet(client, &answer);
    client->is_refused = command != SMFIC_OPTNEG;
    if (!client->is_refused) {
        REQUIRE(answer.len == sizeof options);
        memcpy(options, answer.data, sizeof options);
        client->steps = ntohl(options[2]);
        REQUIRE((client->steps & ~steps) == 0 && (ntohl(options[1]) & ~ACTIONS) == 0);
    }
    buf_clear(&answer);
}

static char command(struct milter_client *client, char code, const struct buf *data, char *reply)
{
    struct buf answer;
    buf_init(&answer, PACKET_MAX);
    put_packet(client, code, data->data, data->len);
    char result = get_packet(client, &answer);
    if (reply)
        snprintf(reply, 600, "%.599s", buf_text(&answer));
    buf_clear(&answer);
    return result;
}

static void put_macro(struct milter_client *client, char step, const char *name, const char *value)
{
    struct buf data;
    buf_init(&data, 1000);
    REQUIRE(buf_put(&data, &step, 1) == ERR_OK);
    if (value) {
        put_text(&data, name);
        put_text(&data, value);
    }
    put_packet(client, SMFIC_MACRO, data.data, data.len);
    buf_clear(&data);
}

void milter_client_connect(struct milter_client *client, const char *address, const char *daemon)
{
    struct buf data;
    buf_init(&data, 1000);
    put_macro(client, SMFIC_CONNECT, "{daemon_name}", daemon);
    put_text(&data, "client.example");
    REQUIRE(buf_put(&data, "4\x30\x39", 3) == ERR_OK);
    put_text(&data, address);
    REQUIRE(command(client, SMFIC_CONNECT, &data, NULL) == SMFIR_CONTINUE);
    buf_clear(&data);
}

static bool is_step_wanted(const struct milter_client *client, uint32_t no_step)
{
    return !(client->steps & no_step);
}

// False: the milter has answered for good.
static bool step(struct milter_client *client, struct milter_message *m, char code,
                 const struct buf *data)
{
    m->verdict = command(client, code, data, m->reply);
    return m->verdict == SMFIR_CONTINUE;
}

static bool send_envelope(struct milter_client *client, struct milter_message *m)
{
    struct buf data;
    buf_init(&data, 2000);
    put_macro(client, SMFIC_MAIL, "{auth_authen}", m->login);
    put_text(&data, m->sender);
    bool goes_on = step(client, m, SMFIC_MAIL, &data);
    for (size_t i = 0; goes_on && m->recipients[i]; i++) {
        buf_reset(&data);
        put_text(&data, m->recipients[i]);
        goes_on = step(client, m, SMFIC_RCPT, &data);
    }
    buf_clear(&data);
    return goes_on;
}

static bool send_header(struct milter_client *client, struct milter_message *m)
{
    struct buf data;
    bool goes_on = true;
    buf_init(&data, PACKET_MAX);
    for (size_t i = 0; goes_on && i < m->message->header_count; i++) {
        buf_reset(&data);
        put_text(&data, m->message->headers[i].name);
        put_text(&data, m->message->headers[i].value);
        goes_on = step(client, m, SMFIC_HEADER, &data);
    }
    buf_reset(&data);
    if (goes_on && is_step_wanted(client, SMFIP_NOEOH))
        goes_on = step(client, m, SMFIC_EOH, &data);
    buf_clear(&data);
    return goes_on;
}

static bool send_body(struct milter_client *client, struct milter_message *m)
{
    struct bytes body;
    struct buf data;
    bool goes_on = true;
    buf_init(&data, BODY_CHUNK);
    REQUIRE(spool_view(m->message->body, &body, NULL) == ERR_OK);
    while (goes_on && body.len > 0) {
        size_t n = body.len < BODY_CHUNK ? body.len : BODY_CHUNK;
        buf_reset(&data);
        REQUIRE(buf_put(&data, body.data, n) == ERR_OK);
        goes_on = step(client, m, SMFIC_BODY, &data);
        body.data += n;
        body.len -= n;
    }
    buf_clear(&data);
    return goes_on;
}

// ---- what the milter asks for ----

static void change_header(struct message *message, uint32_t index, const char *name,
                          const char *value)
{
    for (size_t i = 0; i < message->header_count; i++) {
        if (strcasecmp(message->headers[i].name, name) != 0 || --index > 0)
            continue;
        if (!*value) {
            message_remove_header_at(message, i);
            return;
        }
        mem_free(message->headers[i].value);
        message->headers[i].value = mem_strdup(value);
        return;
    }
    REQUIRE(*value && message_add_header(message, name, value, NULL) == ERR_OK);
}

// Above field number index, from 0.
static void insert_header(struct message *message, uint32_t index, const char *name,
                          const char *value)
{
    REQUIRE(message_add_header(message, name, value, NULL) == ERR_OK);
    size_t last = message->header_count - 1;
    struct header added = message->headers[last];
    if (index > last)
        index = (uint32_t)last;
    memmove(&message->headers[index + 1], &message->headers[index],
            (last - index) * sizeof *message->headers);
    message->headers[index] = added;
}

static void take_recipient_off(struct milter_message *m, const char *recipient)
{
    for (size_t i = 0; m->recipients[i]; i++) {
        if (strcmp(m->recipients[i], recipient) == 0) {
            m->recipients[i] = "";
            return;
        }
    }
    REQUIRE(!"the recipient is one of the message's");
}

static uint32_t get_number(const struct buf *content)
{
    uint32_t number;
    memcpy(&number, content->data, 4);
    return ntohl(number);
}

static void put_body(struct milter_message *m, bool *has_new_body, const struct buf *content)
{
    if (!*has_new_body) {
        struct spool *fresh = spool_new(spool_conf(m->message->body));
        spool_free(m->message->body);
        m->message->body = fresh;
        *has_new_body = true;
    }
    REQUIRE(spool_put(m->message->body, buf_bytes(content), NULL) == ERR_OK);
}

static void take_edits(struct milter_client *client, struct milter_message *m)
{
    struct buf content;
    bool has_new_body = false;
    buf_init(&content, PACKET_MAX);
    for (m->edits = 0;; m->edits++) {
        char code = get_packet(client, &content);
        const char *text = buf_text(&content);
        if (code == SMFIR_PROGRESS) {
            m->edits--;
        } else if (code == SMFIR_ADDHEADER) {
            REQUIRE(message_add_header(m->message, text, text + strlen(text) + 1, NULL) == ERR_OK);
        } else if (code == SMFIR_CHGHEADER) {
            change_header(m->message, get_number(&content), text + 4, text + 5 + strlen(text + 4));
        } else if (code == SMFIR_INSHEADER) {
            insert_header(m->message, get_number(&content), text + 4, text + 5 + strlen(text + 4));
        } else if (code == SMFIR_DELRCPT) {
            take_recipient_off(m, text);
        } else if (code == SMFIR_REPLBODY) {
            put_body(m, &has_new_body, &content);
        } else {
            m->verdict = code;
            snprintf(m->reply, sizeof m->reply, "%.599s", text);
            break;
        }
    }
    buf_clear(&content);
}

void milter_client_send(struct milter_client *client, struct milter_message *m)
{
    m->reply[0] = 0;
    m->edits = 0;
    if (!send_envelope(client, m) || !send_header(client, m) || !send_body(client, m)) {
        put_packet(client, SMFIC_ABORT, NULL, 0);
        return;
    }
    put_macro(client, SMFIC_BODYEOB, "i", "4TESTQUEUEID");
    put_packet(client, SMFIC_BODYEOB, NULL, 0);
    take_edits(client, m);
}

void milter_client_abort(struct milter_client *client, struct milter_message *m)
{
    REQUIRE(send_envelope(client, m) && send_header(client, m));
    put_packet(client, SMFIC_ABORT, NULL, 0);
}

void milter_client_close(struct milter_client *client)
{
    if (!client->is_refused)
        put_packet(client, SMFIC_QUIT, NULL, 0);
    close(client->fd);
}
