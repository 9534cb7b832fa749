// A minimal HTTP/1.1 server: a thread per connection, keep-alive, pipelining; every response is 200.
//
// It prints "port N" and serves until it is killed. It keeps the last head in static memory
// (`last_head`), so that a search for a credential must find it there.
//
// With --leak it keeps a session of 2 KiB for each new bearer token forever
// (`keep_session`): a minimal leak per token.
//
// With --work N each request takes N microseconds of CPU time. A request of /busy takes 20 milliseconds in any case.
//
// With --prefork a child serves, and it waits like a master.
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <netinet/in.h>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <time.h>
#include <unistd.h>

namespace {

constexpr std::size_t LARGEST_HEAD = 64 * 1024;
char last_head[LARGEST_HEAD];
std::mutex last_lock;

bool leaks = false;
std::map<std::string, void *> sessions;
std::mutex sessions_lock;
constexpr std::size_t SESSION = 2048;

[[gnu::noinline]] void keep_session(const std::string &token) {
    std::lock_guard<std::mutex> hold(sessions_lock);
    void *&session = sessions[token];
    if (session == nullptr) {
        session = std::malloc(SESSION);
        if (session != nullptr) std::memset(session, 's', SESSION);
    }
}

std::int64_t work_ns = 0;
constexpr std::int64_t BUSY_NS = 20'000'000;

std::int64_t thread_ns() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

[[gnu::noinline]] void work(std::int64_t nanoseconds) {
    if (nanoseconds == 0) return;
    for (const std::int64_t end = thread_ns() + nanoseconds; thread_ns() < end;) {
    }
}

void answer(int connection, const char *status, bool close) {
    char text[256];
    int length = std::snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: 3\r\n%s\r\nok\n", status,
                               close ? "Connection: close\r\n" : "");
    if (send(connection, text, std::size_t(length), MSG_NOSIGNAL) != length) return;
}

void serve(int connection) {
    std::string read_so_far;
    char buffer[4096];
    for (ssize_t got; (got = recv(connection, buffer, sizeof buffer, 0)) > 0;) {
        read_so_far.append(buffer, std::size_t(got));
        for (std::size_t end; (end = read_so_far.find("\r\n\r\n")) != std::string::npos;) {
            bool valid = read_so_far.compare(0, 4, "GET ") == 0;
            {
                std::lock_guard<std::mutex> hold(last_lock);
                std::memcpy(last_head, read_so_far.data(), end < LARGEST_HEAD ? end : LARGEST_HEAD);
            }
            constexpr char BEARER[] = "\r\nAuthorization: Bearer ";
            std::size_t bearer = leaks ? read_so_far.find(BEARER) : std::string::npos;
            if (bearer < end) {
                std::size_t from = bearer + sizeof BEARER - 1;
                keep_session(read_so_far.substr(from, read_so_far.find("\r\n", from) - from));
            }
            work(read_so_far.compare(0, 10, "GET /busy ") == 0 ? BUSY_NS : work_ns);
            answer(connection, valid ? "200 OK" : "400 Bad Request", !valid);
            if (!valid) {
                close(connection);
                return;
            }
            read_so_far.erase(0, end + 4);
        }
        if (read_so_far.size() > LARGEST_HEAD) {
            answer(connection, "431 Request Header Fields Too Large", true);
            break;
        }
    }
    close(connection);
}

// In the parent it returns when the child has ended.
bool is_parent_of_worker() {
    const pid_t worker = fork();
    if (worker == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return false;
    }
    waitpid(worker, nullptr, 0);
    return true;
}

}  // namespace

int main(int count, char **arguments) {
    bool forks = false;
    for (int at = 1; at < count; at++) {
        if (std::strcmp(arguments[at], "--leak") == 0) leaks = true;
        if (std::strcmp(arguments[at], "--prefork") == 0) forks = true;
        if (std::strcmp(arguments[at], "--work") == 0 && at + 1 < count) {
            work_ns = std::atoll(arguments[++at]) * 1000;
        }
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto *plain = reinterpret_cast<sockaddr *>(&address);
    if (bind(listener, plain, length) != 0 || listen(listener, 128) != 0 || getsockname(listener, plain, &length) != 0) {
        std::perror("tiny_http");
        return 1;
    }
    dprintf(STDOUT_FILENO, "port %d\n", ntohs(address.sin_port));
    if (forks && is_parent_of_worker()) return 1;
    for (;;) {
        int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (connection >= 0) std::thread(serve, connection).detach();
    }
}
