// SPDX-License-Identifier: Apache-2.0
#include "hsmd/state_directory.h"

#include <errno.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

// Once at the start, in the only thread there is.
static enum err refuse_owner(const char *path, uid_t owner, struct detail *detail)
{
    const struct passwd *user = getpwuid(owner); // NOLINT(concurrency-mt-unsafe)
    if (!user)
        return err_set(detail, ERR_PERM,
                       "state directory: %s: it belongs to user %u: run hsmd as that user", path,
                       owner);
    return err_set(detail, ERR_PERM,
                   "state directory: %s: it belongs to the user %s: run hsmd as that user, with "
                   "'runuser -u %s -- ' before the command",
                   path, user->pw_name, user->pw_name);
}

static enum err check(const char *path, bool is_root_any, struct detail *detail)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(detail, ERR_PERM, "state directory: %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(detail, ERR_PERM, "state directory: %s: not a directory", path);
    if ((st.st_mode & 077) != 0)
        return err_set(detail, ERR_PERM,
                       "state directory: %s: mode %04o: others may enter it (chmod 0700)", path,
                       st.st_mode & 07777u);
    return st.st_uid == geteuid() || (is_root_any && geteuid() == 0)
               ? ERR_OK
               : refuse_owner(path, st.st_uid, detail);
}

enum err state_directory_check(const char *path, struct detail *detail)
{
    return check(path, true, detail);
}

enum err state_directory_own(const char *path, struct detail *detail)
{
    return check(path, false, detail);
}

enum err state_directory_make(const char *path, struct detail *detail)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return err_errno(detail, ERR_PERM, "state directory: %s", path);
    return state_directory_own(path, detail);
}
