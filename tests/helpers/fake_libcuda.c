/* A CUDA driver without a device, for tests: memory is the host's, copies are made, kernels are counted and not run.
 * What numba-cuda and its libraries ask for on the host is here, and no more. Numbers are those of cuda.h.
 *
 * FAKE_CUDA_MEMORY   bytes of a device (default 16 GiB); more than that is out of memory
 * FAKE_CUDA_DEVICES  how many (default 1)
 * FAKE_CUDA_FAIL_AT  the launch from which on every call fails with an illegal address, as a real one does
 *
 * FAKE_CUDA_VERSION  the driver's, 1000 * major + 10 * minor (default 12090)
 *
 * The environment is read at each call, so that a test may change it. `fake_cuda_count` gives what was counted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700,
       NOT_SUPPORTED = 801 };
enum { LAUNCHES, LIVE_BYTES, LIVE_BLOCKS, PINNED_BYTES, PINNED_BLOCKS, PUSHES, DEPTH, EVENTS, STREAMS, COPIES, NUM_COUNTS };

typedef struct Block { void *at; size_t size; struct Block *next; } Block;
static long long counts[NUM_COUNTS];
static Block *blocks, *pinned;
static int contexts[64], events[1 << 20], streams[1 << 16];
static __thread int *stack[1 << 16];
static __thread int depth;
static int *primary(int device) { return &contexts[device]; }

static long long setting(const char *name, long long otherwise) {
    const char *text = getenv(name);
    return text ? atoll(text) : otherwise;
}
static int broken(void) {
    long long at = setting("FAKE_CUDA_FAIL_AT", -1);
    return at >= 0 && counts[LAUNCHES] > at ? ILLEGAL_ADDRESS : OK;
}
static int ready(void) { return depth ? broken() : INVALID_CONTEXT; }
#define READY do { int _code = ready(); if (_code) return _code; } while (0)
static long long device_bytes(void) { return setting("FAKE_CUDA_MEMORY", 16ll << 30); }

long long fake_cuda_count(int which) { return which == DEPTH ? depth : counts[which]; }

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : OK; }
int cuDriverGetVersion(int *version) { *version = (int)setting("FAKE_CUDA_VERSION", 12090); return OK; }
int cuDeviceGetCount(int *count) { *count = (int)setting("FAKE_CUDA_DEVICES", 1); return OK; }
int cuDeviceGet(int *device, int index) { *device = index; return OK; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "fake %d", device); return OK; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, device, 16); return OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = device_bytes(); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {
    case 75: *value = 9; break;
    case 76: *value = 0; break;
    case 16: *value = 132; break;      /* multiprocessors */
    case 13: *value = 1980000; break;  /* clock rate in kHz */
    case 1: *value = 1024; break;
    default: *value = 1;
    }
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = primary(device); return OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return OK; }
int cuDevicePrimaryCtxReset_v2(int device) { (void)device; return OK; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { (void)device; *flags = 0; *active = 1; return OK; }
int cuCtxGetCurrent(void **context) { *context = depth ? stack[depth - 1] : NULL; return OK; }
int cuCtxSetCurrent(void *context) {
    if (!context) { depth = 0; return OK; }
    if (!depth) depth = 1;
    stack[depth - 1] = context;
    return OK;
}
int cuCtxPushCurrent_v2(void *context) { counts[PUSHES]++; stack[depth++] = context; return OK; }
int cuCtxPopCurrent_v2(void **context) {
    if (!depth) return INVALID_CONTEXT;
    int *top = stack[--depth];
    if (context) *context = top;
    return OK;
}
int cuCtxGetDevice(int *device) {
    if (!depth) return INVALID_CONTEXT;
    *device = (int)(stack[depth - 1] - contexts);
    return OK;
}
int cuCtxGetDevice_v2(int *device, void *context) { *device = (int)((int *)context - contexts); return OK; }
int cuCtxGetId(void *context, unsigned long long *id) { *id = 1 + ((int *)(context ? context : stack[depth - 1]) - contexts); return OK; }
int cuCtxSynchronize(void) { READY; return OK; }
int cuCtxSynchronize_v2(void *c) { (void)c; READY; return OK; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return OK; }

static Block *made(Block **list, size_t size) {
    Block *block = malloc(sizeof *block);
    *block = (Block){calloc(1, size ? size : 1), size, *list};
    *list = block;
    return block;
}
static long long freed(Block **list, void *at) {
    for (Block **link = list; *link; link = &(*link)->next)
        if ((*link)->at == at) {
            Block *block = *link;
            long long size = block->size;
            *link = block->next;
            free(block->at);
            free(block);
            return size;
        }
    return -1;
}
int cuMemAlloc_v2(uint64_t *pointer, size_t size) {
    READY;
    if (counts[LIVE_BYTES] + (long long)size > device_bytes()) return OUT_OF_MEMORY;
    counts[LIVE_BYTES] += size; counts[LIVE_BLOCKS]++;
    *pointer = (uint64_t)(uintptr_t)made(&blocks, size)->at;
    return OK;
}
int cuMemFree_v2(uint64_t pointer) {
    READY;
    long long size = freed(&blocks, (void *)(uintptr_t)pointer);
    if (size < 0) return INVALID_VALUE;
    counts[LIVE_BYTES] -= size; counts[LIVE_BLOCKS]--;
    return OK;
}
int cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
    (void)flags;
    READY;
    counts[PINNED_BYTES] += size; counts[PINNED_BLOCKS]++;
    *pointer = made(&pinned, size)->at;
    return OK;
}
int cuMemFreeHost(void *pointer) {
    READY;
    long long size = freed(&pinned, pointer);
    if (size < 0) return INVALID_VALUE;
    counts[PINNED_BYTES] -= size; counts[PINNED_BLOCKS]--;
    return OK;
}
int cuMemGetInfo_v2(size_t *available, size_t *total) {
    READY;
    *total = device_bytes();
    *available = *total - counts[LIVE_BYTES];
    return OK;
}
static int copied(void *to, const void *from, size_t size) { READY; counts[COPIES]++; memcpy(to, from, size); return OK; }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { return copied((void *)(uintptr_t)to, from, size); }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { return copied(to, (void *)(uintptr_t)from, size); }
int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t size) { return copied((void *)(uintptr_t)to, (void *)(uintptr_t)from, size); }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *s) { (void)s; return copied((void *)(uintptr_t)to, from, size); }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *s) { (void)s; return copied(to, (void *)(uintptr_t)from, size); }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *s) { (void)s; return copied((void *)(uintptr_t)to, (void *)(uintptr_t)from, size); }
int cuPointerGetAttribute(void *data, int attribute, uint64_t pointer) { (void)data; (void)attribute; (void)pointer; return INVALID_VALUE; }

