// A threaded HTTP server whose variants leak, or do not, in known ways; see lab/services.toml.
//
// One thread per connection, keep-alive and pipelining, HS256 tokens checked on each request.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

// ---- SHA-256, HMAC, base64url: what a token check needs -------------------------------------

class Sha256 {
 public:
  void update(std::string_view data) {
    for (unsigned char byte : data) {
      buffer_[used_++] = byte;
      if (used_ == 64) {
        block();
        used_ = 0;
      }
    }
    length_ += data.size();
  }

  std::string finish() {
    uint64_t bits = length_ * 8;
    update(std::string_view("\x80", 1));
    while (used_ != 56) update(std::string_view("\0", 1));
    char size[8];
    for (int i = 0; i < 8; i++) size[i] = static_cast<char>(bits >> (56 - 8 * i));
    update(std::string_view(size, 8));
    std::string digest;
    for (uint32_t word : state_) {
      for (int shift = 24; shift >= 0; shift -= 8) digest.push_back(static_cast<char>(word >> shift));
    }
    return digest;
  }

 private:
  static uint32_t rotate(uint32_t word, int by) { return (word >> by) | (word << (32 - by)); }

  void block() {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
      w[i] = uint32_t(buffer_[4 * i]) << 24 | uint32_t(buffer_[4 * i + 1]) << 16 |
             uint32_t(buffer_[4 * i + 2]) << 8 | uint32_t(buffer_[4 * i + 3]);
    }
    for (int i = 16; i < 64; i++) {
      uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3);
      uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto s = state_;
    for (int i = 0; i < 64; i++) {
      uint32_t s1 = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
      uint32_t t1 = s[7] + s1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
      uint32_t s0 = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
      uint32_t t2 = s0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
    }
    for (int i = 0; i < 8; i++) state_[i] += s[i];
  }

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char buffer_[64] = {};
  size_t used_ = 0;
  uint64_t length_ = 0;
};

static std::string hmac(std::string_view key, std::string_view message) {
  std::string inner_pad(64, '\x36'), outer_pad(64, '\x5c');
  for (size_t i = 0; i < key.size(); i++) {
    inner_pad[i] ^= key[i];
    outer_pad[i] ^= key[i];
  }
  Sha256 inner, outer;
  inner.update(inner_pad);
  inner.update(message);
  outer.update(outer_pad);
  outer.update(inner.finish());
  return outer.finish();
}

static std::string base64url_decode(std::string_view text) {
  static const std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (char letter : text) {
    size_t value = alphabet.find(letter);
    if (value == std::string_view::npos) return {};
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes.push_back(static_cast<char>(bits >> count));
    }
  }
  return bytes;
}

// ---- tokens ----------------------------------------------------------------------------------

static const std::string_view secret = "heaptide-lab-hs256-secret";  // the load generator's

struct Claims {
  std::string subject;
  std::string email;
  std::string token_id;
  std::string scope;
};

// The value of a string in a flat JSON object.
static std::string json_string(std::string_view json, const std::string& name) {
  std::string key = "\"" + name + "\":\"";
  size_t start = json.find(key);
  if (start == std::string_view::npos) return {};
  start += key.size();
  return std::string(json.substr(start, json.find('"', start) - start));
}

static std::optional<Claims> decode(std::string_view token) {
  size_t first = token.find('.');
  size_t second = token.rfind('.');
  if (first == std::string_view::npos || first == second) return std::nullopt;
  if (hmac(secret, token.substr(0, second)) != base64url_decode(token.substr(second + 1))) {
    return std::nullopt;
  }
  std::string payload = base64url_decode(token.substr(first + 1, second - first - 1));
  return Claims{json_string(payload, "sub"), json_string(payload, "email"),
                json_string(payload, "jti"), json_string(payload, "scope")};
}

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

static std::string variant = "stateless";

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

// ---- what the variants keep ---------------------------------------------------------------------

static std::mutex state_lock;
static std::unordered_map<std::string, Claims> claims_cache;

// Checking is slow, so it is done once per token.
__attribute__((noinline)) static std::optional<Claims> claims_for(const std::string& token) {
  std::lock_guard<std::mutex> hold(state_lock);
  auto cached = claims_cache.find(token);
  if (cached != claims_cache.end()) return cached->second;
  auto claims = decode(token);
  if (claims) claims_cache.emplace(token, *claims);
  return claims;
}

static const size_t lru_capacity = 1024;
static std::list<std::pair<std::string, Claims>> lru_order;  // most recently used first
static std::unordered_map<std::string, std::list<std::pair<std::string, Claims>>::iterator> lru_index;

