// SPDX-License-Identifier: Apache-2.0
#include "gateway/mime.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/field.h"
#include "gateway/mime_part.h"
#include "gateway/mime_text.h"

#define HEAD_MAX (2 * MESSAGE_HEADER_BYTES_MAX) // rendered with CRLF

void mime_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, g_mime_init);
}

// A message's root: the part and what its header says.
struct root {
    struct buf text;
    struct mime_part part;
    struct mime_head head;
};

static enum err root_init(struct root *root, const struct message *message, struct detail *detail)
{
    *root = (struct root){0};
    buf_init(&root->text, HEAD_MAX);
    enum err err = mime_part_of_message(message, &root->text, &root->part, detail);
    if (err == ERR_OK)
        err = mime_head_init(&root->head, root->part.header, false, detail);
    if (err != ERR_OK)
        buf_clear(&root->text);
    return err;
}

static void root_clear(struct root *root)
{
    mime_head_clear(&root->head);
    buf_clear(&root->text);
}

// The two parts of a multipart/signed. reason: why there are not these two; NULL: there are.
static const char *find_signed(const struct mime_head *head, struct bytes body,
                               struct bytes *content, struct bytes *signature)
{
    struct mime_parts parts = mime_parts_of(head, body);
    struct mime_delimiter at[3];
    if (parts.boundary.len == 0)
        return "multipart/signed without a boundary";
    if (!mime_parts_next_delimiter(&parts, &at[0]) || at[0].is_close)
        return "multipart/signed without parts";
    if (!mime_parts_next_delimiter(&parts, &at[1]) || at[1].is_close)
        return "multipart/signed with one part only";
    // A lost closing delimiter is harmless; a third part would be shown and not be signed.
    bool has_end = mime_parts_next_delimiter(&parts, &at[2]);
    struct mime_delimiter more;
    if ((has_end && !at[2].is_close) || mime_parts_next_delimiter(&parts, &more))
        return "multipart/signed with more than two parts";
    *content = mime_parts_between(&parts, &at[0], &at[1]);
    *signature = mime_parts_between(&parts, &at[1], has_end ? &at[2] : NULL);
    return NULL;
}

struct walk {
    size_t parts;
    bool has_smime;
};

// OpenPGP, S/MIME or neither, of a multipart/signed or /encrypted; by the protocol, else by parts.
enum protocol { PROTOCOL_NONE, PROTOCOL_SMIME, PROTOCOL_PGP };

static enum err find_protocol(const struct mime_head *head, struct bytes body,
                              enum protocol *protocol, struct detail *detail)
{
    const char *name = mime_head_parameter(head, "protocol");
    *protocol = PROTOCOL_NONE;
    if (strcasecmp(name, "application/pgp-signature") == 0 ||
        strcasecmp(name, "application/pgp-encrypted") == 0)
        *protocol = PROTOCOL_PGP;
    else if (mime_head_is(head, "multipart", "signed") && mime_type_is_pkcs7_signature(name))
        *protocol = PROTOCOL_SMIME;
    if (*protocol != PROTOCOL_NONE)
        return ERR_OK;
    struct mime_parts parts = mime_parts_of(head, body);
    struct bytes raw;
    for (int i = 0; i < 2 && *protocol == PROTOCOL_NONE && mime_parts_next(&parts, &raw); i++) {
        struct mime_head child;
        enum err err = mime_head_init(&child, mime_part_of(raw).header, false, detail);
        if (err != ERR_OK)
            return err;
        if (mime_head_is(&child, "application", "pgp-signature") ||
            mime_head_is(&child, "application", "pgp-encrypted"))
            *protocol = PROTOCOL_PGP;
        else if (mime_head_is(head, "multipart", "signed") && mime_head_is_pkcs7_signature(&child))
            *protocol = PROTOCOL_SMIME;
        mime_head_clear(&child);
    }
    return ERR_OK;
}

static bool has_protocol(const struct mime_head *head)
{
    return mime_head_is(head, "multipart", "signed") ||
           mime_head_is(head, "multipart", "encrypted");
}

static enum err walk_part(struct walk *walk, const struct mime_part *part, bool in_digest,
                          int depth, struct detail *detail);

// What is below a part.
static enum err walk_below(struct walk *walk, const struct mime_head *head, struct bytes body,
                           bool first_only, int depth, struct detail *detail)
{
    if (depth >= MIME_DEPTH_MAX)
        return ERR_OK;
    if (mime_head_is_message(head)) {
        struct mime_part inner = mime_part_of_inner(body);
        return walk_part(walk, &inner, false, depth + 1, detail);
    }
    if (!mime_head_is(head, "multipart", "*"))
        return ERR_OK;
    bool in_digest = mime_head_is(head, "multipart", "digest");
    struct mime_parts parts = mime_parts_of(head, body);
    struct bytes raw;
    enum err err = ERR_OK;
    while (err == ERR_OK && !walk->has_smime && mime_parts_next(&parts, &raw)) {
        struct mime_part part = mime_part_of(raw);
        err = walk_part(walk, &part, in_digest, depth + 1, detail);
        if (first_only)
            break;
    }
    return err;
}

