// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/hsmd_web.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <curl/curl.h>
#include <netinet/in.h>

#include "tests/unit/hsmd/exposition_parse.h"

struct buf body;
uint16_t port;

static void find_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    port = ntohs(address.sin_port);
    close(fd);
}

void web_open(void)
{
    curl_global_init(CURL_GLOBAL_ALL);
    buf_init(&body, 16 << 20);
    find_port();
}

void web_close(void)
{
    buf_clear(&body);
    curl_global_cleanup();
}

static size_t take(char *data, size_t size, size_t count, void *context)
{
    (void)context;
    return buf_put(&body, data, size * count) == ERR_OK ? count : 0;
}

long fetch(const char *method, const char *path, const char *header)
{
    char *url = NULL;
    long status = 0;
    assert_true(asprintf(&url, "http://127.0.0.1:%u%s", port, path) > 0);
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = header ? curl_slist_append(NULL, header) : NULL;
    buf_reset(&body);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_NOBODY, strcmp(method, "HEAD") == 0 ? 1L : 0L);
    if (strcmp(method, "POST") == 0)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "a=b");
    curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    free(url);
    return status;
}

double value_of(const char *sample)
{
    double value = -1;
    if (!exposition_find(buf_text(&body), sample, &value))
        print_error("no sample %s\n", sample);
    return value;
}

void fetch_metrics(void)
{
    assert_int_equal(fetch("GET", "/metrics", NULL), 200);
    const char *error = exposition_parse(buf_text(&body));
    assert_string_equal(error ? error : "", "");
}

long wait_health(long wanted)
{
    long status = 0;
    for (int i = 0; i < 200 && status != wanted; i++) {
        status = fetch("GET", "/healthz", NULL);
        usleep(100000);
    }
    return status;
}