__attribute__((noinline)) static std::optional<Claims> lru_claims_for(const std::string& token) {
  std::lock_guard<std::mutex> hold(state_lock);
  auto cached = lru_index.find(token);
  if (cached != lru_index.end()) {
    lru_order.splice(lru_order.begin(), lru_order, cached->second);
    return cached->second->second;
  }
  auto claims = decode(token);
  if (!claims) return claims;
  if (lru_order.size() >= lru_capacity) {
    lru_index.erase(lru_order.back().first);
    lru_order.pop_back();
  }
  lru_order.emplace_front(token, *claims);
  lru_index.emplace(token, lru_order.begin());
  return claims;
}

static std::vector<std::string> response_log;

// Left in from a debugging session: the last responses, never trimmed.
__attribute__((noinline)) static void log_response(const Claims& claims, const std::string& body) {
  std::string line = claims.subject + " " + claims.token_id + " " + body;
  std::lock_guard<std::mutex> hold(state_lock);
  response_log.push_back(std::move(line));
}

// Bytes a string asked for: short ones sit in the object itself.
static size_t heap(const std::string& text) {
  return text.capacity() > 15 ? text.capacity() + 1 : 0;
}

static size_t heap(const Claims& claims) {
  return heap(claims.subject) + heap(claims.email) + heap(claims.token_id) + heap(claims.scope);
}

struct Kept {
  size_t entries = 0;
  size_t entry_bytes = 0;
  size_t table_bytes = 0;
};

static Kept kept() {
  std::lock_guard<std::mutex> hold(state_lock);
  Kept kept;
  const size_t hash_node = 2 * sizeof(void*);  // libstdc++: next pointer and cached hash
  for (const auto& [token, claims] : claims_cache) {
    kept.entries++;
    kept.entry_bytes += hash_node + sizeof(std::pair<const std::string, Claims>) + heap(token) + heap(claims);
  }
  for (const auto& [token, claims] : lru_order) {
    kept.entries++;
    kept.entry_bytes += 2 * sizeof(void*) + sizeof(std::pair<std::string, Claims>) + heap(token) + heap(claims);
  }
  for (const auto& entry : lru_index) {
    kept.entry_bytes += hash_node + sizeof(entry) + heap(entry.first);
  }
  for (const auto& line : response_log) {
    kept.entries++;
    kept.entry_bytes += heap(line);
  }
  // One bucket is part of the map itself.
  if (claims_cache.bucket_count() > 1) kept.table_bytes += claims_cache.bucket_count() * sizeof(void*);
  if (lru_index.bucket_count() > 1) kept.table_bytes += lru_index.bucket_count() * sizeof(void*);
  kept.table_bytes += response_log.capacity() * sizeof(std::string);
  return kept;
}

// ---- handlers ------------------------------------------------------------------------------------

__attribute__((noinline)) static Response handle_data(const Request& request) {
  std::optional<Claims> claims;
  if (variant == "token-cache") {
    claims = claims_for(request.bearer);
  } else if (variant == "lru-1024") {
    claims = lru_claims_for(request.bearer);
  } else {
    claims = decode(request.bearer);
  }
  if (!claims) return {401, ""};
  std::string body = render_data(claims->subject);
  if (variant == "introspection-log") log_response(*claims, body);
  return {200, body};
}

__attribute__((noinline)) static Response handle_profile(const Request& request) {
  auto claims = decode(request.bearer);
  if (!claims) return {401, ""};
  return {200, "{\"sub\":\"" + claims->subject + "\",\"email\":\"" + claims->email + "\"}"};
}

__attribute__((noinline)) static Response handle_upload(const Request& request) {
  return {201, "{\"bytes\":" + std::to_string(request.body.size()) + "}"};
}

__attribute__((noinline)) static Response handle_user(const Request& request) {
  return {200, "{\"id\":\"" + request.path.substr(strlen("/users/")) + "\"}"};
}

__attribute__((noinline)) static Response handle_health() { return {200, "ok"}; }

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
    return handle_profile(request);
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
  return {404, ""};
}

// ---- connections -----------------------------------------------------------------------------------

static bool starts_with_ignoring_case(std::string_view line, std::string_view start) {
  return line.size() >= start.size() && strncasecmp(line.data(), start.data(), start.size()) == 0;
}

// Reads one request from what is there and the socket; none when the peer is done.
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
  static const std::unordered_set<std::string> variants = {"stateless", "token-cache", "lru-1024",
                                                           "introspection-log"};
  if (!variants.count(variant)) {
    std::fprintf(stderr, "no variant %s\n", variant.c_str());
    return 64;
  }
  std::signal(SIGPIPE, SIG_IGN);
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
