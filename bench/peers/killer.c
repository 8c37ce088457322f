/* Ends every process that opens a file of a certain name, as a decoder's crash would: preloaded, it treats all
   libraries alike, whatever language they are written in. Used by faults.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void look(const char *path) {
    if (path && strstr(path, "kills-its-reader")) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
}

#define MODE(flags) ((flags) & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0)

#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        int mode = MODE(flags);                                               \
        va_end(rest);                                                         \
        look(path);                                                           \
        return ((int (*)(const char *, int, int))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
    }

#define OPENAT(name)                                                          \
    int name(int folder, const char *path, int flags, ...) {                  \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        int mode = MODE(flags);                                               \
        va_end(rest);                                                         \
        look(path);                                                           \
        return ((int (*)(int, const char *, int, int))dlsym(RTLD_NEXT, #name))(folder, path, flags, mode); \
    }

#define FOPEN(name)                                                           \
    FILE *name(const char *path, const char *how) {                           \
        look(path);                                                           \
        return ((FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, #name))(path, how); \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)
