// SPDX-License-Identifier: Apache-2.0
#include "hsmd/state_directory.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum err state_directory_check(const char *path, struct detail *detail)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(detail, ERR_PERM, "state directory: %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(detail, ERR_PERM, "state directory: %s: not a directory", path);
    if ((st.st_mode & 077) != 0 || (st.st_uid != geteuid() && geteuid() != 0))
        return err_set(detail, ERR_PERM,
                       "state directory: %s: mode %04o, owner %u: others may enter it (chmod 0700)",
                       path, st.st_mode & 07777u, st.st_uid);
    return ERR_OK;
}

enum err state_directory_make(const char *path, struct detail *detail)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return err_errno(detail, ERR_PERM, "state directory: %s", path);
    return state_directory_check(path, detail);
}
