// SPDX-License-Identifier: Apache-2.0
#include "hsmd/officers/pack.h"

#include <string.h>

struct writer {
    uint8_t *place; // NULL: only count
    size_t len;
};

static int write_out(void *data, const char *packed, size_t len)
{
    struct writer *writer = data;
    if (writer->place)
        memcpy(writer->place + writer->len, packed, len);
    writer->len += len;
    return 0;
}

// What msgpack-c returns is what write_out returns: always 0.
void pack_uint(msgpack_packer *packer, uint64_t number)
{
    msgpack_pack_uint64(packer, number);
}

void pack_str(msgpack_packer *packer, struct bytes text)
{
    msgpack_pack_str(packer, text.len);
    if (text.len)
        write_out(packer->data, (const char *)text.data, text.len);
}

void pack_bin(msgpack_packer *packer, struct bytes bytes)
{
    msgpack_pack_bin(packer, bytes.len);
    if (bytes.len)
        write_out(packer->data, (const char *)bytes.data, bytes.len);
}

enum err pack_put(pack_fn pack, const void *what, size_t max, struct buf *out)
{
    struct writer writer = {NULL, 0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &writer, write_out);
    pack(&packer, what);
    if (writer.len > max)
        return ERR_PERM;
    enum err err = buf_reserve(out, writer.len, &writer.place);
    if (err != ERR_OK)
        return err;
    writer.len = 0;
    pack(&packer, what);
    return ERR_OK;
}
