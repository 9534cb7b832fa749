// Four threads that free each other's blocks, and many short-lived threads with one block each.
#include "families.hpp"

#include "books.hpp"

#include <cstdlib>
#include <pthread.h>

using books::keep;
using books::opaque;

namespace {
constexpr int THREADS = 4;
constexpr int ROUNDS = 20000;
constexpr int SHORT_LIVED = 64;

struct Item {
    void *block;
    std::size_t size;
    books::Site *site;
};

// A bounded queue in static memory: a block put in by one thread is taken out by any.
struct Queue {
    static constexpr int ROOM = 256;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    Item items[ROOM];
    int used = 0;

    // Puts `in`, and takes out another one when the queue is getting full.
    bool exchange(const Item &in, Item &out) {
        pthread_mutex_lock(&lock);
        items[used++] = in;
        bool full = used > ROOM / 2;
        if (full) {
            // Not the newest, which is usually this thread's own.
            int at = int(in.size) % (used - 1);
            out = items[at];
            items[at] = items[--used];
        }
        pthread_mutex_unlock(&lock);
        return full;
    }
} queue;
}  // namespace

SITE(thread_malloc, "heap")(void **block, std::size_t size) {
    *block = TAKE(thread_malloc, size, std::malloc(size));
}

SITE(thread_realloc, "heap")(void **block, std::size_t size) {
    *block = TAKE(thread_realloc, size, std::realloc(*block, size));
}

SITE(thread_short, "heap")() { keep(book_thread_short, TAKE(thread_short, 99, std::malloc(opaque(99))), 99); }

static void *worker(void *number) {
    std::size_t random = reinterpret_cast<std::size_t>(number) * 2654435761u + 1;
    for (int i = 0; i < ROUNDS; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        Item mine{nullptr, 16 + (random >> 33) % 2000, &book_thread_malloc};
        site_thread_malloc(&mine.block, mine.size);
        if (i % 5 == 0) {
            std::size_t size = mine.size * 2;
            site_thread_realloc(&mine.block, size);
            book_thread_malloc.gave(mine.size);
            mine.size = size;
            mine.site = &book_thread_realloc;
        }
        if (i % 100 == 0) {
            keep(*mine.site, mine.block, mine.size);
            continue;
        }
        Item other;
        if (queue.exchange(mine, other)) {
            std::free(other.block);
            other.site->gave(other.size);
        }
    }
    return nullptr;
}

static void *short_lived(void *) {
    site_thread_short();
    return nullptr;
}

void run_threads() {
    queue.used = 0;  // a forked child must not free what its parent put in
    pthread_t threads[THREADS];
    for (std::size_t i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], nullptr, worker, reinterpret_cast<void *>(i + 1)) != 0) std::abort();
    }
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    for (int i = 0; i < SHORT_LIVED; i++) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, short_lived, nullptr) != 0) std::abort();
        pthread_join(thread, nullptr);
    }
}
