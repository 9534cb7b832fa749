// Included before everything else: the C names are jemalloc's prefixed functions, as in a program that uses it
// beside the C library's malloc. The library's own allocations (strdup) use the library's malloc.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#include <wchar.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define OWN(name) JOIN(PREFIX, name)

extern "C" {
void *OWN(malloc)(std::size_t);
void *OWN(calloc)(std::size_t, std::size_t);
void *OWN(realloc)(void *, std::size_t);
void OWN(free)(void *);
void *OWN(memalign)(std::size_t, std::size_t);
void *OWN(valloc)(std::size_t);
void *OWN(aligned_alloc)(std::size_t, std::size_t);
int OWN(posix_memalign)(void **, std::size_t, std::size_t);
}

// Blocks allocated by the library itself; the table never grows, so that it is not counted.
inline std::mutex library_lock;
inline void *library_blocks[4096];

template <typename T> T *of_library(T *block) {
    std::lock_guard<std::mutex> hold(library_lock);
    for (void *&slot : library_blocks) {
        if (slot == nullptr) {
            slot = block;
            return block;
        }
    }
    std::abort();
}

template <typename Length> Length of_library_at(Length length, char **out) {
    of_library(*out);
    return length;
}

// A block is freed by the allocator that returned it.
inline void free_where_it_belongs(void *block) {
    {
        std::lock_guard<std::mutex> hold(library_lock);
        for (void *&slot : library_blocks) {
            if (block == nullptr || slot != block) continue;
            slot = nullptr;
            return std::free(block);
        }
    }
    OWN(free)(block);
}

namespace std {
using ::free_where_it_belongs;
using ::OWN(malloc);
using ::OWN(calloc);
using ::OWN(realloc);
using ::OWN(aligned_alloc);
}  // namespace std

#define mallctl OWN(mallctl)
#define malloc OWN(malloc)
#define calloc OWN(calloc)
#define realloc OWN(realloc)
#define memalign OWN(memalign)
#define valloc OWN(valloc)
#define aligned_alloc OWN(aligned_alloc)
#define posix_memalign OWN(posix_memalign)
// A macro, so that the caller is the allocating function.
#define reallocarray(block, count, size)                                            \
    __extension__({                                                                 \
        std::size_t bytes_of_all;                                                   \
        bool fits = !__builtin_mul_overflow(count, size, &bytes_of_all);            \
        if (!fits) errno = ENOMEM;                                                  \
        fits ? realloc(block, bytes_of_all) : static_cast<void *>(nullptr);         \
    })
#define free free_where_it_belongs

#define strdup(text) of_library(strdup(text))
#define strndup(text, length) of_library(strndup(text, length))
#define wcsdup(text) of_library(wcsdup(text))
#define pvalloc(size) of_library(pvalloc(size))
#define asprintf(out, ...) of_library_at(asprintf(out, __VA_ARGS__), out)
#define getline(out, ...) of_library_at(getline(out, __VA_ARGS__), out)
