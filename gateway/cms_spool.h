// SPDX-License-Identifier: Apache-2.0
// What libcrypto writes, into a spool; what it makes, as DER.
#pragma once

#include <openssl/bio.h>
#include <openssl/cms.h>

#include "gateway/spool.h"
#include "hsmd/base/err.h"

// A sink of libcrypto's, over a spool. Embedded: cms_sink_open, cms_sink_close. What went wrong in
// the spool is in err and detail.
struct cms_sink {
    BIO *bio;
    struct spool *spool;
    enum err err;
    struct detail detail;
};

enum err cms_sink_open(struct cms_sink *sink, struct spool *spool, struct detail *detail);
void cms_sink_close(struct cms_sink *sink);

// Appends the DER encoding.
enum err cms_put_der(CMS_ContentInfo *cms, struct spool *out, struct detail *detail);

// A source over borrowed bytes, or NULL: out of memory.
BIO *cms_source(struct bytes content);
