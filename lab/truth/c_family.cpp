// The C part: every entry point of the C library's allocator, and libc functions that allocate for their caller.
#include "families.hpp"

#include "books.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <initializer_list>
#include <malloc.h>

using books::HUGE_SIZE;
using books::keep;
using books::opaque;

extern "C" __attribute__((weak)) int mallctl(const char *, void *, std::size_t *, void *, std::size_t);

namespace {
constexpr int ROUNDS = 50;
FILE *lines;
char stream_buffer[4096];
char text[2000];
}  // namespace

// A stream with one line of 1,000 letters. Opened early: a FILE is a block, too. Not a file: a
// forked child would share its position.
void prepare_c_family() {
    std::memset(text, 'x', sizeof text - 1);
    text[1000] = '\n';
    lines = fmemopen(text, 1001, "r");
    if (lines == nullptr) std::abort();
    std::setvbuf(lines, stream_buffer, _IOFBF, sizeof stream_buffer);
}

SITE(malloc, "heap")() {
    for (std::size_t i = 1; i <= ROUNDS; i++) {
        std::size_t size = opaque(i * i * 7);
        void *block = TAKE(malloc, size, std::malloc(size));
        if (i % 4 == 0) {
            std::free(block);
            book_malloc.gave(size);
        } else {
            keep(book_malloc, block, size);
        }
    }
}

SITE(malloc_zero, "heap")() {
    void *block = TAKE(malloc_zero, 0, std::malloc(opaque(0)));
    keep(book_malloc_zero, block, 0);
}

SITE(malloc_mapped, "heap")() {
    std::size_t size = opaque(3 << 20);  // above the threshold: malloc maps it
    for (int i = 0; i < 3; i++) keep(book_malloc_mapped, TAKE(malloc_mapped, size, std::malloc(size)), size);
}

SITE(malloc_refused, "heap")() {
    REFUSED(std::malloc(opaque(HUGE_SIZE)));
    REFUSED(std::malloc(opaque(~std::size_t(0))));
}

SITE(calloc, "heap")() {
    for (std::size_t i = 1; i <= ROUNDS; i++) {
        std::size_t count = opaque(i), each = opaque(24);
        keep(book_calloc, TAKE(calloc, count * each, std::calloc(count, each)), count * each);
    }
    REFUSED(std::calloc(opaque(HUGE_SIZE), opaque(16)));
}

SITE(realloc_null, "heap")() {
    keep(book_realloc_null, TAKE(realloc_null, 333, std::realloc(nullptr, opaque(333))), 333);
}

// Blocks that go through the reallocs below; what stays here was never touched by one that worked.
SITE(realloc_origin, "heap")(void **block, std::size_t size) {
    *block = TAKE(realloc_origin, size, std::malloc(size));
}

SITE(realloc_grow, "heap")() {
    for (std::size_t i = 0; i < ROUNDS; i++) {
        void *block, *wall;
        site_realloc_origin(&block, opaque(100));
        site_realloc_origin(&wall, opaque(100));  // right behind: the block has to move
        std::size_t size = opaque(5000 + i);
        block = TAKE(realloc_grow, size, std::realloc(block, size));
        book_realloc_origin.gave(100);
        keep(book_realloc_grow, block, size);
        keep(book_realloc_origin, wall, 100);
    }
}

SITE(realloc_shrink, "heap")() {
    for (std::size_t i = 0; i < ROUNDS; i++) {
        void *block;
        site_realloc_origin(&block, opaque(4000));
        block = TAKE(realloc_shrink, 40 + i, std::realloc(block, opaque(40 + i)));
        book_realloc_origin.gave(4000);
        keep(book_realloc_shrink, block, 40 + i);
    }
}

SITE(realloc_mapped, "heap")() {
    void *block;
    site_realloc_origin(&block, opaque(1 << 20));
    block = TAKE(realloc_mapped, 5 << 20, std::realloc(block, opaque(5 << 20)));
    book_realloc_origin.gave(1 << 20);
    keep(book_realloc_mapped, block, 5 << 20);
}

SITE(realloc_refused, "heap")() {
    void *block;
    site_realloc_origin(&block, opaque(777));
    REFUSED(std::realloc(block, opaque(HUGE_SIZE)));
    keep(book_realloc_origin, block, 777);  // still there, and still the origin's
}

SITE(realloc_to_zero, "heap")() {
    void *block;
    site_realloc_origin(&block, opaque(888));
    // glibc and others free the block and return NULL, musl and mimalloc return one of no bytes.
    block = TAKE(realloc_to_zero, 0, std::realloc(block, opaque(0)));
    book_realloc_origin.gave(888);
    if (block != nullptr) keep(book_realloc_to_zero, block, 0);
}