int cuStreamCreate(void **stream, unsigned flags) { (void)flags; READY; *stream = &streams[++counts[STREAMS]]; return OK; }
int cuStreamDestroy_v2(void *stream) { (void)stream; READY; return OK; }
int cuStreamSynchronize(void *stream) { (void)stream; READY; return OK; }
int cuStreamWaitEvent(void *s, void *e, unsigned flags) { (void)s; (void)e; (void)flags; READY; return OK; }
int cuStreamGetCtx(void *s, void **context) { (void)s; *context = stack[depth - 1]; return OK; }
int cuEventCreate(void **event, unsigned flags) { (void)flags; READY; *event = &events[++counts[EVENTS]]; return OK; }
int cuEventDestroy_v2(void *event) { (void)event; READY; return OK; }
int cuEventRecord(void *e, void *s) { (void)e; (void)s; READY; return OK; }
int cuEventSynchronize(void *e) { (void)e; READY; return OK; }
int cuEventQuery(void *e) { (void)e; READY; return OK; }
int cuEventElapsedTime(float *ms, void *a, void *b) { (void)a; (void)b; READY; *ms = 1; return OK; }
int cuEventElapsedTime_v2(float *ms, void *a, void *b) { return cuEventElapsedTime(ms, a, b); }

static int libraries[1 << 12], num_libraries;
int cuLibraryLoadData(void **out, const void *code, void *a, void *b, unsigned n, void *c, void *d, unsigned m) {
    (void)code; (void)a; (void)b; (void)n; (void)c; (void)d; (void)m;
    READY; *out = &libraries[++num_libraries]; return OK;
}
int cuLibraryUnload(void *l) { (void)l; return OK; }
int cuLibraryGetKernel(void **out, void *l, const char *name) { (void)name; *out = l; return OK; }
int cuLibraryGetModule(void **out, void *l) { *out = l; return OK; }
int cuModuleGetFunction(void **out, void *m, const char *name) { (void)name; *out = m; return OK; }
int cuLibraryGetGlobal(uint64_t *p, size_t *n, void *l, const char *name) { (void)p; (void)n; (void)l; (void)name; return NOT_FOUND; }
int cuModuleGetGlobal_v2(uint64_t *p, size_t *n, void *l, const char *name) { (void)p; (void)n; (void)l; (void)name; return NOT_FOUND; }
int cuKernelGetFunction(void **out, void *k) { *out = k; return OK; }
int cuKernelGetAttribute(int *value, int a, void *k, int device) { (void)a; (void)k; (void)device; *value = 64; return OK; }
int cuFuncGetAttribute(int *value, int a, void *k) { (void)a; (void)k; *value = 64; return OK; }
int cuKernelGetParamInfo(void *k, size_t i, size_t *o, size_t *s) { (void)k; (void)i; (void)o; (void)s; return INVALID_VALUE; }
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned n, void *s, void **p, void **e) {
    (void)f; (void)n; (void)s; (void)p; (void)e;
    READY;
    if (!gx || gx > 2147483647u || !gy || gy > 65535 || !gz || gz > 65535 || !bx || bx > 1024 || !by || by > 1024 || !bz || bz > 64 || bx * by * bz > 1024)
        return INVALID_VALUE;
    counts[LAUNCHES]++;
    return OK;
}
typedef struct { unsigned gx, gy, gz, bx, by, bz, shared; void *stream; void *attributes; unsigned num; } Config;
int cuLaunchKernelEx(const Config *c, void *f, void **p, void **e) {
    return cuLaunchKernel(f, c->gx, c->gy, c->gz, c->bx, c->by, c->bz, c->shared, c->stream, p, e);
}
static const char *const names[] = {"CUDA_SUCCESS", "CUDA_ERROR"};
int cuGetErrorName(int code, const char **text) { *text = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : names[code != 0]; return OK; }
int cuGetErrorString(int code, const char **text) { return cuGetErrorName(code, text); }

static int absent(void) { return NOT_SUPPORTED; }
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    (void)flags;
    char versioned[256];
    static void *own;
    if (!own) { Dl_info info; dladdr((void *)&cuInit, &info); own = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD); }
    snprintf(versioned, sizeof versioned, "%s_v2", symbol);
    int later = version < 13000 && (!strcmp(symbol, "cuCtxGetDevice") || !strcmp(symbol, "cuCtxSynchronize"));
    *function = later ? NULL : dlsym(own, versioned);
    if (!*function) *function = dlsym(own, symbol);
    if (!*function) *function = (void *)absent;
    if (status) *status = 0;
    return OK;
}
