// SPDX-License-Identifier: Apache-2.0
#include "hsmd/server/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hsmd/base/alloc.h"

#define IPC_PREFIX "ipc://"
#define LOCK_SUFFIX ".lock"
#define LOCK_PATH_MAX (sizeof((struct sockaddr_un *)0)->sun_path + sizeof LOCK_SUFFIX)

// Of an ipc endpoint.
struct listener {
    const char *path; // of the socket
    int lock;         // -1: none
    bool is_bound;
    dev_t device; // of the socket we made
    ino_t inode;
};

struct endpoints {
    size_t count;
    struct listener listeners[]; // path NULL: not ipc
};

const char *endpoint_path(const char *endpoint)
{
    return strncmp(endpoint, IPC_PREFIX, strlen(IPC_PREFIX)) == 0 ? endpoint + strlen(IPC_PREFIX)
                                                                  : NULL;
}

// An ipc socket is guarded by its own mode and by its directory: nobody else may replace it.
enum err endpoint_check(const char *endpoint, bool *is_absent, struct detail *detail)
{
    struct stat st;
    *is_absent = false;
    if (!endpoint_path(endpoint))
        return ERR_OK;
    char *directory = mem_strdup(endpoint_path(endpoint));
    if (!directory)
        return err_set(detail, ERR_TEMP, "out of memory");
    enum err err = ERR_OK;
    *strrchr(directory, '/') = 0;
    const char *path = *directory ? directory : "/";
    if (stat(path, &st) != 0) {
        *is_absent = errno == ENOENT;
        err = err_errno(detail, ERR_PERM, "endpoint %s: %s", endpoint, path);
    } else if (st.st_mode & S_IWOTH) {
        err = err_set(detail, ERR_PERM, "endpoint %s: everyone may write to its directory (%s)",
                      endpoint, path);
    }
    mem_free(directory);
    return err;
}

static bool is_same(int fd, const char *path)
{
    struct stat opened;
    struct stat named;
    return fstat(fd, &opened) == 0 && lstat(path, &named) == 0 && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
}

// Who has the lock file that bears the name may touch the socket. The one before us may have
// removed the file while we opened it: such a lock means nothing.
static enum err take_lock(struct listener *listener, struct detail *detail)
{
    char path[LOCK_PATH_MAX];
    snprintf(path, sizeof path, "%s" LOCK_SUFFIX, listener->path);
    for (int attempt = 0; attempt < 3; attempt++) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return err_errno(detail, ERR_PERM, "%s", path);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            close(fd);
            return err_set(detail, ERR_PERM, "another hsmd listens there (it holds %s)", path);
        }
        if (is_same(fd, path)) {
            listener->lock = fd;
            return ERR_OK;
        }
        close(fd);
    }
    return err_set(detail, ERR_TEMP, "%s: it is being replaced all the time", path);
}

// Somebody who knows nothing of our lock may listen there. To bind is to remove whatever bears the
// name.
static enum err check_free(const struct listener *listener, struct detail *detail)
{
    struct stat st;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (lstat(listener->path, &st) != 0)
        return errno == ENOENT ? ERR_OK : err_errno(detail, ERR_PERM, "%s", listener->path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(detail, ERR_PERM, "%s: there is a file that is no socket", listener->path);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", listener->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(detail, ERR_TEMP, "socket");
    // Left behind by one that was killed: refused. Anything else is somebody, or none of ours.
    bool is_dead = connect(fd, (struct sockaddr *)&address, sizeof address) != 0 &&
                   (errno == ECONNREFUSED || errno == ENOENT);
    close(fd);
    return is_dead ? ERR_OK
                   : err_set(detail, ERR_PERM, "%s: another process listens there", listener->path);
}

// Who binds, and with what mode.
struct binder {
    endpoint_bind bind;
    void *context;
    unsigned mode;
};

static enum err bind_name(const struct binder *binder, const char *name, struct detail *detail)
{
    mode_t before = umask(~binder->mode & 0777); // bind(2) is called in this thread
    enum err err = binder->bind(binder->context, name, detail);
    umask(before);
    return err;
}

static enum err bind_listener(const struct binder *binder, const char *name,
                              struct listener *listener, struct detail *detail)
{
    struct stat st;
    enum err err = take_lock(listener, detail);
    if (err == ERR_OK)
        err = check_free(listener, detail);
    if (err == ERR_OK)
        err = bind_name(binder, name, detail);
    if (err != ERR_OK)
        return err;
    if (lstat(listener->path, &st) != 0)
        return err_errno(detail, ERR_PERM, "%s", listener->path);
    listener->device = st.st_dev;
    listener->inode = st.st_ino;
    listener->is_bound = true;
    return ERR_OK;
}

enum err endpoints_bind(endpoint_bind bind, void *context, const char *const *names, size_t count,
                        unsigned mode, struct endpoints **out, struct detail *detail)
{
    const struct binder binder = {bind, context, mode};
    struct endpoints *endpoints =
        mem_calloc(1, sizeof *endpoints + count * sizeof *endpoints->listeners);
    enum err err = ERR_OK;
    if (!endpoints)
        return err_set(detail, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        struct listener *listener = &endpoints->listeners[endpoints->count++];
        bool is_absent;
        *listener = (struct listener){.path = endpoint_path(names[i]), .lock = -1};
        err = endpoint_check(names[i], &is_absent, detail);
        if (err != ERR_OK)
            break;
        err = listener->path ? bind_listener(&binder, names[i], listener, detail)
                             : bind_name(&binder, names[i], detail);
        if (err != ERR_OK)
            err = err_prefix(detail, err, "endpoint %s", names[i]);
    }
    if (err != ERR_OK) {
        endpoints_close(endpoints);
        return err;
    }
    *out = endpoints;
    return ERR_OK;
}

static void remove_own(const struct listener *listener)
{
    struct stat st;
    if (listener->is_bound && lstat(listener->path, &st) == 0 && st.st_dev == listener->device &&
        st.st_ino == listener->inode)
        unlink(listener->path);
}

void endpoints_close(struct endpoints *endpoints)
{
    if (!endpoints)
        return;
    for (size_t i = 0; i < endpoints->count; i++) {
        const struct listener *listener = &endpoints->listeners[i];
        char path[LOCK_PATH_MAX];
        if (!listener->path)
            continue;
        remove_own(listener);
        if (listener->lock < 0)
            continue;
        snprintf(path, sizeof path, "%s" LOCK_SUFFIX, listener->path);
        if (is_same(listener->lock, path))
            unlink(path);
        close(listener->lock);
    }
    mem_free(endpoints);
}
