/* Loaded with LD_PRELOAD: counts the calls that change files below one directory, and at the chosen one kills or fails.
 *
 * Every library of the process is reached: Python, SQLite, safetensors. What it does comes from the environment, read
 * when it is loaded and again by `kill_points_prepare`, for a process that was forked and not started:
 *   KILL_POINTS_UNDER    directory; calls on files elsewhere are not counted
 *   KILL_POINTS_COUNTER  file of 8 bytes that all processes count in together
 *   KILL_POINTS_AT       number of the call, from 1; absent: count only
 *   KILL_POINTS_ACTION   before | torn | after: SIGKILL before the call, after half of its bytes, after it;
 *                        errno:N: the call is not made and fails with errno N; torn-errno:N: half of its bytes first;
 *                        full: every one from it on that takes space fails with ENOSPC;
 *                        dead: every one from it on fails with EROFS (a disk that was remounted read-only)
 *   KILL_POINTS_WHOM     process | group
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BEFORE, TORN, AFTER, ERRNO, TORN_ERRNO, FULL, DEAD };
static const char *const ACTIONS[] = {"before", "torn", "after", "errno:", "torn-errno:", "full", "dead"};

static _Atomic long *counter;
static long chosen;
static char under[4096];
static int what; /* of ACTIONS */
static int number; /* of the error */
static int whole_group;

__attribute__((constructor)) void kill_points_prepare(void) {
  const char *place = getenv("KILL_POINTS_COUNTER"), *directory = getenv("KILL_POINTS_UNDER");
  const char *at = getenv("KILL_POINTS_AT"), *action = getenv("KILL_POINTS_ACTION"), *whom = getenv("KILL_POINTS_WHOM");
  counter = NULL;
  if (!place || !directory) return;
  int file = open(place, O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  void *memory = mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return;
  snprintf(under, sizeof under, "%s", directory);
  chosen = at ? atol(at) : 0;
  what = BEFORE;
  for (int i = 0; action && i <= DEAD; i++)
    if (!strncmp(action, ACTIONS[i], strlen(ACTIONS[i]))) what = i;
  number = what == FULL ? ENOSPC : what == DEAD ? EROFS : action && strchr(action, ':') ? atoi(strchr(action, ':') + 1) : 0;
  whole_group = whom && !strcmp(whom, "group");
  counter = memory;
}

static int below(const char *path) {
  size_t length = strlen(under);
  return !strncmp(path, under, length) && (path[length] == '/' || path[length] == 0);
}

static int of_descriptor(int descriptor) {
  if (!counter) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return below(path);
}

static int of_path(int directory, const char *path) {
  if (!counter) return 0;
  if (path[0] == '/') return below(path);
  if (directory != AT_FDCWD) return of_descriptor(directory);
  char here[4096];
  return getcwd(here, sizeof here) && below(here);
}

static int is_chosen(int takes_space) {
  long call = atomic_fetch_add(counter, 1) + 1;
  if (!chosen || call < chosen) return 0;
  return what == FULL ? takes_space : what == DEAD || call == chosen;
}

static void end(void) {
  kill(whole_group ? 0 : getpid(), SIGKILL);
  for (;;) pause();
}

/* Whether the call is to fail, with errno set; kills where the process is to end before the call. */
static int fails(void) {
  if (what >= ERRNO) {
    errno = number;
    return 1;
  }
  if (what != AFTER) end();
  return 0;
}

static int torn(void) { return what == TORN || what == TORN_ERRNO; }

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define COUNTED(applies, takes_space, call, half) \
  if (!(applies) || !is_chosen(takes_space)) return call; \
  if (torn()) (void)!(half); \
  if (fails()) return -1; \
  (void)!(call); \
  end(); \
  return -1

#define CHANGE(applies, call) COUNTED(applies, 0, call, 0)
#define MAKE(applies, call) COUNTED(applies, 1, call, 0)
#define WRITE(applies, call, half) COUNTED(applies, 1, call, half)

/* An open that makes a file or empties one. */
static int changes(int directory, const char *path, int flags) {
  if (!(flags & (O_CREAT | O_TRUNC)) || !of_path(directory, path)) return 0;
  return (flags & O_TRUNC) || faccessat(directory, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
}

#define MODE \
  mode_t mode = 0; \
  if (flags & O_CREAT) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, mode_t); \
    va_end(rest); \
  }

