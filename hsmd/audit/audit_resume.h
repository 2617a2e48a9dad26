// SPDX-License-Identifier: Apache-2.0
// Where the chain goes on when hsmd is started. A log that was moved away without a SIGHUP that was
// heard, because hsmd stood or the machine went down between the two steps of a rotation, must not
// begin anew at 1: the rotation is then brought to its end, or the start refused.
//
// That there was a log is known from another file, the head: a line that it has had, as its number,
// a blank, its hash in hex and a line end. It is written at a start, a rotation and a stop, so the
// log may have come further.
#pragma once

#include "hsmd/audit/audit.h"

#define AUDIT_HEAD_FILE "audit.head" // in the state directory

// As audit_open. But if there is no file of this path, or an empty one, and a head says that there
// was a log, opens the last file of that instead: of those in the same directory whose names begin
// with the log's the one that has come furthest. from, PATH_MAX bytes: which file it is. If it is
// not path the caller has audit_reopen go on in path before it serves. ERR_PERM, too: there is
// no such file. A log that is shorter than its head says, or another one, is logged.
enum err audit_open_last(const char *path, const char *head, char *from, struct audit **audit,
                         struct detail *detail);

// Which file audit_open_last would open; nothing is opened to be written, or made.
enum err audit_find_last(const char *path, const char *head, char *from, struct detail *detail);

// Writes the head, if audit_open_last was told where. audit_reopen and audit_close do it too. The
// log comes to the disk before it, whatever audit_set_sync says: a head that is further than the
// log is a log that was cut. A failure is logged: the former one is not wrong.
void audit_note_head(struct audit *audit);
