// SPDX-License-Identifier: Apache-2.0
#include "gateway/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define MAPPED_BITS 96 // of ::ffff:0:0/96

static void map_ipv4(const struct in_addr *from, uint8_t to[16])
{
    memset(to, 0, 10);
    to[10] = to[11] = 0xff;
    memcpy(to + 12, from, 4);
}

static bool has_bits_behind(const struct network *network)
{
    for (unsigned bit = network->bits; bit < 128; bit++) {
        if (network->address[bit / 8] & (0x80U >> (bit % 8)))
            return true;
    }
    return false;
}

enum err network_parse(const char *text, struct network *network, struct detail *detail)
{
    char address[INET6_ADDRSTRLEN];
    struct network parsed = {.bits = 128};
    struct in_addr ipv4;
    size_t len = strcspn(text, "/");
    unsigned prefix_base = 0;
    if (len >= sizeof address)
        return err_set(detail, ERR_PERM, "\"%.60s\" is not a network", text);
    memcpy(address, text, len);
    address[len] = 0;
    if (inet_pton(AF_INET, address, &ipv4) == 1) {
        map_ipv4(&ipv4, parsed.address);
        prefix_base = MAPPED_BITS;
    } else if (inet_pton(AF_INET6, address, parsed.address) != 1) {
        return err_set(detail, ERR_PERM, "\"%.60s\" is not a network", text);
    }
    if (text[len] == '/') {
        char *end;
        unsigned long bits = strtoul(text + len + 1, &end, 10);
        if (text[len + 1] < '0' || text[len + 1] > '9' || *end || bits > 128 - prefix_base)
            return err_set(detail, ERR_PERM, "\"%.60s\": no such prefix length", text);
        parsed.bits = prefix_base + (unsigned)bits;
    }
    if (has_bits_behind(&parsed))
        return err_set(detail, ERR_PERM, "\"%.60s\": bits are set behind the prefix", text);
    *network = parsed;
    return ERR_OK;
}

bool network_has(const struct network *network, const struct sockaddr *address)
{
    uint8_t candidate[16];
    if (!address)
        return false;
    if (address->sa_family == AF_INET)
        map_ipv4(&((const struct sockaddr_in *)(const void *)address)->sin_addr, candidate);
    else if (address->sa_family == AF_INET6)
        memcpy(candidate, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    else
        return false;
    unsigned whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    if (memcmp(candidate, network->address, whole) != 0)
        return false;
    return rest == 0 || ((candidate[whole] ^ network->address[whole]) >> (8 - rest)) == 0;
}