int open(const char *path, int flags, ...) {
  REAL(int, open, const char *, int, ...);
  MODE MAKE(changes(AT_FDCWD, path, flags), real(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
  REAL(int, open64, const char *, int, ...);
  MODE MAKE(changes(AT_FDCWD, path, flags), real(path, flags, mode));
}

int openat(int directory, const char *path, int flags, ...) {
  REAL(int, openat, int, const char *, int, ...);
  MODE MAKE(changes(directory, path, flags), real(directory, path, flags, mode));
}

int openat64(int directory, const char *path, int flags, ...) {
  REAL(int, openat64, int, const char *, int, ...);
  MODE MAKE(changes(directory, path, flags), real(directory, path, flags, mode));
}

ssize_t sendfile(int to, int from, off_t *where, size_t size) {
  REAL(ssize_t, sendfile, int, int, off_t *, size_t);
  WRITE(of_descriptor(to), real(to, from, where, size), real(to, from, where, size / 2));
}

ssize_t sendfile64(int to, int from, off64_t *where, size_t size) {
  REAL(ssize_t, sendfile64, int, int, off64_t *, size_t);
  WRITE(of_descriptor(to), real(to, from, where, size), real(to, from, where, size / 2));
}

ssize_t copy_file_range(int from, off64_t *there, int to, off64_t *here, size_t size, unsigned flags) {
  REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
  WRITE(of_descriptor(to), real(from, there, to, here, size, flags), real(from, there, to, here, size / 2, flags));
}

ssize_t write(int file, const void *data, size_t size) {
  REAL(ssize_t, write, int, const void *, size_t);
  WRITE(of_descriptor(file), real(file, data, size), real(file, data, size / 2));
}

ssize_t pwrite(int file, const void *data, size_t size, off_t where) {
  REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
  WRITE(of_descriptor(file), real(file, data, size, where), real(file, data, size / 2, where));
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t where) {
  REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
  WRITE(of_descriptor(file), real(file, data, size, where), real(file, data, size / 2, where));
}

ssize_t writev(int file, const struct iovec *parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec *, int);
  WRITE(of_descriptor(file), real(file, parts, count), real(file, parts, count / 2));
}

int fsync(int file) {
  REAL(int, fsync, int);
  CHANGE(of_descriptor(file), real(file));
}

int fdatasync(int file) {
  REAL(int, fdatasync, int);
  CHANGE(of_descriptor(file), real(file));
}

int ftruncate(int file, off_t size) {
  REAL(int, ftruncate, int, off_t);
  CHANGE(of_descriptor(file), real(file, size));
}

int ftruncate64(int file, off64_t size) {
  REAL(int, ftruncate64, int, off64_t);
  CHANGE(of_descriptor(file), real(file, size));
}

int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *);
  CHANGE(of_path(AT_FDCWD, to), real(from, to));
}

int renameat(int here, const char *from, int there, const char *to) {
  REAL(int, renameat, int, const char *, int, const char *);
  CHANGE(of_path(there, to), real(here, from, there, to));
}

int renameat2(int here, const char *from, int there, const char *to, unsigned flags) {
  REAL(int, renameat2, int, const char *, int, const char *, unsigned);
  CHANGE(of_path(there, to), real(here, from, there, to, flags));
}

int link(const char *from, const char *to) {
  REAL(int, link, const char *, const char *);
  MAKE(of_path(AT_FDCWD, to), real(from, to));
}

int linkat(int here, const char *from, int there, const char *to, int flags) {
  REAL(int, linkat, int, const char *, int, const char *, int);
  MAKE(of_path(there, to), real(here, from, there, to, flags));
}

int unlink(const char *path) {
  REAL(int, unlink, const char *);
  CHANGE(of_path(AT_FDCWD, path), real(path));
}

int unlinkat(int directory, const char *path, int flags) {
  REAL(int, unlinkat, int, const char *, int);
  CHANGE(of_path(directory, path), real(directory, path, flags));
}

int mkdir(const char *path, mode_t mode) {
  REAL(int, mkdir, const char *, mode_t);
  MAKE(of_path(AT_FDCWD, path), real(path, mode));
}

int rmdir(const char *path) {
  REAL(int, rmdir, const char *);
  CHANGE(of_path(AT_FDCWD, path), real(path));
}

int chmod(const char *path, mode_t mode) {
  REAL(int, chmod, const char *, mode_t);
  CHANGE(of_path(AT_FDCWD, path), real(path, mode));
}

int chown(const char *path, uid_t user, gid_t group) {
  REAL(int, chown, const char *, uid_t, gid_t);
  CHANGE(of_path(AT_FDCWD, path), real(path, user, group));
}

int utimensat(int directory, const char *path, const struct timespec times[2], int flags) {
  REAL(int, utimensat, int, const char *, const struct timespec *, int);
  CHANGE(of_path(directory, path), real(directory, path, times, flags));
}
