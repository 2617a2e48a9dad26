// SPDX-License-Identifier: Apache-2.0
// The signed attributes of a SignerInfo (RFC 5652, 11), checked before its signature is.
#pragma once

#include <time.h>

#include <openssl/cms.h>

#include "hsmd/base/err.h"

// They must be there: without them a signature over something that only looks like attributes could
// be passed off as one over the content. content-type and message-digest once each, content-type
// that of the content; signing-time, cmsAlgorithmProtection (RFC 6211) and signingCertificate(V2)
// (RFC 5035) once if at all, and then they must fit the SignerInfo and its certificate.
// *signing_time: 0 if it is not there. ERR_PERM and why.
enum err cms_attributes_check(CMS_ContentInfo *cms, CMS_SignerInfo *si, X509 *cert,
                              time_t *signing_time, struct detail *detail);
