// A small HTTP/1.1 server that uses all system calls for reading and writing, so that a test can check
// whether heaptide sees them all. `server threads` gives every connection a thread, `server poll` serves all
// from one: it reads from all that are ready before it answers any.
//
// Paths it knows: /reader/KIND and /writer/KIND change how this connection is read and written,
// /status/NNN returns that status, /drop closes without a response, /continue sends 100 first, all others
// return 200. With /writer/joined responses that are ready together are sent together.
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <strings.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

constexpr std::size_t MOST = 4 << 20;
int body_file = -1;

ssize_t receive(int fd, const std::string &how, char *to, std::size_t size) {
    // The first vectors are small, so that a head spans several of them.
    iovec parts[3] = {{to, 10}, {to + 10, 30}, {to + 40, size - 40}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 3;
    if (how == "readv") return readv(fd, parts, 3);
    if (how == "recvmsg") return recvmsg(fd, &message, 0);
    if (how == "recvfrom") return recvfrom(fd, to, size, 0, nullptr, nullptr);
    if (how == "peek") {
        ssize_t got = recv(fd, to, size, MSG_PEEK);
        return got > 0 ? recv(fd, to, size, 0) : got;
    }
    if (how == "small") return read(fd, to, 7);
    return read(fd, to, size);
}

bool all(int fd, const std::string &text) {
    for (std::size_t done = 0; done < text.size();) {
        ssize_t sent = write(fd, text.data() + done, text.size() - done);
        if (sent <= 0) return false;
        done += std::size_t(sent);
    }
    return true;
}

bool answer(int fd, const std::string &how, const std::string &head, const std::string &body) {
    std::string both = head + body;
    iovec parts[2] = {{const_cast<char *>(head.data()), head.size()}, {const_cast<char *>(body.data()), body.size()}};
    // The status line in three parts, the first of them empty.
    iovec crumbs[4] = {{nullptr, 0}, {const_cast<char *>(both.data()), 5}, {const_cast<char *>(both.data()) + 5, 9},
                       {const_cast<char *>(both.data()) + 14, both.size() - 14}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    if (how == "writev") return writev(fd, parts, 2) > 0;
    if (how == "crumbs") return writev(fd, crumbs, 4) > 0;
    if (how == "sendto") return sendto(fd, both.data(), both.size(), MSG_NOSIGNAL, nullptr, 0) > 0;
    if (how == "sendmsg") return sendmsg(fd, &message, MSG_NOSIGNAL) > 0;
    if (how == "sendfile") {
        off_t at = 0;
        return pwrite(body_file, body.data(), body.size(), 0) > 0 && all(fd, head) &&
               sendfile(fd, body_file, &at, body.size()) > 0;
    }
    if (how == "split") return all(fd, head) && all(fd, body);
    if (how == "splithead") return all(fd, both.substr(0, 10)) && all(fd, both.substr(10));
    return all(fd, both);
}

struct Connection {
    int fd;
    std::string reader = "read";
    std::string writer = "write";
    std::string input;
    std::string joined;

    explicit Connection(int fd) : fd(fd) {}

    // Takes one complete request from the input; false: there is none yet.
    bool take(std::string &path, bool &bad);
    // Serves all complete requests; false: the connection ends.
    bool serve();
};

std::size_t chunked_end(const std::string &text, std::size_t at) {
    for (;;) {
        std::size_t line = text.find("\r\n", at);
        if (line == std::string::npos) return std::string::npos;
        std::size_t size = std::strtoul(text.c_str() + at, nullptr, 16);
        at = line + 2 + size + 2;
        if (size == 0) {
            // The trailer ends with an empty line.
            std::size_t end = text.compare(line + 2, 2, "\r\n") == 0 ? line + 2 : text.find("\r\n\r\n", line);
            if (end == std::string::npos || end + 2 > text.size()) return std::string::npos;
            return text.compare(line + 2, 2, "\r\n") == 0 ? line + 4 : end + 4;
        }
        if (at > text.size()) return std::string::npos;
    }
}

bool Connection::take(std::string &path, bool &bad) {
    std::size_t head = input.find("\r\n\r\n");
    if (head == std::string::npos) {
        bad = input.size() > MOST;
        return false;
    }
    std::size_t begin = input.find(' '), end = input.find(' ', begin + 1);
    if (begin == std::string::npos || end == std::string::npos || end > head || !std::isupper(input[0])) {
        bad = true;
        return false;
    }
    path = input.substr(begin + 1, end - begin - 1);
    std::size_t body = 0;
    bool chunked = false;
    for (std::size_t line = input.find("\r\n"); line < head; line = input.find("\r\n", line + 2)) {
        const char *text = input.c_str() + line + 2;
        if (strncasecmp(text, "content-length:", 15) == 0) body = std::strtoul(text + 15, nullptr, 10);
        if (strncasecmp(text, "transfer-encoding:", 18) == 0) chunked = true;
    }
    if (path.rfind("/continue", 0) == 0 && input.size() == head + 4) {
        if (!all(fd, "HTTP/1.1 100 Continue\r\n\r\n")) bad = true;
        // Sent once: the next check finds some body.
        char buffer[4096];
        ssize_t got = receive(fd, reader, buffer, sizeof buffer);
        if (got <= 0) bad = true;
        else input.append(buffer, std::size_t(got));
        if (bad) return false;
    }
    std::size_t whole = chunked ? chunked_end(input, head + 4) : head + 4 + body;
    if (whole == std::string::npos || whole > input.size()) return false;
    input.erase(0, whole);
    return true;
}

bool Connection::serve() {
    std::string path;
    bool bad = false;
    while (take(path, bad)) {
        if (path.rfind("/drop", 0) == 0) return false;
        if (path.rfind("/reader/", 0) == 0) reader = path.substr(8);
        if (path.rfind("/writer/", 0) == 0) writer = path.substr(8);
        std::string status = path.rfind("/status/", 0) == 0 ? path.substr(8, 3) : "200";
        std::string body = "said to " + path + "\n";
        std::string head =
            "HTTP/1.1 " + status + " Said\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n";
        if (writer == "joined") joined += head + body;
        else if (!answer(fd, writer, head, body)) return false;
    }
    bool sent = joined.empty() || all(fd, joined);
    joined.clear();
    if (bad) all(fd, "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    return sent && !bad;
}

void thread_of(int fd) {
    Connection connection(fd);
    std::vector<char> buffer(64 * 1024);
    for (ssize_t got; (got = receive(fd, connection.reader, buffer.data(), buffer.size())) > 0;) {
        connection.input.append(buffer.data(), std::size_t(got));
        if (!connection.serve()) break;
    }
    close(fd);
}

void poll_all(int listener) {
    std::vector<std::unique_ptr<Connection>> all;
    std::vector<char> buffer(64 * 1024);
    for (;;) {
        std::vector<pollfd> wanted{{listener, POLLIN, 0}};
        for (auto &one : all) wanted.push_back({one->fd, POLLIN, 0});
        // A short sleep lets more than one become ready.
        if (poll(wanted.data(), wanted.size(), -1) < 0) return;
        usleep(20000);
        if (poll(wanted.data(), wanted.size(), 0) < 0) return;
        std::vector<std::size_t> ready;
        for (std::size_t at = 1; at < wanted.size(); at++)
            if (wanted[at].revents) ready.push_back(at - 1);
        std::vector<std::size_t> ended;
        for (std::size_t at : ready) {
            ssize_t got = read(all[at]->fd, buffer.data(), buffer.size());
            if (got > 0) all[at]->input.append(buffer.data(), std::size_t(got));
            else ended.push_back(at);
        }
        for (std::size_t at : ready)
            if (!all[at]->serve() && (ended.empty() || ended.back() != at)) ended.push_back(at);
        for (auto at = ended.rbegin(); at != ended.rend(); ++at) {
            close(all[*at]->fd);
            all.erase(all.begin() + long(*at));
        }
        if (wanted[0].revents) {
            int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd >= 0) all.push_back(std::make_unique<Connection>(fd));
        }
    }
}

}  // namespace

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    body_file = memfd_create("body", MFD_CLOEXEC);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto *plain = reinterpret_cast<sockaddr *>(&address);
    if (bind(listener, plain, length) != 0 || listen(listener, 128) != 0 || getsockname(listener, plain, &length) != 0) {
        std::perror("listen");
        return 1;
    }
    std::printf("port %d\n", ntohs(address.sin_port));
    std::fflush(stdout);
    if (count > 1 && std::strcmp(words[1], "poll") == 0) {
        poll_all(listener);
        return 1;
    }
    for (;;) {
        int fd = accept(listener, nullptr, nullptr);
        if (fd >= 0) std::thread(thread_of, fd).detach();
    }
}
