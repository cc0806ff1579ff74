/* The limit of durable appends on this machine: writers append records to one file, and one of those that wait
 * flushes for all (group commit). Nothing is indexed, hashed or checked.
 *
 *     group_commit DIRECTORY WRITERS SECONDS RECORD_BYTES
 *
 * prints: records a second, median and 99th percentile of the wait in microseconds, flushes a second.
 *
 *     cc -O2 -o group_commit group_commit.c -lpthread
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WAITS_KEPT = 200000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t flushed = PTHREAD_COND_INITIALIZER;
static long written, durable, flushes;
static int flushing, log_file, record_bytes;
static volatile int stop;

struct writer {
    pthread_t thread;
    long records;
    float *wait_us;
};

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void append(const char *record) {
    pthread_mutex_lock(&mutex);
    if (write(log_file, record, record_bytes) != record_bytes)
        abort();
    long mine = ++written;
    while (durable < mine) {
        if (flushing) {
            pthread_cond_wait(&flushed, &mutex);
            continue;
        }
        flushing = 1;
        long upto = written;
        pthread_mutex_unlock(&mutex);
        if (fdatasync(log_file) != 0)
            abort();
        pthread_mutex_lock(&mutex);
        flushes++;
        if (upto > durable)
            durable = upto;
        flushing = 0;
        pthread_cond_broadcast(&flushed);
    }
    pthread_mutex_unlock(&mutex);
}

static void *write_records(void *argument) {
    struct writer *me = argument;
    char *record = malloc(record_bytes);
    memset(record, 'x', record_bytes);
    while (!stop) {
        double started = seconds();
        append(record);
        if (me->records < WAITS_KEPT)
            me->wait_us[me->records] = (seconds() - started) * 1e6;
        me->records++;
    }
    free(record);
    return NULL;
}

static int ascending(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

int main(int count, char **argument) {
    if (count != 5) {
        fprintf(stderr, "usage: %s DIRECTORY WRITERS SECONDS RECORD_BYTES\n", argument[0]);
        return 2;
    }
    int writers = atoi(argument[2]);
    double wanted = atof(argument[3]);
    record_bytes = atoi(argument[4]);
    char path[4096];
    snprintf(path, sizeof path, "%s/group_commit.log", argument[1]);
    log_file = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
    if (log_file < 0) {
        perror(path);
        return 1;
    }
    struct writer *all = calloc(writers, sizeof *all);
    double started = seconds();
    for (int i = 0; i < writers; i++) {
        all[i].wait_us = malloc(WAITS_KEPT * sizeof(float));
        pthread_create(&all[i].thread, NULL, write_records, &all[i]);
    }
    usleep((useconds_t)(wanted * 1e6));
    stop = 1;
    long records = 0, kept = 0;
    for (int i = 0; i < writers; i++) {
        pthread_join(all[i].thread, NULL);
        records += all[i].records;
    }
    double took = seconds() - started;
    float *waits = malloc((records + 1) * sizeof(float));
    for (int i = 0; i < writers; i++)
        for (long j = 0; j < all[i].records && j < WAITS_KEPT; j++)
            waits[kept++] = all[i].wait_us[j];
    qsort(waits, kept, sizeof(float), ascending);
    printf("%.1f %.1f %.1f %.1f\n", records / took, waits[kept / 2], waits[(long)(kept * 0.99)], flushes / took);
    unlink(path);
    return 0;
}
