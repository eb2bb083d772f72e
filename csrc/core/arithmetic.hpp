// The arithmetic coder: bytes or floating-point values to a stream and back. The stream is specified in
// docs/stream-format.md.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace model_forensics {

enum class Element : std::uint8_t { bytes = 0, float32 = 1, float16 = 2, bfloat16 = 3 };
enum class SymbolModel : std::uint8_t { fixed = 0, adaptive = 1, conditional = 2 };

// A stream that is not one, is damaged, or is of another version; the text says where.
class StreamError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Bytes of any length; a rest shorter than an element is stored as it is. Throws std::bad_alloc.
std::vector<std::uint8_t> arithmetic_encode(std::span<const std::uint8_t> data, Element element, SymbolModel model);

// Bytes that the stream says it decodes to, after its header and the sizes of its chunks were checked: never more than
// about 2^22 times the stream's own. Throws StreamError.
std::int64_t decoded_size(std::span<const std::uint8_t> stream);

// Fills `data`, which must have decoded_size(stream) bytes. Takes memory in proportion to one chunk a thread. Throws
// StreamError; `data` may then hold anything.
void arithmetic_decode(std::span<const std::uint8_t> stream, std::span<std::uint8_t> data);

}  // namespace model_forensics
