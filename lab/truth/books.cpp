// The counts: a list of sites, a table of kept blocks, and printing them with write(2).
#include "books.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <unistd.h>

namespace books {
namespace {

struct Kept {
    Site *site;
    void *block;
    std::size_t size;
    Back back;
};

constexpr int MOST_SITES = 128;
constexpr int MOST_KEPT = 1 << 17;

Site *sites[MOST_SITES];
int site_count;
Kept kept[MOST_KEPT];
std::atomic<int> kept_count;
char line[1 << 15];

}  // namespace

Site::Site(const char *function, const char *kind, const char *path)
    : function(function), kind(kind), file(path) {
    if (const char *slash = std::strrchr(path, '/')) file = slash + 1;
    if (site_count == MOST_SITES) std::abort();
    sites[site_count++] = this;
}

void keep(Site &site, void *block, std::size_t size, Back back) {
    int at = kept_count++;
    if (at >= MOST_KEPT) std::abort();
    kept[at] = {&site, block, size, back};
}

void free_half() {
    int left = 0;
    for (int i = 0; i < kept_count; i++) {
        const Kept &entry = kept[i];
        if (i % 2 == 0) {
            kept[left++] = entry;
            continue;
        }
        switch (entry.back) {
            case Back::free: std::free(entry.block); break;
            case Back::del: ::operator delete(entry.block); break;
            case Back::del_array: ::operator delete[](entry.block); break;
        }
        entry.site->gave(entry.size);
    }
    kept_count = left;
}

void reset() {
    kept_count = 0;
    for (int i = 0; i < site_count; i++) {
        sites[i]->line = 0;
        sites[i]->bytes = 0;
        sites[i]->blocks = 0;
    }
}

void say(const char *text) {
    std::size_t length = std::strlen(text);
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, text, length);
        if (written <= 0) _exit(1);
        text += written;
        length -= std::size_t(written);
    }
}

void print() {
    int at = std::snprintf(line, sizeof line, "{\"pid\":%d,\"sites\":[", getpid());
    for (int i = 0; i < site_count && at < int(sizeof line) - 300; i++) {
        const Site &site = *sites[i];
        at += std::snprintf(line + at, sizeof line - std::size_t(at),
                            "%s{\"function\":\"%s\",\"kind\":\"%s\",\"file\":\"%s\",\"line\":%d,"
                            "\"bytes\":%ld,\"blocks\":%ld}",
                            i == 0 ? "" : ",", site.function, site.kind, site.file,
                            site.line.load(), site.bytes.load(), site.blocks.load());
    }
    std::snprintf(line + at, sizeof line - std::size_t(at), "]}\n");
    say(line);
}

}  // namespace books
