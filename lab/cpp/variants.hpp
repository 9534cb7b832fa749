// What each variant keeps and frees; lab/services.toml has the known answers.
#pragma once

#include <chrono>
#include <cmath>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "tokens.hpp"

// Not inlined, so that each call is a frame with its own source line.
#define NOINLINE __attribute__((noinline))

using Clock = std::chrono::steady_clock;

static std::string variant = "stateless";
static std::mutex state_lock;

// ---- leaks -----------------------------------------------------------------------------------

static std::unordered_map<std::string, Claims> claims_cache;

// Checking is slow, so it is done once per token.
NOINLINE static std::optional<Claims> claims_for(const std::string& token) {
  std::lock_guard<std::mutex> hold(state_lock);
  auto cached = claims_cache.find(token);
  if (cached != claims_cache.end()) return cached->second;
  auto claims = decode(token);
  if (claims) claims_cache.emplace(token, *claims);
  return claims;
}

// Several tokens of one subject share an entry.
NOINLINE static void remember_subject(const Claims& claims) {
  std::lock_guard<std::mutex> hold(state_lock);
  claims_cache.try_emplace(claims.subject, claims);
}

static std::vector<std::string> response_log;

// Debugging code that was never removed: the last responses, never trimmed.
NOINLINE static void log_response(const Claims& claims, const std::string& body) {
  std::string line = claims.subject + " " + claims.token_id + " " + body;
  std::lock_guard<std::mutex> hold(state_lock);
  response_log.push_back(std::move(line));
}

static std::vector<std::string> uploads;

// Each upload, for a retry that never comes.
NOINLINE static void keep_upload(const std::string& body) {
  std::string copy = body;
  std::lock_guard<std::mutex> hold(state_lock);
  uploads.push_back(std::move(copy));
}

static std::list<std::function<size_t()>> cleanups;
static size_t cleanup_bytes = 0;

static size_t heap(const Claims& claims);

// Callbacks for the end of the request, which are never removed.
NOINLINE static void register_cleanup(const Claims& claims) {
  std::lock_guard<std::mutex> hold(state_lock);
  cleanups.push_back([claims] { return claims.subject.size(); });
  // The node of the list, and the closure that the function object holds.
  cleanup_bytes += 2 * sizeof(void*) + sizeof(std::function<size_t()>) + sizeof(Claims) + heap(claims);
}

static thread_local std::list<Claims> seen_here;
static size_t seen = 0, seen_bytes = 0;

// One entry per request, on its thread.
NOINLINE static void remember_seen(const Claims& claims) {
  seen_here.push_back(claims);
  std::lock_guard<std::mutex> hold(state_lock);
  seen++;
  seen_bytes += 2 * sizeof(void*) + sizeof(Claims) + heap(claims);
}

static std::vector<std::string> samples;

NOINLINE static void take_sample() {
  std::string sample(2047, 'x');
  std::lock_guard<std::mutex> hold(state_lock);
  samples.push_back(std::move(sample));
}

// Collects samples and never sends them.
static void collect_samples() {
  for (;;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    take_sample();
  }
}

struct Quota {
  uint32_t requests = 0;
  double since = 0;
  char plan[24] = "free";
};
static std::unordered_map<uint64_t, Quota> quotas;

// A rate limiter by user that never forgets one: 64 bytes each, with the node's links.
NOINLINE static void count_quota(const Claims& claims) {
  std::lock_guard<std::mutex> hold(state_lock);
  quotas[std::hash<std::string>()(claims.subject + claims.token_id)].requests++;
}

static size_t answered = 0;

// Slow queries are written down, and every 20th is slow.
NOINLINE static void log_slow_query(const Claims& claims, const std::string& body) {
  std::string line = claims.subject + " " + body;
  std::lock_guard<std::mutex> hold(state_lock);
  if (answered++ % 20 == 0) response_log.push_back(std::move(line));
}

static std::map<std::string, std::string> missing;

