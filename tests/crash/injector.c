/* A fault at any call that changes the disk: a library that is loaded before the C library and stands in its way.
 *
 *     gcc -shared -fPIC -o injector.so injector.c -ldl -lpthread        LD_PRELOAD=injector.so python ...
 *
 * Every function below that changes a file, a directory or what is durable has the name of one of the C library's and passes
 * the call on to it. A process that has called haul_arm() is different: calls that concern files below the directory it named
 * are numbered, over all threads and one at a time, and the one with the chosen number
 *
 *     is the last thing that the process does not do (die before), or the last that it does (die after), or
 *     fails with an error number, once or from then on for good.
 *
 * An error is only given by calls that can give it (can_give): a full disk does not keep anybody from deleting, and one that
 * cannot open another file can still write to those it has. Calls that cannot give it are not counted then.
 *
 * haul_record() has every change written down, in order and with its bytes: what a power cut may leave is built from that
 * (power.py). What a record looks like is told at `struct head`.
 *
 * Kill and power loss are different things: what a killed process has written, the kernel keeps. So nothing here ever has to
 * reach a real disk, and an armed process does not wait for one: its syncs are counted, written down, and answered at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

/* What is done to the disk. injector.py has the same list. */
enum kind { OPEN, CREATE, WRITE, TRUNCATE, SYNC_FILE, SYNC_DIRECTORY, SYNC_ALL, RENAME, LINK, UNLINK, MKDIR, RMDIR, ATTRIBUTE, BIND, MARK };

/* When the process dies, or that the call fails. injector.py has the same list. */
enum fault { NONE, DIE_BEFORE, DIE_AFTER, FAIL_ONCE, FAIL_FOR_GOOD };

struct change {
    enum kind kind;
    char path[PATH_MAX];
    char other[PATH_MAX];  /* where a rename or link goes */
    int descriptor;        /* of the file, where the caller has one; else -1 */
    const void *data;
    int64_t offset;        /* of a write; of a truncation, the new size */
};

