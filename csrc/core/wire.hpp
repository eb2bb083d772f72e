// Numbers in a stream, read without trust.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "arithmetic.hpp"

namespace model_forensics {

// Little-endian groups of seven bits, the highest bit set on all but the last.
inline void put_varint(std::vector<std::uint8_t>& stream, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) stream.push_back(static_cast<std::uint8_t>(value | 0x80));
  stream.push_back(static_cast<std::uint8_t>(value));
}

// Takes bytes from the front; throws StreamError where there are none.
class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> stream) : stream_(stream) {}

  std::span<const std::uint8_t> take(std::size_t size) {
    if (size > stream_.size()) throw StreamError("a section ends early");
    const auto taken = stream_.first(size);
    stream_ = stream_.subspan(size);
    return taken;
  }

  std::uint8_t byte() { return take(1)[0]; }

  std::uint64_t varint(std::uint64_t most) {
    std::uint64_t value = 0;
    for (int shift = 0; shift <= 28; shift += 7) {
      const std::uint64_t group = byte();
      value |= (group & 0x7F) << shift;
      if (group < 0x80) {
        if (value > most) break;
        return value;
      }
    }
    throw StreamError("a section holds a number that is too large");
  }

  std::span<const std::uint8_t> left() const { return stream_; }

 private:
  std::span<const std::uint8_t> stream_;
};

}  // namespace model_forensics
