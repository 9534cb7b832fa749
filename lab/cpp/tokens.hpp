// Bearer tokens: claims, and SHA-256, HMAC and base64url for checking HS256.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

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
