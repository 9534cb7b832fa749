// Very many small live blocks, which a bounded live map must estimate.
#include "families.hpp"

#include "books.hpp"

#include <cstdint>
#include <cstdlib>

using books::opaque;

namespace {
constexpr std::size_t MOST = 4 << 20;
void *blocks[MOST];
std::uint16_t sizes[MOST];
std::size_t count;
}  // namespace

SITE(many_small, "heap")(void **block, std::size_t size) { *block = TAKE(many_small, size, std::malloc(size)); }
SITE(many_large, "heap")(void **block, std::size_t size) { *block = TAKE(many_large, size, std::malloc(size)); }

void run_many(std::size_t more) {
    std::uint32_t random = 12345;
    for (std::size_t end = more < MOST - count ? count + more : MOST; count < end; count++) {
        random = random * 1664525u + 1013904223u;
        std::size_t size = opaque(16 + (random >> 16) % 241);
        sizes[count] = std::uint16_t(size);
        (size <= 64 ? site_many_small : site_many_large)(&blocks[count], size);
    }
}

void free_half_of_many() {
    std::size_t left = 0;
    for (std::size_t i = 0; i < count; i++) {
        if (i % 2 == 0) {
            blocks[left] = blocks[i];
            sizes[left++] = sizes[i];
            continue;
        }
        std::free(blocks[i]);
        (sizes[i] <= 64 ? book_many_small : book_many_large).gave(sizes[i]);
    }
    count = left;
}

void forget_many() { count = 0; }