/* A record: this, then path, other and data, none of them ended by a zero. Numbers as this machine has them. */
struct head {
    uint32_t kind;
    uint32_t path_size;
    uint32_t other_size;
    uint32_t data_size;
    int64_t offset;
    uint64_t inode;        /* of the file or directory, as it is afterwards; 0 where it is gone */
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char below[PATH_MAX];   /* the directory whose changes count; empty: not armed */
static enum fault fault = NONE;
static long chosen;            /* the number of the call that it happens to */
static int error_number;
static long counted;
static int record_to = -1;
static long pretended_type;    /* what statfs says of the file system; 0: the truth */

static bool below_it(const char *path)
{
    size_t size = strlen(below);

    return size && strncmp(path, below, size) == 0 && (path[size] == '/' || path[size] == 0);
}

/* --- what is asked for, by ctypes ------------------------------------------------------------------------------------ */

void haul_arm(const char *directory, int what, long at, int number)
{
    snprintf(below, sizeof below, "%s", directory);
    fault = what;
    chosen = at;
    error_number = number;
    counted = 0;
}

void haul_disarm(void)
{
    pthread_mutex_lock(&turn);
    below[0] = 0;
    record_to = -1;
    pthread_mutex_unlock(&turn);
}

void haul_record(int descriptor)
{
    record_to = descriptor;
}

void haul_pretend(long file_system_type)
{
    pretended_type = file_system_type;
}

long haul_counted(void)
{
    return counted;
}

static void record(const struct change *change, long result);

/* A word between the records, for whoever reads them: what comes after it came later. */
void haul_mark(const char *word)
{
    struct change mark = {.kind = MARK, .descriptor = -1};

    snprintf(mark.path, sizeof mark.path, "%s", word);
    pthread_mutex_lock(&turn);
    if (record_to >= 0)
        record(&mark, 0);
    pthread_mutex_unlock(&turn);
}

/* --- around each call ------------------------------------------------------------------------------------------------ */

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static bool can_give(enum kind kind, int number)
{
    switch (number) {
    case EMFILE:
        return kind == OPEN || kind == CREATE;
    case ENOSPC:
        return kind == CREATE || kind == WRITE || kind == SYNC_FILE || kind == SYNC_ALL || kind == RENAME || kind == LINK
            || kind == MKDIR || kind == BIND;
    case EACCES:
        return kind == CREATE || kind == RENAME || kind == LINK || kind == UNLINK || kind == MKDIR || kind == RMDIR
            || kind == ATTRIBUTE || kind == BIND;
    default:
        return kind != OPEN;
    }
}

/* Take the turn; die, or say that the call is to fail. Whoever is told so has given the turn back already. */
static bool refused(const struct change *change)
{
    bool fails = fault == FAIL_ONCE || fault == FAIL_FOR_GOOD;

    pthread_mutex_lock(&turn);
    if (fails ? !can_give(change->kind, error_number) : change->kind == OPEN)
        return false;
    counted++;
    if (fault == DIE_BEFORE && counted == chosen)
        die();
    if ((fault == FAIL_ONCE && counted == chosen) || (fault == FAIL_FOR_GOOD && counted >= chosen && chosen > 0)) {
        pthread_mutex_unlock(&turn);
        errno = error_number;
        return true;
    }
    return false;
}

static void record(const struct change *change, long result)
{
    struct stat found;
    struct head head = {
        .kind = change->kind,
        .path_size = strlen(change->path),
        .other_size = strlen(change->other),
        .data_size = change->data ? result : 0,
        .offset = change->offset,
    };
    const char *now = change->other[0] ? change->other : change->path;
    bool is_there = change->descriptor >= 0 ? fstat(change->descriptor, &found) == 0 : lstat(now, &found) == 0;
    struct iovec parts[] = {
        {&head, sizeof head},
        {(void *)change->path, head.path_size},
        {(void *)change->other, head.other_size},
        {(void *)change->data, head.data_size},
    };

    head.inode = is_there ? found.st_ino : 0;
    for (int part = 0; part < 4; part++)
        for (size_t done = 0; done < parts[part].iov_len;) {
            ssize_t written = syscall(SYS_write, record_to, (char *)parts[part].iov_base + done, parts[part].iov_len - done);
            if (written < 0)
                abort();
            done += written;
        }
}

static void done(const struct change *change, long result)
{
    int number = errno;

    if (result >= 0 && record_to >= 0 && change->kind != OPEN)
        record(change, result);
    if (fault == DIE_AFTER && counted == chosen && change->kind != OPEN)
        die();
    pthread_mutex_unlock(&turn);
    errno = number;
}

/* The C library's function of that name. */
#define REAL(name)                                                                                                            \
    static __typeof__(&name) real;                                                                                            \
    if (!real)                                                                                                                \
    real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Make the call, with what has to happen around it. */
#define AROUND(type, change, call)                                                                                            \
    if (refused(&change))                                                                                                     \
        return -1;                                                                                                            \
    type result = call;                                                                                                       \
    done(&change, result);                                                                                                    \
    return result

/* --- which file it is ------------------------------------------------------------------------------------------------ */

/* The path that a descriptor was opened by, or has now; whether it concerns us. */
static bool names_descriptor(int descriptor, char *path)
{
    char link[64];

    if (!below[0])
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
    return below_it(path);
}

/* The whole path of what a call names relative to a directory; whether it concerns us. */
static bool names_path(int directory, const char *name, char *path)
{
    char base[PATH_MAX];
    ssize_t size;

    if (!below[0])
        return false;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return below_it(path);
    }
    if (directory == AT_FDCWD) {
        size = readlink("/proc/self/cwd", base, sizeof base - 1);
        base[size < 0 ? 0 : size] = 0;
    } else {
        names_descriptor(directory, base);
    }
    if (strlen(base) + strlen(name) + 2 > PATH_MAX)
        return false;
    strcpy(path, base);
    strcat(path, "/");
    strcat(path, name);
    return below_it(path);
}

/* --- opening --------------------------------------------------------------------------------------------------------- */

/* What this way of opening changes: nothing, the length of a file that is there, or a new name. */
static enum kind opening(const char *path, int flags)
{
    struct stat found;

    if ((flags & O_CREAT) && lstat(path, &found) < 0)
        return CREATE;
    return (flags & O_TRUNC) ? TRUNCATE : OPEN;
}

