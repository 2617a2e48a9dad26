// SPDX-License-Identifier: Apache-2.0
// The allow-list. What it lets pass strictly it lets pass leniently; and where libcrypto can decode
// what it let pass, both see the same thing.
#include <stdlib.h>
#include <string.h>

#include <openssl/cms.h>
#include <openssl/err.h>

#include "gateway/cms.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int nid_of(enum cms_type type)
{
    switch (type) {
    case CMS_TYPE_SIGNED:
        return NID_pkcs7_signed;
    case CMS_TYPE_ENVELOPED:
        return NID_pkcs7_enveloped;
    case CMS_TYPE_AUTH_ENVELOPED:
        return NID_id_smime_ct_authEnvelopedData;
    case CMS_TYPE_COMPRESSED:
    case CMS_TYPE_OTHER:
        break;
    }
    abort();
}

static void compare(const uint8_t *data, size_t size, const struct cms_summary *summary)
{
    const unsigned char *at = data;
    CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)size);
    if (cms) {
        if (at != data + size || OBJ_obj2nid(CMS_get0_type(cms)) != nid_of(summary->type))
            abort();
        if (summary->type == CMS_TYPE_SIGNED && (CMS_is_detached(cms) == 1) != summary->is_detached)
            abort();
        if (summary->type == CMS_TYPE_SIGNED &&
            (sk_CMS_SignerInfo_num(CMS_get0_SignerInfos(cms)) <= 0) != summary->is_certs_only)
            abort();
    }
    CMS_ContentInfo_free(cms);
    ERR_clear_error();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cms_summary strict, lenient;
    struct detail strict_detail = {0}, lenient_detail = {0};
    enum err a = cms_inspect(bytes_of(data, size), false, &strict, &strict_detail);
    enum err b = cms_inspect(bytes_of(data, size), true, &lenient, &lenient_detail);
    if ((a == ERR_OK && b != ERR_OK) || strict.type != lenient.type)
        abort();
    if ((a != ERR_OK) != (*strict_detail.text != 0) || (b != ERR_OK) != (*lenient_detail.text != 0))
        abort();
    if ((a != ERR_OK && a != ERR_PERM) || (b != ERR_OK && b != ERR_PERM))
        abort();
    if (strlen(lenient.algorithms) >= sizeof lenient.algorithms)
        abort();
    if (b == ERR_OK)
        compare(data, size, &lenient);
    return 0;
}
