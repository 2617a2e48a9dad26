// SPDX-License-Identifier: Apache-2.0
// The audit log's file, for audit.c: what the system is asked to do with it.
#pragma once

#include <sys/types.h>

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"

// Opens or makes it (mode 0600) to append, and locks it. ERR_PERM: another process has it, it is no
// regular file, or cannot be opened. size: in bytes.
enum err audit_file_open(const char *path, int *fd, off_t *size, struct detail *detail);

// All of data. False: errno says why; a part of it may be there.
bool audit_file_write(int fd, struct bytes data);

// Shows each line, the last one first, without its line end, until see says false. An empty one
// too, and what there is of one that was torn. path: for detail. ERR_TEMP: it cannot be read.
typedef bool (*audit_file_see)(void *context, struct bytes line);
enum err audit_file_read_back(int fd, const char *path, audit_file_see see, void *context,
                              struct detail *detail);

// That the file is there must be on the disk too. A failure is logged.
void audit_file_sync_directory(const char *path);