#define OPENS(name, parameters, directory, arguments)                                                                         \
    int name parameters                                                                                                       \
    {                                                                                                                         \
        REAL(name);                                                                                                           \
        struct change change = {.descriptor = -1};                                                                            \
        mode_t mode = 0;                                                                                                      \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                                  \
            va_list rest;                                                                                                     \
            va_start(rest, flags);                                                                                            \
            mode = va_arg(rest, mode_t);                                                                                      \
            va_end(rest);                                                                                                     \
        }                                                                                                                     \
        if (!names_path(directory, file, change.path))                                                                        \
            return real arguments;                                                                                            \
        change.kind = opening(change.path, flags);                                                                            \
        AROUND(int, change, real arguments);                                                                                  \
    }

OPENS(open, (const char *file, int flags, ...), AT_FDCWD, (file, flags, mode))
OPENS(open64, (const char *file, int flags, ...), AT_FDCWD, (file, flags, mode))
OPENS(openat, (int directory, const char *file, int flags, ...), directory, (directory, file, flags, mode))
OPENS(openat64, (int directory, const char *file, int flags, ...), directory, (directory, file, flags, mode))

/* --- bytes ----------------------------------------------------------------------------------------------------------- */

ssize_t write(int descriptor, const void *data, size_t size)
{
    REAL(write);
    struct change change = {.kind = WRITE, .descriptor = descriptor, .data = data};
    struct stat found;

    if (descriptor <= 2 || !names_descriptor(descriptor, change.path))
        return real(descriptor, data, size);
    bool appends = fcntl(descriptor, F_GETFL) & O_APPEND;
    if (appends && fstat(descriptor, &found) == 0)
        change.offset = found.st_size;
    else
        change.offset = lseek(descriptor, 0, SEEK_CUR);
    AROUND(ssize_t, change, real(descriptor, data, size));
}

/* Bytes in several pieces are written as one: what a caller hands over together is one change. */
ssize_t writev(int descriptor, const struct iovec *pieces, int count)
{
    REAL(writev);
    char path[PATH_MAX];
    size_t size = 0;

    if (descriptor <= 2 || !names_descriptor(descriptor, path))
        return real(descriptor, pieces, count);
    for (int piece = 0; piece < count; piece++)
        size += pieces[piece].iov_len;
    char *data = malloc(size), *end = data;
    for (int piece = 0; piece < count; piece++)
        end = mempcpy(end, pieces[piece].iov_base, pieces[piece].iov_len);
    ssize_t result = write(descriptor, data, size);
    free(data);
    return result;
}

#define WRITES_AT(name, offset_type)                                                                                          \
    ssize_t name(int descriptor, const void *data, size_t size, offset_type offset)                                           \
    {                                                                                                                         \
        REAL(name);                                                                                                           \
        struct change change = {.kind = WRITE, .descriptor = descriptor, .data = data, .offset = offset};                     \
        if (!names_descriptor(descriptor, change.path))                                                                       \
            return real(descriptor, data, size, offset);                                                                      \
        AROUND(ssize_t, change, real(descriptor, data, size, offset));                                                        \
    }

WRITES_AT(pwrite, off_t)
WRITES_AT(pwrite64, off64_t)

#define TRUNCATES(name, size_type)                                                                                            \
    int name(int descriptor, size_type size)                                                                                  \
    {                                                                                                                         \
        REAL(name);                                                                                                           \
        struct change change = {.kind = TRUNCATE, .descriptor = descriptor, .offset = size};                                  \
        if (!names_descriptor(descriptor, change.path))                                                                       \
            return real(descriptor, size);                                                                                    \
        AROUND(int, change, real(descriptor, size));                                                                          \
    }

TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

/* --- what is durable ------------------------------------------------------------------------------------------------- */

#define SYNCS(name)                                                                                                           \
    int name(int descriptor)                                                                                                  \
    {                                                                                                                         \
        REAL(name);                                                                                                           \
        struct change change = {.descriptor = descriptor};                                                                    \
        struct stat found;                                                                                                    \
        if (!names_descriptor(descriptor, change.path))                                                                       \
            return real(descriptor);                                                                                          \
        change.kind = fstat(descriptor, &found) == 0 && S_ISDIR(found.st_mode) ? SYNC_DIRECTORY : SYNC_FILE;                  \
        AROUND(int, change, 0);                                                                                               \
    }

SYNCS(fsync)
SYNCS(fdatasync)

int syncfs(int descriptor)
{
    REAL(syncfs);
    struct change change = {.kind = SYNC_ALL, .descriptor = descriptor};

    if (!names_descriptor(descriptor, change.path))
        return real(descriptor);
    AROUND(int, change, 0);
}

