/* A preloaded library that makes every flush take as long as on the flash card of a real shop.
 *
 * SLOW_FSYNC_US microseconds are slept before each fsync, fdatasync and sync_file_range, then the real call is made.
 * A card flushes one thing at a time, so the sleep is taken under one lock for the whole process.
 *
 *     cc -O2 -shared -fPIC -o slow_fsync.so slow_fsync.c -ldl -lpthread
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t card = PTHREAD_MUTEX_INITIALIZER;

static void wait_for_card(void) {
    const char *text = getenv("SLOW_FSYNC_US");
    long us = text ? atol(text) : 0;
    if (us <= 0)
        return;
    struct timespec pause = {us / 1000000, (us % 1000000) * 1000};
    pthread_mutex_lock(&card);
    nanosleep(&pause, NULL);
    pthread_mutex_unlock(&card);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_for_card();
    return real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_for_card();
    return real(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags) {
    static int (*real)(int, off64_t, off64_t, unsigned int);
    if (!real)
        real = (int (*)(int, off64_t, off64_t, unsigned int))dlsym(RTLD_NEXT, "sync_file_range");
    wait_for_card();
    return real(fd, offset, count, flags);
}
