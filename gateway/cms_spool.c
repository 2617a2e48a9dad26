// SPDX-License-Identifier: Apache-2.0
#include "gateway/cms_spool.h"

#include <limits.h>
#include <pthread.h>

#include <openssl/crypto.h>

static BIO_METHOD *sink_method;
static pthread_once_t sink_once = PTHREAD_ONCE_INIT;

static int sink_write(BIO *bio, const char *data, size_t len, size_t *written)
{
    struct cms_sink *sink = BIO_get_data(bio);
    if (sink->err == ERR_OK)
        sink->err = spool_put(sink->spool, bytes_of(data, len), &sink->detail);
    *written = sink->err == ERR_OK ? len : 0;
    return sink->err == ERR_OK;
}

static long sink_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static void sink_register(void)
{
    sink_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "spool");
    if (sink_method) {
        BIO_meth_set_write_ex(sink_method, sink_write);
        BIO_meth_set_ctrl(sink_method, sink_ctrl);
    }
}

enum err cms_sink_open(struct cms_sink *sink, struct spool *spool, struct detail *detail)
{
    *sink = (struct cms_sink){.spool = spool};
    pthread_once(&sink_once, sink_register);
    sink->bio = sink_method ? BIO_new(sink_method) : NULL;
    if (!sink->bio)
        return err_set(detail, ERR_TEMP, "out of memory");
    BIO_set_data(sink->bio, sink);
    BIO_set_init(sink->bio, 1);
    return ERR_OK;
}

void cms_sink_close(struct cms_sink *sink)
{
    BIO_free(sink->bio);
    sink->bio = NULL;
}

enum err cms_put_der(CMS_ContentInfo *cms, struct spool *out, struct detail *detail)
{
    unsigned char *der = NULL;
    int len = i2d_CMS_ContentInfo(cms, &der);
    if (len <= 0)
        return err_openssl(detail, ERR_TEMP, "cannot encode");
    enum err err = spool_put(out, bytes_of(der, (size_t)len), detail);
    OPENSSL_free(der);
    return err;
}

BIO *cms_source(struct bytes content)
{
    if (content.len > INT_MAX)
        return NULL;
    return BIO_new_mem_buf(content.len ? (const void *)content.data : "", (int)content.len);
}