int statfs(const char *path, struct statfs *answer)
{
    REAL(statfs);
    int result = real(path, answer);

    if (result == 0 && pretended_type)
        answer->f_type = pretended_type;
    return result;
}

/* --- names ----------------------------------------------------------------------------------------------------------- */

int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    REAL(renameat);
    struct change change = {.kind = RENAME, .descriptor = -1};
    bool leaves = names_path(from_directory, from, change.path);
    bool arrives = names_path(to_directory, to, change.other);

    if (!leaves && !arrives)
        return real(from_directory, from, to_directory, to);
    AROUND(int, change, real(from_directory, from, to_directory, to));
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    REAL(linkat);
    struct change change = {.kind = LINK, .descriptor = -1};
    bool leaves = names_path(from_directory, from, change.path);
    bool arrives = names_path(to_directory, to, change.other);

    if (!leaves && !arrives)
        return real(from_directory, from, to_directory, to, flags);
    AROUND(int, change, real(from_directory, from, to_directory, to, flags));
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int directory, const char *name, int flags)
{
    REAL(unlinkat);
    struct change change = {.kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK, .descriptor = -1};

    if (!names_path(directory, name, change.path))
        return real(directory, name, flags);
    AROUND(int, change, real(directory, name, flags));
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

int mkdirat(int directory, const char *name, mode_t mode)
{
    REAL(mkdirat);
    struct change change = {.kind = MKDIR, .descriptor = -1};

    if (!names_path(directory, name, change.path))
        return real(directory, name, mode);
    AROUND(int, change, real(directory, name, mode));
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

int bind(int descriptor, const struct sockaddr *address, socklen_t size)
{
    REAL(bind);
    struct change change = {.kind = BIND, .descriptor = -1};
    const struct sockaddr_un *local = (const struct sockaddr_un *)address;

    if (address->sa_family != AF_UNIX || !local->sun_path[0] || !names_path(AT_FDCWD, local->sun_path, change.path))
        return real(descriptor, address, size);
    AROUND(int, change, real(descriptor, address, size));
}

/* --- mode, owner and time -------------------------------------------------------------------------------------------- */

#define CHANGES_ATTRIBUTE_OF_PATH(name, parameters, directory, arguments)                                                     \
    int name parameters                                                                                                       \
    {                                                                                                                         \
        REAL(name);                                                                                                           \
        struct change change = {.kind = ATTRIBUTE, .descriptor = -1};                                                         \
        if (!names_path(directory, file, change.path))                                                                        \
            return real arguments;                                                                                            \
        AROUND(int, change, real arguments);                                                                                  \
    }

#define CHANGES_ATTRIBUTE_OF_DESCRIPTOR(name, parameters, arguments)                                                          \
    int name parameters                                                                                                       \
    {                                                                                                                         \
        REAL(name);                                                                                                           \
        struct change change = {.kind = ATTRIBUTE, .descriptor = descriptor};                                                 \
        if (!names_descriptor(descriptor, change.path))                                                                       \
            return real arguments;                                                                                            \
        AROUND(int, change, real arguments);                                                                                  \
    }

CHANGES_ATTRIBUTE_OF_PATH(chmod, (const char *file, mode_t mode), AT_FDCWD, (file, mode))
CHANGES_ATTRIBUTE_OF_PATH(fchmodat, (int directory, const char *file, mode_t mode, int flags), directory,
                          (directory, file, mode, flags))
CHANGES_ATTRIBUTE_OF_PATH(chown, (const char *file, uid_t owner, gid_t group), AT_FDCWD, (file, owner, group))
CHANGES_ATTRIBUTE_OF_PATH(lchown, (const char *file, uid_t owner, gid_t group), AT_FDCWD, (file, owner, group))
CHANGES_ATTRIBUTE_OF_PATH(utimensat, (int directory, const char *file, const struct timespec times[2], int flags), directory,
                          (directory, file, times, flags))
CHANGES_ATTRIBUTE_OF_DESCRIPTOR(fchmod, (int descriptor, mode_t mode), (descriptor, mode))
CHANGES_ATTRIBUTE_OF_DESCRIPTOR(fchown, (int descriptor, uid_t owner, gid_t group), (descriptor, owner, group))
CHANGES_ATTRIBUTE_OF_DESCRIPTOR(futimens, (int descriptor, const struct timespec times[2]), (descriptor, times))
