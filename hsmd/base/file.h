// SPDX-License-Identifier: Apache-2.0
// Small files: configuration, keys, PINs.
#pragma once

#include <stddef.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"

// Appends a whole regular file. ERR_PERM: absent, unreadable, not a regular file, or over the
// buffer's cap.
enum err file_read(const char *path, struct buf *out, struct detail *detail);

// Reads a secret: a regular file that belongs to this user or root and that nobody else can read
// (mode 0400 or 0600; 0440 too of what is in $CREDENTIALS_DIRECTORY, where systemd guards the
// directory). One line end at its end is dropped. The secret must be initialised; ERR_PERM
// if it does not fit, is empty, or the mode is wrong (the detail says which, and how to mend it).
enum err file_read_secret(const char *path, struct secret *out, struct detail *detail);

// A new name is on the disk only when its directory is. path: the file's. False: errno says why.
bool file_sync_directory(const char *path);

// Writes a new file beside path and renames it over, synced; mode as given.
enum err file_write(const char *path, struct bytes data, unsigned mode, struct detail *detail);
