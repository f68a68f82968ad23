/*
 * Preloaded into a program under test: a disk that fills up, one that becomes read-only, a wall clock that is turned back.
 * What holds is read from a file that the test maps as well (struct control), named by ADLAKE_SHIM; only files under the
 * folder named by ADLAKE_SHIM_FOLDER are concerned, and of clocks only the wall clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    _Atomic int64_t clock_offset_ms;
    _Atomic int64_t space_bytes; /* left on the disk; -1: no end to it */
    _Atomic int64_t read_only;
    _Atomic int64_t refusals; /* counted here, read by the test */
};

static struct control nothing = {0, -1, 0, 0};
static struct control *control = &nothing;
static const char *folder = "";

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("ADLAKE_SHIM");
    const char *under = getenv("ADLAKE_SHIM_FOLDER");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) control = mapped;
    if (under) folder = under;
    close(fd);
}

static int concerns(const char *path) { return folder[0] && !strncmp(path, folder, strlen(folder)); }

static int refuse(int error) {
    control->refusals++;
    errno = error;
    return -1;
}

static int refuses_changes(const char *path) { return control->read_only && concerns(path); }

/* Clocks */

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int result = real(clock, time);
    int64_t offset = control->clock_offset_ms;
    if (!result && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = time->tv_sec * 1000000000LL + time->tv_nsec + offset * 1000000LL;
        time->tv_sec = ns / 1000000000LL;
        time->tv_nsec = ns % 1000000000LL;
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    if (time) {
        time->tv_sec = now.tv_sec;
        time->tv_usec = now.tv_nsec / 1000;
    }
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* A disk that is full, or read-only */

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    int64_t left = control->space_bytes;
    if (left >= 0 && count > 0) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = 0;
            if (concerns(path)) {
                /* As disks do: what fits is written. */
                if (left == 0) return refuse(ENOSPC);
                if ((int64_t)count > left) count = left;
                control->space_bytes -= count;
            }
        }
    }
    return real(fd, bytes, count);
}

static int changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...) {                                       \
        REAL(name);                                                                    \
        va_list rest;                                                                  \
        va_start(rest, flags);                                                         \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;      \
        va_end(rest);                                                                  \
        if (changes(flags) && refuses_changes(path)) return refuse(EROFS);             \
        return real(path, flags, mode);                                                \
    }
OPEN(open)
OPEN(open64)

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return refuses_changes(path) ? refuse(EROFS) : real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return refuses_changes(to) ? refuse(EROFS) : real(from, to);
}

int link(const char *from, const char *to) {
    REAL(link);
    return refuses_changes(to) ? refuse(EROFS) : real(from, to);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    REAL(linkat);
    return refuses_changes(to) ? refuse(EROFS) : real(from_fd, from, to_fd, to, flags);
}

int unlink(const char *path) {
    REAL(unlink);
    return refuses_changes(path) ? refuse(EROFS) : real(path);
}
