// A threaded HTTP server whose variants leak or not in known ways; see lab/services.toml.
//
// One thread per connection, keep-alive and pipelining, HS256 tokens checked on each request.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tokens.hpp"
#include "variants.hpp"

// ---- requests ----------------------------------------------------------------------------------

struct Request {
  std::string method;
  std::string path;
  std::string bearer;
  std::string body;
  bool close = false;
};

struct Response {
  int status = 200;
  std::string body;
};

static std::mutex books_lock;
static std::map<std::string, uint64_t> requests_by_route;
static std::vector<bool> token_bits(1 << 22);  // fixed: the books must not grow while watched
static uint64_t distinct_tokens = 0;

static void count(const std::string& route, const std::string& bearer) {
  std::lock_guard<std::mutex> hold(books_lock);
  requests_by_route[route]++;
  if (bearer.empty()) return;
  auto bit = token_bits[std::hash<std::string>()(bearer) % token_bits.size()];
  if (!bit) {
    bit = true;
    distinct_tokens++;
  }
}

static std::string render_data(const std::string& user) {
  std::string json = "{\"user\":\"" + user + "\",\"items\":[";
  for (int id = 1; id <= 8; id++) {
    if (id > 1) json += ",";
    json += "{\"id\":" + std::to_string(id) + ",\"name\":\"item of " + user + "\"}";
  }
  return json + "]}";
}

// ---- handlers ------------------------------------------------------------------------------------

NOINLINE static Response handle_data(const Request& request) {
  std::vector<std::string> granted;
  auto claims = checked(request.bearer);
  if (!claims) return {401, ""};
  if (variant == "request-state") granted = permissions_of(*claims);
  std::string body = render_data(claims->subject);
  if (variant == "introspection-log") log_response(*claims, body);
  if (variant == "one-in-20") log_slow_query(*claims, body);
  return {200, body};
}

NOINLINE static Response handle_profile(const Request& request) {
  auto claims = decode(request.bearer);
  if (!claims && variant == "error-report") throw std::runtime_error("no profile without a user");
  if (!claims) return {401, ""};
  return {200, "{\"sub\":\"" + claims->subject + "\",\"email\":\"" + claims->email + "\"}"};
}

NOINLINE static Response handle_upload(const Request& request) {
  if (variant == "body-retained") keep_upload(request.body);
  return {201, "{\"bytes\":" + std::to_string(request.body.size()) + "}"};
}

NOINLINE static Response handle_user(const Request& request) {
  return {200, "{\"id\":\"" + request.path.substr(strlen("/users/")) + "\"}"};
}

NOINLINE static Response handle_health() { return {200, "ok"}; }

static Response handle_truth() {
  Kept now = kept();
  std::lock_guard<std::mutex> hold(books_lock);
  uint64_t total = 0;
  std::string routes;
  for (const auto& [route, requests] : requests_by_route) {
    total += requests;
    routes += (routes.empty() ? "\"" : ",\"") + route + "\":" + std::to_string(requests);
  }
  return {200, "{\"variant\":\"" + variant + "\",\"entries\":" + std::to_string(now.entries) +
                   ",\"entry_bytes\":" + std::to_string(now.entry_bytes) +
                   ",\"table_bytes\":" + std::to_string(now.table_bytes) +
                   ",\"kept_bytes\":" + std::to_string(now.entry_bytes + now.table_bytes) +
                   ",\"distinct_tokens\":" + std::to_string(distinct_tokens) + ",\"requests\":{" +
                   routes + "},\"total_requests\":" + std::to_string(total) + "}"};
}

static Response route(const Request& request) {
  const std::string& method = request.method;
  const std::string& path = request.path;
  if (method == "GET" && path == "/truth") return handle_truth();
  if (method == "GET" && path == "/api/data") {
    count("GET /api/data", request.bearer);
    return handle_data(request);
  }
  if (method == "GET" && path == "/api/profile") {
    count("GET /api/profile", request.bearer);
    try {
      return handle_profile(request);
    } catch (const std::exception& error) {
      report_error(path, error);
      return {500, ""};
    }
  }
  if (method == "POST" && path == "/api/upload") {
    count("POST /api/upload", request.bearer);
    return handle_upload(request);
  }
  if (method == "GET" && path == "/health") {
    count("GET /health", request.bearer);
    return handle_health();
  }
  if (method == "GET" && path.rfind("/users/", 0) == 0) {
    count("GET /users/{id}", request.bearer);
    return handle_user(request);
  }
  count("(unknown)", request.bearer);
  if (variant == "missing-path") remember_missing(path);
  return {404, "{\"error\":\"no such resource\"}"};
}

