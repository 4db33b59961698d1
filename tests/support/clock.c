/* A kernel clock that a test sets: wall time, its synchronised flag, time since boot, and the boot id.
 *
 * Loaded before libc (LD_PRELOAD). What it says stands in a file of four 64-bit numbers that the test writes:
 * when the machine "booted" (CLOCK_BOOTTIME ns), wall time minus time since that boot (ns), whether the kernel
 * holds it for synchronised, and its maximum error (us). Other clocks are the machine's own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
struct clockwork { volatile int64_t booted, offset, synchronised, error_us; };

static const struct clockwork *clockwork(void) {
    static const struct clockwork *mapped;
    if (!mapped) {
        int fd = syscall(SYS_openat, AT_FDCWD, getenv("TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
        mapped = mmap(NULL, sizeof *mapped, PROT_READ, MAP_SHARED, fd, 0);
        if (mapped == MAP_FAILED) abort();
        close(fd);
    }
    return mapped;
}

static int64_t since_boot(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec - clockwork()->booted;
}

static int64_t wall(void) { return since_boot() + clockwork()->offset; }

static void put(struct timespec *out, int64_t ns) {
    out->tv_sec = ns / 1000000000LL;
    out->tv_nsec = ns % 1000000000LL;
}

int clock_gettime(clockid_t id, struct timespec *out) {
    if (id == CLOCK_BOOTTIME) return put(out, since_boot()), 0;
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) return put(out, wall()), 0;
    return syscall(SYS_clock_gettime, id, out);
}

int gettimeofday(struct timeval *out, void *zone) {
    int64_t ns = wall();
    (void)zone;
    out->tv_sec = ns / 1000000000LL;
    out->tv_usec = ns % 1000000000LL / 1000;
    return 0;
}

time_t time(time_t *out) {
    time_t now = wall() / 1000000000LL;
    if (out) *out = now;
    return now;
}

int adjtimex(struct timex *out) {
    memset(out, 0, sizeof *out);
    out->maxerror = clockwork()->error_us;
    return clockwork()->synchronised ? TIME_OK : TIME_ERROR;
}

static int opened(const char *path, int flags, va_list rest) {
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    if (!strcmp(path, BOOT_ID)) path = getenv("TEST_BOOT_ID");
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int fd = opened(path, flags, rest);
    va_end(rest);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int fd = opened(path, flags | O_LARGEFILE, rest);
    va_end(rest);
    return fd;
}
