/* Memory for libcamera on a kernel without /dev/dma_heap and /dev/udmabuf, for tests only: preloaded, it answers both
 * names, and a buffer is a memfd. Nothing else that a process opens or asks is touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static int is_heap(const char *path)
{
    return path && (!strcmp(path, "/dev/dma_heap/linux,cma") || !strcmp(path, "/dev/udmabuf"));
}

static int open_as(const char *name, const char *path, int flags, mode_t mode)
{
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, name);

    return is_heap(path) ? memfd_create("heap", MFD_CLOEXEC) : next(path, flags, mode);
}

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return open_as("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return open_as("open64", path, flags, mode);
}

/* What a compiler makes of open() with two arguments under _FORTIFY_SOURCE. */
int __open_2(const char *path, int flags) { return open_as("open", path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_as("open64", path, flags, 0); }

int ioctl(int file, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (request == DMA_HEAP_IOCTL_ALLOC) {
        struct dma_heap_allocation_data *wanted = argument;
        int made = memfd_create("buffer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (made < 0 || ftruncate(made, wanted->len) < 0)
            return -1;
        wanted->fd = made;
        return 0;
    }
    if (request == UDMABUF_CREATE)
        return fcntl(((struct udmabuf_create *)argument)->memfd, F_DUPFD_CLOEXEC, 3);
    if (_IOC_TYPE(request) == DMA_BUF_BASE && _IOC_NR(request) <= 1)
        return 0; /* a memfd needs no DMA_BUF_IOCTL_SYNC and has no name to set */
    int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return next(file, request, argument);
}