// A negative cache of paths, which attackers fill.
NOINLINE static void remember_missing(const std::string& path) {
  std::lock_guard<std::mutex> hold(state_lock);
  missing.emplace(path, "{\"error\":\"no such resource\",\"path\":\"" + path + "\"}");
}

// An error handler that keeps reports for a collector that was never configured.
NOINLINE static void report_error(const std::string& path, const std::exception& error) {
  std::string report = path + ": " + error.what() + std::string(700, '.');
  std::lock_guard<std::mutex> hold(state_lock);
  response_log.push_back(std::move(report));
}

// ---- caches that evict, tables that are full ----------------------------------------------------

static const size_t lru_capacity = 1024;
static std::list<std::pair<std::string, Claims>> lru_order;  // most recently used first
static std::unordered_map<std::string, std::list<std::pair<std::string, Claims>>::iterator> lru_index;

NOINLINE static std::optional<Claims> lru_claims_for(const std::string& token) {
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

static std::unordered_map<std::string, std::pair<Clock::time_point, Claims>> timed;

NOINLINE static std::optional<Claims> timed_claims_for(const std::string& token) {
  std::lock_guard<std::mutex> hold(state_lock);
  auto cached = timed.find(token);
  if (cached != timed.end()) return cached->second.second;
  auto claims = decode(token);
  if (claims) timed.emplace(token, std::make_pair(Clock::now(), *claims));
  return claims;
}

// Entries live for 15 s.
static void sweep_expired() {
  for (;;) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    std::lock_guard<std::mutex> hold(state_lock);
    for (auto entry = timed.begin(); entry != timed.end();) {
      bool expired = Clock::now() - entry->second.first > std::chrono::seconds(15);
      entry = expired ? timed.erase(entry) : std::next(entry);
    }
  }
}

static void clear_batches() {
  for (;;) {
    std::this_thread::sleep_for(std::chrono::seconds(20));
    std::lock_guard<std::mutex> hold(state_lock);
    timed.clear();
  }
}

// At least recently used first out, with a limit of entries and of bytes.
template <typename Value>
class Bounded {
 public:
  Bounded(size_t most, size_t most_bytes) : most(most), most_bytes(most_bytes) {}

  NOINLINE const Value* find(const std::string& key) {
    auto found = index.find(key);
    if (found == index.end()) return nullptr;
    order.splice(order.begin(), order, found->second);
    return &found->second->second;
  }

  NOINLINE void put(const std::string& key, Value value) {
    bytes += weight(value);
    order.emplace_front(key, std::move(value));
    index.emplace(key, order.begin());
    while (order.size() > most || bytes > most_bytes) {
      bytes -= weight(order.back().second);
      index.erase(order.back().first);
      order.pop_back();
    }
  }

 private:
  static size_t weight(const std::string& value) { return value.size(); }
  static size_t weight(const Claims& value) { return value.subject.size() + value.email.size() + value.scope.size(); }

  std::list<std::pair<std::string, Value>> order;
  std::unordered_map<std::string, typename std::list<std::pair<std::string, Value>>::iterator> index;
  size_t most, most_bytes, bytes = 0;
};

static const size_t no_limit = SIZE_MAX;
static Bounded<Claims> large_lru(5000, no_limit), first_lru(2000, no_limit);
static Bounded<std::string> weighted(no_limit, 4 << 20), second_lru(3000, no_limit);

// What a request does with one of these caches: the answer for the token is computed once.
NOINLINE static void answer_from(Bounded<std::string>& cache, const std::string& token, const Claims& claims) {
  std::lock_guard<std::mutex> hold(state_lock);
  if (cache.find(token) == nullptr) cache.put(token, std::string(200 + claims.token_id.size() * 31 % 1600, 'a'));
}

NOINLINE static void claims_from(Bounded<Claims>& cache, const std::string& token, const Claims& claims) {
  std::lock_guard<std::mutex> hold(state_lock);
  if (cache.find(token) == nullptr) cache.put(token, claims);
}