// ---- connections -----------------------------------------------------------------------------------

static bool starts_with_ignoring_case(std::string_view line, std::string_view start) {
  return line.size() >= start.size() && strncasecmp(line.data(), start.data(), start.size()) == 0;
}

// Reads one request from the buffer and the socket; none if the peer has closed.
static std::optional<Request> read_request(int socket, std::string& buffer) {
  char chunk[16384];
  auto more = [&] {
    ssize_t got = read(socket, chunk, sizeof chunk);
    if (got > 0) buffer.append(chunk, static_cast<size_t>(got));
    return got > 0;
  };
  size_t head_end;
  while ((head_end = buffer.find("\r\n\r\n")) == std::string::npos) {
    if (buffer.size() > 65536 || !more()) return std::nullopt;
  }
  std::string_view head = std::string_view(buffer).substr(0, head_end);
  size_t line_end = std::min(head.find("\r\n"), head.size());
  std::string_view first = head.substr(0, line_end);
  size_t space = first.find(' ');
  size_t second = first.rfind(' ');
  if (space == std::string_view::npos || space == second) return std::nullopt;
  Request request;
  request.method = std::string(first.substr(0, space));
  request.path = std::string(first.substr(space + 1, second - space - 1));
  request.close = first.substr(second + 1) == "HTTP/1.0";
  size_t length = 0;
  for (size_t at = line_end; at < head.size();) {
    at += 2;
    size_t end = std::min(head.find("\r\n", at), head.size());
    std::string_view line = head.substr(at, end - at);
    if (starts_with_ignoring_case(line, "authorization: bearer ")) request.bearer = line.substr(22);
    if (starts_with_ignoring_case(line, "content-length: ")) {
      length = std::strtoul(std::string(line.substr(16)).c_str(), nullptr, 10);
    }
    if (starts_with_ignoring_case(line, "connection: close")) request.close = true;
    at = end;
  }
  if (length > (64u << 20)) return std::nullopt;
  while (buffer.size() < head_end + 4 + length) {
    if (!more()) return std::nullopt;
  }
  request.body = buffer.substr(head_end + 4, length);
  buffer.erase(0, head_end + 4 + length);
  return request;
}

static bool write_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t wrote = write(socket, bytes.data(), bytes.size());
    if (wrote <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
  return true;
}

static void serve(int socket) {
  std::string buffer;
  while (auto request = read_request(socket, buffer)) {
    Response response = route(*request);
    std::string text = "HTTP/1.1 " + std::to_string(response.status) +
                       (response.status < 400 ? " OK" : " No") +
                       "\r\nContent-Type: application/json\r\nContent-Length: " +
                       std::to_string(response.body.size()) +
                       (request->close ? "\r\nConnection: close" : "") + "\r\n\r\n" + response.body;
    if (!write_all(socket, text) || request->close) break;
  }
  close(socket);
}

int main(int argc, char** argv) {
  uint16_t port = 8080;
  for (int i = 1; i + 1 < argc; i += 2) {
    std::string name = argv[i];
    if (name == "--port") port = static_cast<uint16_t>(std::atoi(argv[i + 1]));
    if (name == "--variant") variant = argv[i + 1];
  }
  if (!variants.count(variant)) {
    std::fprintf(stderr, "no variant %s\n", variant.c_str());
    return 64;
  }
  std::signal(SIGPIPE, SIG_IGN);
  start_background();
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 128) != 0) {
    std::perror("cannot listen");
    return 1;
  }
  std::printf("%s on http://127.0.0.1:%d\n", variant.c_str(), port);
  std::fflush(stdout);
  for (;;) {
    int connection = accept(listener, nullptr, nullptr);
    if (connection < 0) continue;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::thread(serve, connection).detach();
  }
}
