// SPDX-License-Identifier: Apache-2.0
// Certificates of others, by name, in SQLite (F25): for encrypting to them. Several processes may
// use one file.
#pragma once

#include <time.h>

#include <openssl/x509.h>

#include "hsmd/base/err.h"

struct certstore; // thread-safe

// Creates the file (mode 0640) and its tables if they are not there. ERR_PERM: not such a store, or
// of a newer version; ERR_TEMP: busy, disk.
enum err certstore_open(const char *path, struct certstore **store, struct detail *detail);
void certstore_close(struct certstore *store);

// ERR_PERM: the name is taken by another certificate (adding the same again is fine), names no
// address or domain, or may not encrypt nor sign.
enum err certstore_add(struct certstore *store, const char *name, X509 *cert,
                       struct detail *detail);
enum err certstore_remove(struct certstore *store, const char *name,
                          struct detail *detail); // ERR_PERM: no such name
enum err certstore_get(struct certstore *store, const char *name, X509 **cert,
                       struct detail *detail); // caller frees
// In order of names, until take returns false. take must not use the store.
enum err certstore_each(struct certstore *store,
                        bool (*take)(void *ctx, const char *name, X509 *cert), void *ctx,
                        struct detail *detail);

// All certificates fit to encrypt to that address at that time: those that name the whole address;
// only if there are none of these, those that cover its domain (P5). May be empty; in date and fit
// for encryption only. *certs: caller's.
enum err certstore_find(struct certstore *store, const char *address, time_t at,
                        STACK_OF(X509) * *certs, struct detail *detail);