SITE(reallocarray, "heap")() {
    void *block = nullptr;
    block = TAKE(reallocarray, 300, reallocarray(block, opaque(10), opaque(30)));
    REFUSED(reallocarray(books::escape(block), opaque(HUGE_SIZE), opaque(16)));
    keep(book_reallocarray, block, 300);
}

SITE(memalign, "heap")() {
    keep(book_memalign, TAKE(memalign, 700, memalign(opaque(256), opaque(700))), 700);
}

SITE(memalign_small, "heap")() {  // an alignment every block has: glibc calls malloc inside
    keep(book_memalign_small, TAKE(memalign_small, 701, memalign(opaque(8), opaque(701))), 701);
}

SITE(aligned_alloc, "heap")() {
    keep(book_aligned_alloc, TAKE(aligned_alloc, 1024, std::aligned_alloc(opaque(512), opaque(1024))), 1024);
}

static void *through_out(int failed, void *&block) { return failed == 0 ? block : nullptr; }

SITE(posix_memalign, "heap")() {
    for (std::size_t i = 1; i <= ROUNDS; i++) {
        void *block = nullptr;
        TAKE(posix_memalign, i * 10, through_out(posix_memalign(&block, opaque(64), opaque(i * 10)), block));
        keep(book_posix_memalign, block, i * 10);
    }
}

SITE(posix_memalign_refused, "heap")() {
    void *block;
    site_realloc_origin(&block, opaque(555));
    void *out = block;  // a refused call leaves what was there: a live block of somebody else
    if (posix_memalign(books::escape(&out), opaque(3), opaque(64)) == 0 || out != block) __builtin_trap();
    if (posix_memalign(books::escape(&out), opaque(64), opaque(HUGE_SIZE)) == 0) __builtin_trap();
    keep(book_realloc_origin, block, 555);
}

SITE(valloc, "heap")() { keep(book_valloc, TAKE(valloc, 900, valloc(opaque(900))), 900); }

#ifdef __GLIBC__
SITE(pvalloc, "heap")() { keep(book_pvalloc, TAKE(pvalloc, 5000, pvalloc(opaque(5000))), 5000); }
#endif

SITE(strdup, "heap")() {
    for (std::size_t i = 0; i < ROUNDS; i++) {
        const char *from = text + sizeof text - 1 - i;
        keep(book_strdup, TAKE(strdup, i + 1, strdup(books::escape(from))), i + 1);
    }
}

SITE(strndup, "heap")() {
    keep(book_strndup, TAKE(strndup, 101, strndup(books::escape(text), opaque(100))), 101);
}

SITE(wcsdup, "heap")() {
    static const wchar_t wide[] = L"seventeen letters";
    keep(book_wcsdup, TAKE(wcsdup, sizeof wide, wcsdup(books::escape(wide))), sizeof wide);
}

static char *printed(int length, char *block) { return length < 0 ? nullptr : block; }

SITE(asprintf, "heap")() {
    for (int width : {5, 150, 1500}) {  // below, above and far above its first buffer
        char *block = nullptr;
        int length = asprintf(&block, "%*d", width, 7); if (printed(length, block) != nullptr) book_asprintf.took(std::size_t(length) + 1, __LINE__);
        keep(book_asprintf, block, std::size_t(length) + 1);
    }
}

SITE(getline, "heap")() {
    char *block = nullptr;
    std::size_t size = 0;
    ssize_t length = getline(&block, &size, lines); if (block != nullptr) book_getline.took(size, __LINE__);
    if (length != 1001) __builtin_trap();
    keep(book_getline, block, size);
    std::rewind(lines);
}

SITE(free_null, "heap")() {
    for (int i = 0; i < ROUNDS; i++) std::free(books::escape(static_cast<void *>(nullptr)));
}

// Allocated and freed between snapshots: nothing may be left of it, despite address reuse.
SITE(churn, "heap")() {
    for (std::size_t i = 0; i < 20000; i++) {
        std::size_t size = opaque(16 + i % 500);
        std::free(TAKE(churn, size, std::malloc(size)));
        book_churn.gave(size);
    }
}

void run_c_family() {
    site_malloc();
    site_malloc_zero();
    site_malloc_mapped();
    site_malloc_refused();
    site_calloc();
    site_realloc_null();
    site_realloc_grow();
    site_realloc_shrink();
    site_realloc_mapped();
    site_realloc_refused();
    site_realloc_to_zero();
    site_reallocarray();
    site_memalign();
    site_memalign_small();
    site_aligned_alloc();
    site_posix_memalign();
    site_posix_memalign_refused();
    site_valloc();
#ifdef __GLIBC__
    // jemalloc has no pvalloc: with it this block would be glibc's, and its free an accident.
    if (mallctl == nullptr) site_pvalloc();
#endif
    site_strdup();
    site_strndup();
    site_wcsdup();
    site_asprintf();
    site_getline();
    site_free_null();
    site_churn();
}