// Entries live for 300 s.
NOINLINE static void sweep_after_minutes() {
  for (;;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    std::lock_guard<std::mutex> hold(state_lock);
    for (auto entry = timed.begin(); entry != timed.end();) {
      bool expired = Clock::now() - entry->second.first > std::chrono::seconds(300);
      entry = expired ? timed.erase(entry) : std::next(entry);
    }
  }
}

// The caches are as full at the start as they are after hours. Entries of most of them have the sizes of later ones;
// those of two caches side by side are of an older and smaller format.
static void fill_caches() {
  const bool older = variant == "two-caches-full";
  for (size_t user = 0; user < 12'000; user++) {
    std::string number = std::to_string(10'000'000 + user);
    std::string token = std::string(36, 'h') + "." + std::string(older ? 90 : 350, 'c') + "." + std::string(35, 's') + number;
    Claims claims;
    claims.subject = "user-" + number;
    claims.email = claims.subject + "@lab.example";
    claims.token_id = "00000000-0000" + number;
    claims.scope = older ? "openid profile data" : "openid profile email data:read data:write";
    if (variant == "lru-5000-full") claims_from(large_lru, token, claims);
    if (variant == "weighted-full") answer_from(weighted, token, claims);
    if (variant == "two-caches-full") {
      claims_from(first_lru, token, claims);
      answer_from(second_lru, token, claims);
    }
    if (variant == "ttl-300-full") {
      timed.emplace(token, std::make_pair(Clock::now() - std::chrono::milliseconds(25 * user), claims));
    }
  }
}

static std::map<size_t, std::string> loaded;

// Each of the first requests loads one table, until all are loaded.
NOINLINE static void load_next_table() {
  std::lock_guard<std::mutex> hold(state_lock);
  if (loaded.size() < 2000) loaded.emplace(loaded.size(), std::string(2047, 'x'));
}

// ---- large for a while ---------------------------------------------------------------------------

// A user's permissions from another service: large, and freed with the request.
NOINLINE static std::vector<std::string> permissions_of(const Claims& claims) {
  std::vector<std::string> granted;
  for (int id = 0; id < 200; id++) {
    granted.push_back(claims.subject + ":item:" + std::to_string(id) + ":read");
  }
  return granted;
}

static std::vector<std::string> pool;

// Reused buffers.
NOINLINE static size_t with_pooled_buffer(const Claims& claims) {
  std::string buffer;
  {
    std::lock_guard<std::mutex> hold(state_lock);
    if (!pool.empty()) {
      buffer = std::move(pool.back());
      pool.pop_back();
    }
  }
  buffer.reserve(16 * 1024);
  buffer = claims.subject;
  size_t size = buffer.size();
  std::lock_guard<std::mutex> hold(state_lock);
  pool.push_back(std::move(buffer));
  return size;
}

// Holds its result as for a slow client; the duration varies with a period of 20 s.
NOINLINE static void answer_slowly() {
  std::string result(64 * 1024, 'x');
  double now = std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
  double seconds = 0.3 + 0.25 * std::sin(now * 2 * 3.14159265 / 20);
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  asm volatile("" : : "r"(result.data()) : "memory");
}

