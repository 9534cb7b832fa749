// The truth program's own counts: live bytes and blocks per site.
//
// Everything is in static memory, so that counting does not allocate.
#pragma once

#include <atomic>
#include <cstddef>

namespace books {

// The counts of one site: one allocating function `site_...`. Sites register themselves in the list
// when the program starts.
struct Site {
    const char *function;
    const char *kind;  // "heap" or "mapping" (brk included)
    const char *file;
    std::atomic<int> line{0};  // of the allocating call; -1: of several
    std::atomic<long> bytes{0};
    std::atomic<long> blocks{0};

    Site(const char *function, const char *kind, const char *file);

    void took(std::size_t size, int at_line) {
        int none = 0;
        if (!line.compare_exchange_strong(none, at_line) && none != at_line) line = -1;
        bytes += long(size);
        blocks += 1;
    }
    void gave(std::size_t size) {
        bytes -= long(size);
        blocks -= 1;
    }
};

// How a kept block is freed.
enum class Back { free, del, del_array };

// Keeps a heap block for `free_half`.
void keep(Site &site, void *block, std::size_t size, Back back = Back::free);
// Frees every second kept block, with free and delete.
void free_half();
// Resets everything: a forked child starts with empty counts.
void reset();
// Writes the counts as one line of JSON to stdout, without stdio.
void print();
// Writes a text to stdout.
void say(const char *text);

// Keeps the compiler from removing unused allocations and from knowing sizes.
template <typename T> inline T *escape(T *pointer) {
    asm volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}
inline std::size_t opaque(std::size_t number) {
    asm volatile("" : "+r"(number));
    return number;
}

// 4.6 EB: passes the allocator's own checks and is rejected by the kernel.
constexpr std::size_t HUGE_SIZE = std::size_t(1) << 62;

}  // namespace books

// Defines a site: its counts and the head of its function. Neither inlined nor cloned, and with a
// plain name, so that it is the frame a profiler has to find.
#define SITE(name, what)                                                  \
    static books::Site book_##name{"site_" #name, what, __FILE__};        \
    extern "C" __attribute__((noipa)) void site_##name

// Calls an allocator and counts the block if there is one. The counting is after the call, so
// it cannot become a tail call, and on the same source line.
#define TAKE(name, size, call)                                            \
    ({                                                                    \
        auto took_ = books::escape(call);                                 \
        if (took_ != nullptr) book_##name.took(size, __LINE__);           \
        took_;                                                            \
    })

// Calls an allocator that must fail.
#define REFUSED(call)                                                     \
    do {                                                                  \
        if (books::escape(call) != nullptr) __builtin_trap();             \
    } while (0)
