// A program without HTTP whose named handlers are called by several threads: `serve::handle_keep`
// keeps a block of 1,009 bytes per call, `serve::handle_drop` keeps nothing, `serve::handle_throw`
// leaves by an exception. Blocks of 2,003 bytes belong to no handler.
//
// Prints "ready", waits for "go N", has each of its threads call each handler N times, and prints the
// numbers of calls as "keep A drop B throw C other D".
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace serve {

std::mutex lock;
std::vector<void *> kept;
std::atomic<long> keeps, drops, throws, others;

void put(void *block) {
    std::lock_guard<std::mutex> hold(lock);
    kept.push_back(block);
}

// Called by the handler: its allocations belong to the handler too.
__attribute__((noinline)) void *make(std::size_t bytes) { return std::malloc(bytes); }

__attribute__((noinline)) void handle_keep(int number) {
    if (number < 0) return;
    put(make(1009));
    keeps++;
}

__attribute__((noinline)) void handle_drop(int number) {
    void *block = make(3001);
    if (number >= 0) drops++;
    std::free(block);
}

__attribute__((noinline)) void handle_throw(int number) {
    throws++;
    if (number >= 0) throw std::runtime_error("as always");
}

}  // namespace serve

int main() {
    serve::kept.reserve(1 << 20);
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string go, which;
        int calls = 0;
        words >> go >> calls >> which;
        std::vector<std::thread> threads;
        for (int thread = 0; thread < 4; thread++)
            threads.emplace_back([calls, which] {
                for (int call = 0; call < calls; call++) {
                    serve::handle_keep(call);
                    serve::put(serve::make(2003));
                    serve::others++;
                    serve::handle_drop(call);
                    if (which != "throw") continue;
                    try {
                        serve::handle_throw(call);
                    } catch (const std::exception &) {
                    }
                }
            });
        for (auto &thread : threads) thread.join();
        std::printf("keep %ld drop %ld throw %ld other %ld\n", serve::keeps.load(), serve::drops.load(),
                    serve::throws.load(), serve::others.load());
        std::fflush(stdout);
    }
}
