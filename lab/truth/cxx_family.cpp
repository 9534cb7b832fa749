// The C++ part: new and delete in all forms, and containers whose block sizes are known without the
// allocator (capacity, node type).
#include "families.hpp"

#include "books.hpp"

#include <map>
#include <new>
#include <string>
#include <vector>

extern "C" {
__attribute__((weak)) int mallctl(const char *, void *, std::size_t *, void *, std::size_t);
__attribute__((weak)) int mi_version();
__attribute__((weak)) const char *tc_version(int *, int *, const char **);
__attribute__((weak)) void *__malloc_end_pointer(void *);  // snmalloc's
}

using books::Back;
using books::escape;
using books::keep;
using books::opaque;

namespace {
constexpr std::size_t ALIGN = 128;
const std::align_val_t ALIGNED{ALIGN};
// Containers are in raw static memory and never destroyed, so their blocks stay.
template <typename T> struct Forever {
    alignas(T) unsigned char raw[sizeof(T)];
    T &make() { return *new (raw) T(); }
};
Forever<std::string> strings[64];
Forever<std::vector<long>> vectors[8];
Forever<std::map<long, long>> maps[1];
using Node = std::_Rb_tree_node<std::pair<const long, long>>;
struct Thing {
    long words[10];
};
}  // namespace

// A first exception has the unwinder of a static program sort its tables, in a block it keeps.
void prepare_cxx_family() {
    try {
        throw 1;
    } catch (int) {
    }
}

SITE(new, "heap")() {
    for (int i = 0; i < 40; i++) keep(book_new, TAKE(new, sizeof(Thing), new Thing), sizeof(Thing), Back::del);
}
SITE(new_direct, "heap")() {
    for (std::size_t i = 1; i < 40; i++) keep(book_new_direct, TAKE(new_direct, i, ::operator new(opaque(i))), i, Back::del);
}
SITE(new_zero, "heap")() {
    // libstdc++ requests one byte from malloc; allocators with their own operator new get a request for 0.
    bool own = mallctl != nullptr || mi_version != nullptr || tc_version != nullptr || __malloc_end_pointer != nullptr;
    std::size_t size = own ? 0 : 1;
    keep(book_new_zero, TAKE(new_zero, size, ::operator new(opaque(0))), size, Back::del);
}
SITE(new_array, "heap")() {
    for (std::size_t i = 1; i < 40; i++) keep(book_new_array, TAKE(new_array, i * 4, new int[opaque(i)]), i * 4, Back::del_array);
}
SITE(new_nothrow, "heap")() {
    keep(book_new_nothrow, TAKE(new_nothrow, 210, ::operator new(opaque(210), std::nothrow)), 210, Back::del);
}
SITE(new_array_nothrow, "heap")() {
    keep(book_new_array_nothrow, TAKE(new_array_nothrow, 211, ::operator new[](opaque(211), std::nothrow)), 211, Back::del_array);
}
SITE(new_refused, "heap")() {
    REFUSED(::operator new(opaque(books::HUGE_SIZE), std::nothrow));
    REFUSED(::operator new(opaque(books::HUGE_SIZE), ALIGNED, std::nothrow));
    if (mi_version != nullptr) return;            // built as C, it cannot throw, and aborts
    if (__malloc_end_pointer != nullptr) return;  // built without exceptions
    try {
        escape(::operator new(opaque(books::HUGE_SIZE)));
        __builtin_trap();
    } catch (const std::bad_alloc &) {  // the exception is a block of its own, and goes here
    }
}
SITE(new_aligned, "heap")() {
    for (std::size_t i = 1; i < 20; i++) {
        void *block = TAKE(new_aligned, i * ALIGN, ::operator new(opaque(i * ALIGN), ALIGNED));
        if (i % 2 == 0) {
            ::operator delete(block, ALIGNED);
            book_new_aligned.gave(i * ALIGN);
        }
    }
}
SITE(new_array_aligned, "heap")() {
    TAKE(new_array_aligned, 3 * ALIGN, ::operator new[](opaque(3 * ALIGN), ALIGNED));
}
SITE(new_aligned_nothrow, "heap")() {
    TAKE(new_aligned_nothrow, 4 * ALIGN, ::operator new(opaque(4 * ALIGN), ALIGNED, std::nothrow));
}
SITE(new_array_aligned_nothrow, "heap")() {
    TAKE(new_array_aligned_nothrow, 5 * ALIGN, ::operator new[](opaque(5 * ALIGN), ALIGNED, std::nothrow));
}

// Every form of delete once: nothing may be left.
SITE(deletes, "heap")() {
    std::size_t size = opaque(2 * ALIGN);
    ::operator delete(escape(::operator new(size)));
    ::operator delete(escape(::operator new(size)), size);
    ::operator delete(escape(::operator new(size)), std::nothrow);
    ::operator delete[](escape(::operator new[](size)));
    ::operator delete[](escape(::operator new[](size)), size);
    ::operator delete[](escape(::operator new[](size)), std::nothrow);
    ::operator delete(escape(::operator new(size, ALIGNED)), ALIGNED);
    ::operator delete(escape(::operator new(size, ALIGNED)), size, ALIGNED);
    ::operator delete(escape(::operator new(size, ALIGNED)), ALIGNED, std::nothrow);
    ::operator delete[](escape(::operator new[](size, ALIGNED)), ALIGNED);
    ::operator delete[](escape(::operator new[](size, ALIGNED)), size, ALIGNED);
    ::operator delete[](escape(::operator new[](size, ALIGNED)), ALIGNED, std::nothrow);
    delete escape(new Thing);
    delete[] escape(new Thing[3]);
    ::operator delete(escape(static_cast<void *>(nullptr)));
}

SITE(string, "heap")() {
    for (auto &place : strings) {
        std::string &kept = place.make();
        for (std::size_t i = 0; i < 100 + std::size_t(&place - strings); i++) kept.push_back('x');
        book_string.took(kept.capacity() + 1, -1);
    }
}

SITE(vector, "heap")() {
    std::size_t count = 1000;
    for (auto &place : vectors) {
        std::vector<long> &kept = place.make();
        for (std::size_t i = 0; i < opaque(count); i++) kept.push_back(long(i));
        book_vector.took(kept.capacity() * sizeof(long), -1);
        count += 1000;
    }
}

SITE(map, "heap")() {
    auto &kept = maps[0].make();
    for (long i = 0; i < 500; i++) {
        kept[i] = i;
        book_map.took(sizeof(Node), -1);
    }
    for (long i = 0; i < 500; i += 2) {
        kept.erase(i);
        book_map.gave(sizeof(Node));
    }
}

void run_cxx_family() {
    site_new();
    site_new_direct();
    site_new_zero();
    site_new_array();
    site_new_nothrow();
    site_new_array_nothrow();
    site_new_refused();
    site_new_aligned();
    site_new_array_aligned();
    site_new_aligned_nothrow();
    site_new_array_aligned_nothrow();
    site_deletes();
    site_string();
    site_vector();
    site_map();
}
