// SPDX-License-Identifier: Apache-2.0
// issue_check_certificates with anything: for every purpose, with and without the look at names,
// with the first certificate's own key and with none. What is taken when names are looked at is
// taken when they are not; an answer always says why, in text that is fit for a terminal.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include "hsmd/custody/issue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void require_text(const struct detail *detail)
{
    size_t len = strlen(detail->text);
    require(len < sizeof detail->text);
    for (size_t i = 0; i < len; i++)
        require(detail->text[i] >= ' ' && detail->text[i] < 0x7f);
}

static enum err check(struct bytes certificates, struct bytes public_key, enum wire_purpose purpose,
                      bool any_name)
{
    struct detail warning = {0};
    struct detail detail = {0};
    enum err err =
        issue_check_certificates(certificates, public_key, purpose, any_name, &warning, &detail);
    require(err == ERR_OK || err == ERR_PERM);
    require((err == ERR_OK) == (detail.text[0] == 0));
    require_text(&warning);
    require_text(&detail);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes certificates = bytes_of(data, size);
    const uint8_t *at = data;
    uint8_t *own = NULL;
    X509 *first = d2i_X509(NULL, &at, (long)size);
    X509_PUBKEY *key = first ? X509_get_X509_PUBKEY(first) : NULL;
    int len = key ? i2d_X509_PUBKEY(key, &own) : 0;
    for (int purpose = WIRE_SMIME_SIGN; purpose <= WIRE_GENERAL; purpose++) {
        for (int i = 0; i < 2; i++) {
            struct bytes public_key = len > 0 && i ? bytes_of(own, (size_t)len) : (struct bytes){0};
            enum err strict = check(certificates, public_key, (enum wire_purpose)purpose, false);
            enum err lax = check(certificates, public_key, (enum wire_purpose)purpose, true);
            require(strict != ERR_OK || lax == ERR_OK);
        }
    }
    OPENSSL_free(own);
    X509_free(first);
    return 0;
}
