// Measures the cost of a probe: a loop of malloc and free that measures its own CPU time.
//
// It prints "ready PID" and executes lines from stdin, each answered by one line of JSON:
//   pairs N    N times malloc(64) and free                         -> {"ns":per pair}
//   mixed N    N operations of all kinds on 1,024 kept blocks      -> {"ns":per operation}
//   leave
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <unistd.h>

namespace {

constexpr std::size_t SLOTS = 1024;
void *slots[SLOTS];
std::uint32_t random_state = 1;

template <typename T> T *escape(T *pointer) {
    asm volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

double cpu_ns() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return double(now.tv_sec) * 1e9 + double(now.tv_nsec);
}

__attribute__((noipa)) void pairs(long count) {
    for (long i = 0; i < count; i++) std::free(escape(std::malloc(64)));
}

std::uint32_t next() { return (random_state = random_state * 1664525u + 1013904223u) >> 8; }

// An operation replaces, resizes or drops the block of a random slot: one or two calls each.
__attribute__((noipa)) void mixed(long count) {
    for (long i = 0; i < count; i++) {
        void *&slot = slots[next() % SLOTS];
        std::size_t size = 16 + next() % 1000;
        switch (next() % 6) {
            case 0:
            case 1: slot = (std::free(slot), escape(std::malloc(size))); break;
            case 2: slot = (std::free(slot), escape(std::calloc(1, size))); break;
            case 3: slot = escape(std::realloc(slot, size)); break;
            case 4:
                std::free(slot);
                if (posix_memalign(&slot, 64, size) != 0) std::abort();
                break;
            default:
                std::free(slot);
                slot = nullptr;
        }
    }
}

bool read_line(char *line, std::size_t room) {
    std::size_t at = 0;
    char letter;
    while (read(STDIN_FILENO, &letter, 1) == 1) {
        if (letter == '\n') {
            line[at] = 0;
            return true;
        }
        if (at + 1 < room) line[at++] = letter;
    }
    return false;
}

}  // namespace

int main() {
    char line[128];
    dprintf(STDOUT_FILENO, "ready %d\n", getpid());
    while (read_line(line, sizeof line) && std::strcmp(line, "leave") != 0) {
        char what[16];
        long count = 0;
        if (std::sscanf(line, "%15s %ld", what, &count) != 2 || count < 1) return 1;
        double before = cpu_ns();
        (std::strcmp(what, "pairs") == 0 ? pairs : mixed)(count);
        double spent = cpu_ns() - before;
        dprintf(STDOUT_FILENO, "{\"ns\":%.2f}\n", spent / double(count));
    }
    return 0;
}