// At the start a table of 48 MiB is built in small pieces and dropped: what leaks later fits into what it leaves.
NOINLINE static void build_and_drop() {
  std::vector<std::string> table;
  for (size_t row = 0; row < 150'000; row++) table.push_back(std::string(100 + row % 400, 'x'));
  // Some pieces stay, so that the memory between them is not returned.
  for (size_t row = 0; row < table.size(); row += 997) pool.push_back(std::move(table[row]));
}

static size_t served = 0;

// Every 500th request builds a report of 32 MiB in small pieces, and frees it.
NOINLINE static size_t build_report(const Claims& claims) {
  size_t number;
  {
    std::lock_guard<std::mutex> hold(state_lock);
    number = served++;
  }
  std::vector<std::string> report;
  for (size_t row = 0; row < (number % 500 == 0 ? 32 * 1024 : 8); row++) {
    report.push_back(std::string(1000, ' ') + claims.subject);
  }
  return report.size();
}

// ---- counts --------------------------------------------------------------------------------------

// Bytes requested by a string: short ones are stored in the object itself.
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

  void strings(const std::vector<std::string>& all) {
    entries += all.size();
    for (const auto& one : all) entry_bytes += heap(one);
    table_bytes += all.capacity() * sizeof(std::string);
  }
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
  for (const auto& entry : timed) {
    kept.entries++;
    kept.entry_bytes += hash_node + sizeof(entry) + heap(entry.first) + heap(entry.second.second);
  }
  for (const auto& entry : quotas) {
    kept.entries++;
    kept.entry_bytes += sizeof(void*) + sizeof(entry);  // the hash of an integer is not stored
  }
  for (const auto& entry : missing) {
    kept.entries++;
    kept.entry_bytes += 4 * sizeof(void*) + sizeof(entry) + heap(entry.first) + heap(entry.second);
  }
  for (const auto& entry : loaded) {
    kept.entries++;
    kept.entry_bytes += 4 * sizeof(void*) + sizeof(entry) + heap(entry.second);
  }
  for (const auto* strings : {&response_log, &uploads, &samples, &pool}) kept.strings(*strings);
  kept.entries += cleanups.size() + seen;
  kept.entry_bytes += cleanup_bytes + seen_bytes;
  // One bucket is part of the map itself.
  auto buckets = [&](const auto& map) {
    if (map.bucket_count() > 1) kept.table_bytes += map.bucket_count() * sizeof(void*);
  };
  buckets(claims_cache);
  buckets(quotas);
  buckets(lru_index);
  buckets(timed);
  return kept;
}

// ---- all variants --------------------------------------------------------------------------------

static const std::unordered_set<std::string> variants = {
    "stateless", "token-cache", "subject-cache", "introspection-log", "body-retained", "context-registry",
    "thread-local", "background", "lru-1024", "ttl", "ttl-batch", "request-state", "pool", "warm-up",
    "working-set", "burst-retention", "quota-64", "one-in-20", "missing-path", "error-report", "into-freed",
    "lru-5000-full", "ttl-300-full", "weighted-full", "two-caches-full"};

// Threads of a variant besides those of its connections.
static void start_background() {
  if (variant == "background") std::thread(collect_samples).detach();
  if (variant == "ttl") std::thread(sweep_expired).detach();
  if (variant == "ttl-batch") std::thread(clear_batches).detach();
  if (variant == "ttl-300-full") std::thread(sweep_after_minutes).detach();
  if (variant == "into-freed") build_and_drop();
  fill_caches();
}

// The claims of a request to the variant's route, after its processing.
static std::optional<Claims> checked(const std::string& token) {
  if (variant == "token-cache" || variant == "into-freed") return claims_for(token);
  if (variant == "lru-1024") return lru_claims_for(token);
  if (variant == "ttl" || variant == "ttl-batch" || variant == "ttl-300-full") return timed_claims_for(token);
  auto claims = decode(token);
  if (!claims) return claims;
  if (variant == "subject-cache") remember_subject(*claims);
  if (variant == "context-registry") register_cleanup(*claims);
  if (variant == "thread-local") remember_seen(*claims);
  if (variant == "quota-64") count_quota(*claims);
  if (variant == "lru-5000-full") claims_from(large_lru, token, *claims);
  if (variant == "weighted-full") answer_from(weighted, token, *claims);
  if (variant == "two-caches-full") {
    claims_from(first_lru, token, *claims);
    answer_from(second_lru, token, *claims);
  }
  if (variant == "warm-up") load_next_table();
  if (variant == "pool") with_pooled_buffer(*claims);
  if (variant == "working-set") answer_slowly();
  if (variant == "burst-retention") build_report(*claims);
  return claims;
}
