// SPDX-License-Identifier: Apache-2.0
// What a message is, and S/MIME's MIME layers put on and taken off (RFC 8551, 3). GMime reads the
// fields; the bytes that were or will be signed are sliced and copied, never re-serialised.
#pragma once

#include "gateway/message.h"
#include "gateway/spool.h"
#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

#define MIME_DEPTH_MAX 30   // nesting of parts looked into
#define MIME_PARTS_MAX 2000 // parts looked into

enum mime_kind {
    MIME_PLAIN,  // no S/MIME at the root
    MIME_SIGNED, // multipart/signed with an S/MIME protocol
    MIME_PKCS7, // application/(x-)pkcs7-mime, or application/octet-stream named *.p7m, *.p7s, *.p7z
};

struct mime_facts {
    enum mime_kind kind;
    char smime_type[40]; // the parameter, lower case, or ""; advice only: the CMS object tells the
                         // truth
    bool has_nested_smime; // some part below the root is S/MIME of either kind (never decrypted:
                           // EFAIL)
    bool is_pgp;           // multipart/signed or /encrypted of OpenPGP: not ours
    bool is_broken;        // claims to be S/MIME but its parts cannot be found; why is in reason
    char reason[120];
};

// Once, before there are threads: GMime registers its types on first use, and not under a lock.
void mime_init(void);

// Never fails for the message's content; ERR_TEMP: out of memory, disk. Parts beyond the two limits
// are not looked into.
enum err mime_inspect(const struct message *message, struct mime_facts *facts,
                      struct detail *detail);

// MIME_SIGNED: content is the first part, header and body, with CRLF line ends and without the line
// end that belongs to the boundary; signature is the second part decoded. Either may be ERR_PERM:
// broken.
enum err mime_split_signed(const struct message *message, struct spool *content,
                           struct spool *signature, struct detail *detail);
// MIME_PKCS7: the body decoded (base64 with junk tolerated, quoted-printable, binary).
enum err mime_decode_pkcs7(const struct message *message, struct spool *der, struct detail *detail);
// The same, but ERR_PERM if there is anything else in the body that decoding would pass over.
enum err mime_decode_pkcs7_strictly(const struct message *message, struct spool *der,
                                    struct detail *detail);

// The MIME entity of a message: its Content-* fields and its body, CRLF line ends, every part 7-bit
// (8-bit and binary parts, and lines over 998 bytes, become quoted-printable or base64). This is
// what gets signed or encrypted. Already 7-bit content keeps its bytes, but: parts with lines that
// begin with "From " become quoted-printable, since mailboxes change such lines (RFC 8551, 3.1.3);
// labels 8bit and binary become 7bit; a body without Content-Type gets one; the epilogue goes. What
// is inside a multipart/signed keeps its bytes whatever they are. ERR_PERM: broken beyond use.
enum err mime_make_entity(const struct message *message, struct spool *entity,
                          struct detail *detail);

// New message with the outer one's other fields and, as its content, a multipart/signed of entity
// (verbatim) and signature. micalg: "sha-256" (RFC 8551, 3.5.3.2).
enum err mime_wrap_signed(const struct message *outer, struct bytes entity, struct bytes signature,
                          const char *micalg, struct message **message, struct detail *detail);
// The same with an application/pkcs7-mime of der in base64. smime_type: "signed-data",
// "enveloped-data", "authEnveloped-data".
enum err mime_wrap_pkcs7(const struct message *outer, struct bytes der, const char *smime_type,
                         struct message **message, struct detail *detail);
// New message with the outer one's other fields and, as its content, an inner entity (header, empty
// line, body; LF or CRLF; Content-Transfer-Encoding may be missing). Fields of the inner entity
// other than Content-* do not come out. A message/rfc822 entity stays what it is. ERR_PERM: not an
// entity.
enum err mime_unwrap(const struct message *outer, struct bytes entity, struct message **message,
                     struct detail *detail);