static enum err walk_part(struct walk *walk, const struct mime_part *part, bool in_digest,
                          int depth, struct detail *detail)
{
    if (walk->has_smime || walk->parts++ >= MIME_PARTS_MAX)
        return ERR_OK;
    struct mime_head head;
    enum err err = mime_head_init(&head, part->header, in_digest, detail);
    if (err != ERR_OK)
        return err;
    enum protocol protocol = PROTOCOL_NONE;
    if (has_protocol(&head))
        err = find_protocol(&head, part->body, &protocol, detail);
    if (mime_head_is_pkcs7_mime(&head) || protocol == PROTOCOL_SMIME)
        walk->has_smime = true;
    else if (err == ERR_OK)
        err = walk_below(walk, &head, part->body, false, depth, detail);
    mime_head_clear(&head);
    return err;
}

static void take_smime_type(const struct mime_head *head, struct mime_facts *facts)
{
    const char *type = mime_head_parameter(head, "smime-type");
    size_t n = 0;
    for (; type[n] && n + 1 < sizeof facts->smime_type; n++)
        facts->smime_type[n] = (char)tolower((unsigned char)type[n]);
    facts->smime_type[n] = 0;
}

static void set_broken(struct mime_facts *facts, const char *reason)
{
    facts->is_broken = true;
    snprintf(facts->reason, sizeof facts->reason, "%s", reason);
}

static void check_signed(const struct root *root, struct mime_facts *facts)
{
    struct bytes content;
    struct bytes signature;
    const char *reason = find_signed(&root->head, root->part.body, &content, &signature);
    if (reason)
        set_broken(facts, reason);
}

static bool is_all_space(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] > ' ')
            return false;
    return true;
}

enum err mime_inspect(const struct message *message, struct mime_facts *facts,
                      struct detail *detail)
{
    struct root root;
    enum err err = root_init(&root, message, detail);
    if (err != ERR_OK)
        return err;
    struct mime_facts found = {.kind = MIME_PLAIN};
    struct walk walk = {0};
    enum protocol protocol = PROTOCOL_NONE;
    if (has_protocol(&root.head))
        err = find_protocol(&root.head, root.part.body, &protocol, detail);
    found.is_pgp = protocol == PROTOCOL_PGP;
    if (protocol == PROTOCOL_SMIME) {
        found.kind = MIME_SIGNED;
        check_signed(&root, &found);
    } else if (mime_head_is_pkcs7_mime(&root.head)) {
        found.kind = MIME_PKCS7;
        take_smime_type(&root.head, &found);
        if (is_all_space(root.part.body))
            set_broken(&found, "no CMS object in the body");
    }
    // A reader that believes the other field would show something else than what was verified.
    if (found.kind != MIME_PLAIN && (root.head.type_count > 1 || root.head.encoding_count > 1))
        set_broken(&found, "more than one Content-Type or Content-Transfer-Encoding");
    if (err == ERR_OK)
        err = walk_below(&walk, &root.head, root.part.body, found.kind == MIME_SIGNED, 0, detail);
    found.has_nested_smime = walk.has_smime;
    root_clear(&root);
    if (err == ERR_OK)
        *facts = found;
    return err;
}

static enum err decode_signature(struct bytes raw, struct spool *signature, struct detail *detail)
{
    struct mime_part part = mime_part_of(raw);
    struct mime_head head;
    enum err err = mime_head_init(&head, part.header, false, detail);
    if (err != ERR_OK)
        return err;
    err = mime_text_decode_der(head.encoding, part.body, signature, detail);
    mime_head_clear(&head);
    return err;
}

enum err mime_split_signed(const struct message *message, struct spool *content,
                           struct spool *signature, struct detail *detail)
{
    struct root root;
    enum err err = root_init(&root, message, detail);
    if (err != ERR_OK)
        return err;
    struct bytes raw_content;
    struct bytes raw_signature;
    const char *reason = "not multipart/signed";
    if (mime_head_is(&root.head, "multipart", "signed"))
        reason = find_signed(&root.head, root.part.body, &raw_content, &raw_signature);
    if (reason)
        err = err_set(detail, ERR_PERM, "%s", reason);
    if (err == ERR_OK)
        err = field_put_lines(content, raw_content, "\r\n", detail);
    if (err == ERR_OK)
        err = decode_signature(raw_signature, signature, detail);
    if (err == ERR_OK && spool_len(signature) == 0)
        err = err_set(detail, ERR_PERM, "the signature part is empty");
    root_clear(&root);
    return err;
}

static enum err decode_pkcs7(const struct message *message, bool strictly, struct spool *der,
                             struct detail *detail)
{
    struct root root;
    enum err err = root_init(&root, message, detail);
    if (err != ERR_OK)
        return err;
    err = strictly ? mime_text_decode_der_strictly(root.head.encoding, root.part.body, der, detail)
                   : mime_text_decode_der(root.head.encoding, root.part.body, der, detail);
    if (err == ERR_OK && spool_len(der) == 0)
        err = err_set(detail, ERR_PERM, "no CMS object in the body");
    root_clear(&root);
    return err;
}

enum err mime_decode_pkcs7(const struct message *message, struct spool *der, struct detail *detail)
{
    return decode_pkcs7(message, false, der, detail);
}

enum err mime_decode_pkcs7_strictly(const struct message *message, struct spool *der,
                                    struct detail *detail)
{
    return decode_pkcs7(message, true, der, detail);
}
