// A program that uses every allocation function and counts exactly what is alive.
//
// It prints "ready PID", waits for "go", runs, and prints its counts (see books.hpp) as one line of JSON.
// Then it executes lines from stdin:
//   again         the whole run once more                          -> books
//   free-half     frees every second kept block                    -> books
//   many N        allocates N blocks of 16..256 bytes and keeps them -> books
//   fork          forks; the child does nothing yet                -> {"forked":PID}
//   child-go      the child resets its counts and runs             -> books of the child
//   exec          executes itself again                            -> "ready PID" again, and so on
//   leave         ends, the child too
// There are no sleeps: everything is triggered by a line.
#include "families.hpp"

#include "books.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace {

char command[256];
int to_child = -1;

// One line from `fd` without stdio, which would allocate; false at the end of input.
bool read_line(int fd) {
    std::size_t at = 0;
    char letter;
    while (read(fd, &letter, 1) == 1) {
        if (letter == '\n') {
            command[at] = 0;
            return true;
        }
        if (at + 1 < sizeof command) command[at++] = letter;
    }
    return false;
}

void run() {
    run_c_family();
    run_cxx_family();
    run_mappings();
    run_threads();
    books::print();
}

[[noreturn]] void child(int from_parent) {
    while (read_line(from_parent)) {
        books::reset();
        forget_many();
        run();
    }
    _exit(0);
}

void fork_child() {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    pid_t pid = fork();
    if (pid < 0) std::abort();
    if (pid == 0) {
        close(ends[1]);
        child(ends[0]);
    }
    close(ends[0]);
    to_child = ends[1];
    std::snprintf(command, sizeof command, "{\"forked\":%d}\n", int(pid));
    books::say(command);
}

void obey(char **argv) {
    if (std::strcmp(command, "again") == 0) {
        run();
    } else if (std::strcmp(command, "free-half") == 0) {
        books::free_half();
        free_half_of_many();
        books::print();
    } else if (std::strncmp(command, "many ", 5) == 0) {
        run_many(std::strtoul(command + 5, nullptr, 10));
        books::print();
    } else if (std::strcmp(command, "fork") == 0) {
        fork_child();
    } else if (std::strcmp(command, "child-go") == 0) {
        if (write(to_child, "go\n", 3) != 3) std::abort();
    } else if (std::strcmp(command, "exec") == 0) {
        execv("/proc/self/exe", argv);
        std::abort();
    } else {
        books::say("{\"error\":\"unknown command\"}\n");
    }
}

}  // namespace

int main(int, char **argv) {
    prepare_c_family();
    prepare_cxx_family();
    std::snprintf(command, sizeof command, "ready %d\n", getpid());
    books::say(command);
    if (!read_line(STDIN_FILENO) || std::strcmp(command, "go") != 0) return 1;
    run();
    while (read_line(STDIN_FILENO) && std::strcmp(command, "leave") != 0) obey(argv);
    return 0;
}
