// Memory directly from the kernel: mmap, munmap, mremap, brk.
//
// A block of kind "mapping" is a contiguous range that is still mapped: cutting out the middle of
// one leaves two.
#include "families.hpp"

#include "books.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using books::escape;
using books::opaque;

namespace {
constexpr std::size_t PAGE = 4096;

void must(bool worked) {
    if (!worked) __builtin_trap();
}
}  // namespace

#define MAP(length) \
    static_cast<char *>(mmap(nullptr, opaque(length), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))

SITE(mmap, "mapping")() {
    for (std::size_t i = 1; i <= 5; i++) {
        // Adjacent mappings, which the kernel merges into one area, are still one block per call.
        char *base = TAKE(mmap, i * PAGE, MAP(i * PAGE));
        must(base != MAP_FAILED);
    }
}

SITE(mmap_gone, "mapping")() {
    char *base = MAP(10000);
    must(base != MAP_FAILED && munmap(base, opaque(9000)) == 0);  // both are three pages
    base = MAP(1 << 20);
    must(base != MAP_FAILED && munmap(base, opaque(1 << 20)) == 0);
}

SITE(munmap_middle, "mapping")() {
    char *base = MAP(16 * PAGE);
    must(base != MAP_FAILED && munmap(base + 4 * PAGE, 8 * PAGE) == 0);
    book_munmap_middle.took(4 * PAGE, -1);
    book_munmap_middle.took(4 * PAGE, -1);
}

SITE(munmap_ends, "mapping")() {
    char *base = MAP(16 * PAGE);
    must(base != MAP_FAILED && munmap(base, 3 * PAGE) == 0 && munmap(base + 14 * PAGE, 2 * PAGE) == 0);
    book_munmap_ends.took(11 * PAGE, -1);
}

// One munmap over the end of one mapping and all of the next.
SITE(munmap_across, "mapping")() {
    char *base = MAP(32 * PAGE);
    must(base != MAP_FAILED && munmap(base, 32 * PAGE) == 0);
    for (int half = 0; half < 2; half++) {
        void *place = mmap(base + half * 16 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        must(place != MAP_FAILED);
    }
    must(munmap(base + 12 * PAGE, 20 * PAGE) == 0);
    book_munmap_across.took(12 * PAGE, -1);
}

SITE(mmap_fixed, "mapping")() {  // the second replaces the first
    char *base = MAP(8 * PAGE);
    must(base != MAP_FAILED);
    void *again = mmap(base, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    must(again == base);
    book_mmap_fixed.took(8 * PAGE, -1);
}

SITE(mmap_refused, "mapping")() { must(MAP(books::HUGE_SIZE) == MAP_FAILED); }

SITE(mmap_file, "mapping")() {  // not anonymous: no memory of the program's own
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    must(fd >= 0 && mmap(nullptr, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    close(fd);
}

SITE(mremap_grow, "mapping")() {
    void *base = MAP(4 * PAGE);
    must(base != MAP_FAILED);
    base = mremap(base, 4 * PAGE, opaque(64 * PAGE), MREMAP_MAYMOVE);
    must(base != MAP_FAILED);
    book_mremap_grow.took(64 * PAGE, -1);
}

SITE(mremap_shrink, "mapping")() {
    void *base = MAP(32 * PAGE);
    must(base != MAP_FAILED && mremap(base, 32 * PAGE, opaque(5 * PAGE), 0) == base);
    book_mremap_shrink.took(5 * PAGE, -1);
}

SITE(mremap_move, "mapping")() {
    void *base = MAP(6 * PAGE);
    void *hole = MAP(6 * PAGE);
    must(base != MAP_FAILED && hole != MAP_FAILED);
    must(mremap(base, 6 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole) == hole);
    book_mremap_move.took(6 * PAGE, -1);
}

SITE(mremap_refused, "mapping")() {
    void *base = MAP(7 * PAGE);
    must(base != MAP_FAILED && mremap(base, 7 * PAGE, opaque(books::HUGE_SIZE), MREMAP_MAYMOVE) == MAP_FAILED);
    book_mremap_refused.took(7 * PAGE, -1);
}

#ifdef __GLIBC__  // musl keeps the break for itself
SITE(brk, "mapping")() {
    // Up, down and up again: only the final break counts.
    must(sbrk(1 << 20) != reinterpret_cast<void *>(-1));
    must(sbrk(-(1 << 19)) != reinterpret_cast<void *>(-1));
    book_brk.took(1 << 19, -1);
}
#endif

void run_mappings() {
    site_mmap();
    site_mmap_gone();
    site_munmap_middle();
    site_munmap_ends();
    site_munmap_across();
    site_mmap_fixed();
    site_mmap_refused();
    site_mmap_file();
    site_mremap_grow();
    site_mremap_shrink();
    site_mremap_move();
    site_mremap_refused();
#ifdef __GLIBC__
    site_brk();
#endif
}
