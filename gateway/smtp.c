// SPDX-License-Identifier: Apache-2.0
// libcurl is loaded by hand, not linked: Debian's brings libp11-kit along (by librtmp and GnuTLS,
// which plain SMTP never touches), and no PKCS#11 library shall come into a gateway that does not
// hand copies back (design, "Who may link whom").
#include "gateway/smtp.h"

#include <dlfcn.h>
#include <string.h>

#define CURL_DISABLE_TYPECHECK // its macros want curl_easy_setopt to be the function itself
#include <curl/curl.h>

#include "hsmd/base/alloc.h"

#define LIBCURL "libcurl.so.4"

// X(name of the function)
#define CURL_FUNCTIONS(X)  \
    X(curl_global_init)    \
    X(curl_global_cleanup) \
    X(curl_easy_init)      \
    X(curl_easy_setopt)    \
    X(curl_easy_perform)   \
    X(curl_easy_getinfo)   \
    X(curl_easy_strerror)  \
    X(curl_easy_cleanup)   \
    X(curl_slist_append)   \
    X(curl_slist_free_all)

#undef curl_easy_setopt
#undef curl_easy_getinfo

// Filled by smtp_start, from then on only read.
static struct {
    void *library;
#define X(function) __typeof__(&function) function;
    CURL_FUNCTIONS(X)
#undef X
} libcurl;

// The message on its way to libcurl. SMTP's lines end with CRLF and a bare LF must not pass: what
// one server takes for text another may take for the end of the message, and whatever follows for
// the sender's next command.
struct source {
    struct bytes rest;
    bool was_cr;       // the last byte given was CR
    bool has_half_end; // CR was given for a bare LF, and LF is still to come
};

static size_t read_source(char *out, size_t size, size_t count, void *ctx)
{
    struct source *source = ctx;
    size_t room = size * count;
    size_t n = 0;
    while (n < room && (source->has_half_end || source->rest.len > 0)) {
        char c = '\n';
        if (!source->has_half_end)
            c = (char)*source->rest.data;
        if (c == '\n' && !source->was_cr && !source->has_half_end) {
            out[n++] = '\r';
            source->has_half_end = true;
            source->was_cr = true;
            source->rest.data++;
            source->rest.len--;
            continue;
        }
        out[n++] = c;
        source->was_cr = c == '\r';
        if (source->has_half_end) {
            source->has_half_end = false;
        } else {
            source->rest.data++;
            source->rest.len--;
        }
    }
    return n;
}

static size_t size_on_the_wire(struct bytes message)
{
    size_t size = message.len;
    for (size_t i = 0; i < message.len; i++)
        size += message.data[i] == '\n' && (i == 0 || message.data[i - 1] != '\r') ? 1 : 0;
    return size;
}

static bool is_sayable(const char *address)
{
    for (const unsigned char *c = (const unsigned char *)address; *c; c++) {
        if (*c <= ' ' || *c == 0x7f)
            return false;
    }
    return true;
}

// libcurl puts the brackets on where they are missing; it leaves "<>" alone.
static enum err list_recipients(const struct envelope *envelope, struct curl_slist **list,
                                struct detail *detail)
{
    *list = NULL;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct curl_slist *longer = libcurl.curl_slist_append(*list, envelope->recipients[i]);
        if (!longer) {
            libcurl.curl_slist_free_all(*list);
            return err_set(detail, ERR_TEMP, "out of memory");
        }
        *list = longer;
    }
    return ERR_OK;
}

static enum err check_addresses(const struct envelope *envelope, struct detail *detail)
{
    bool is_fine = is_sayable(envelope->sender) && envelope->recipient_count > 0;
    for (size_t i = 0; i < envelope->recipient_count; i++)
        is_fine = is_fine && *envelope->recipients[i] && is_sayable(envelope->recipients[i]);
    return is_fine ? ERR_OK : err_set(detail, ERR_PERM, "an address cannot be said in SMTP");
}

static enum err url_with_name(const struct smtp_conf *conf, struct buf *url, struct detail *detail)
{
    const char *authority = strstr(conf->url, "://");
    bool has_name = authority && strchr(authority + 3, '/');
    enum err err = buf_put_text(url, conf->url);
    if (!err && !has_name && conf->name)
        err = buf_printf(url, "/%s", conf->name);
    return err ? err_set(detail, ERR_PERM, "reinject: the URL is too long") : ERR_OK;
}

static CURLcode transact(CURL *curl, const struct smtp_conf *conf, const char *url,
                         const char *sender, struct curl_slist *recipients, struct source *source,
                         char *reason)
{
    curl_off_t size = (curl_off_t)size_on_the_wire(source->rest);
    libcurl.curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    libcurl.curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    libcurl.curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    libcurl.curl_easy_setopt(curl, CURLOPT_PROXY, "");
    libcurl.curl_easy_setopt(curl, CURLOPT_URL, url);
    libcurl.curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)conf->timeout_ms);
    libcurl.curl_easy_setopt(curl, CURLOPT_MAIL_FROM, *sender ? sender : "<>");
    libcurl.curl_easy_setopt(curl, CURLOPT_MAIL_RCPT, recipients);
    libcurl.curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    libcurl.curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, size);
    libcurl.curl_easy_setopt(curl, CURLOPT_READFUNCTION, read_source);
    libcurl.curl_easy_setopt(curl, CURLOPT_READDATA, source);
    return libcurl.curl_easy_perform(curl);
}

enum err smtp_send(const struct smtp_conf *conf, const struct envelope *envelope,
                   struct bytes message, struct detail *detail)
{
    struct curl_slist *recipients;
    struct source source = {.rest = message};
    struct buf url;
    char reason[CURL_ERROR_SIZE] = "";
    enum err err = check_addresses(envelope, detail);
    if (!err)
        err = list_recipients(envelope, &recipients, detail);
    if (err)
        return err;
    buf_init(&url, 1024);
    CURL *curl = libcurl.curl_easy_init();
    if (!curl)
        err = err_set(detail, ERR_TEMP, "libcurl: out of memory");
    else
        err = url_with_name(conf, &url, detail);
    if (!err) {
        CURLcode code =
            transact(curl, conf, buf_text(&url), envelope->sender, recipients, &source, reason);
        long answer = 0;
        libcurl.curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer);
        if (code != CURLE_OK)
            err = err_set(detail, ERR_TEMP, "%s: %s (last answer %ld)", conf->url,
                          *reason ? reason : libcurl.curl_easy_strerror(code), answer);
    }
    libcurl.curl_easy_cleanup(curl);
    libcurl.curl_slist_free_all(recipients);
    buf_clear(&url);
    return err;
}

enum err smtp_start(struct detail *detail)
{
    libcurl.library = dlopen(LIBCURL, RTLD_NOW | RTLD_LOCAL);
    if (!libcurl.library)
        return err_set(detail, ERR_PERM, "%s", dlerror());
#define X(function)                                                  \
    *(void **)&libcurl.function = dlsym(libcurl.library, #function); \
    if (!libcurl.function)                                           \
        return err_set(detail, ERR_PERM, "%s has no %s", LIBCURL, #function);
    CURL_FUNCTIONS(X)
#undef X
    if (libcurl.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(detail, ERR_TEMP, "libcurl cannot be initialised");
    return ERR_OK;
}

void smtp_stop(void)
{
    if (libcurl.library)
        libcurl.curl_global_cleanup();
}
