// SPDX-License-Identifier: Apache-2.0
// Networks in CIDR notation, IPv4 and IPv6.
#pragma once

#include <stdint.h>
#include <sys/socket.h>

#include "hsmd/base/err.h"

struct network {
    uint8_t address[16]; // IPv4 as ::ffff:a.b.c.d
    unsigned bits;       // of the 128
};

// "127.0.0.0/8", "2001:db8::/32", or an address alone. ERR_PERM: neither, or bits set behind the
// prefix.
enum err network_parse(const char *text, struct network *network, struct detail *detail);
// False for address families other than IPv4 and IPv6, and for NULL.
bool network_has(const struct network *network, const struct sockaddr *address);
