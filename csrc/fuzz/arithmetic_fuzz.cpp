// libFuzzer target of the arithmetic coder. The first byte of an input says what is done with the rest:
//   0     it is a stream
//   1-3   it is fields of a header and what follows, made a stream with a sound header: so that the fuzzer need not guess
//         checksums to get at sections, tables and lanes
//   4-5   it is a byte for element and model, and data: coded and decoded
//   6     the same, the data repeated until several lanes are used
//   7     as 6, and the stream is damaged in two places before it is decoded
// Every instruction set must say the same.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "arithmetic.hpp"
#include "crc32c.hpp"
#include "isa.hpp"
#include "parallel.hpp"

namespace mf = model_forensics;

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::int64_t kMostDecoded = 20'000;  // as a caller's limit; what is larger is not decoded
constexpr std::int64_t kMostRepeated = 150'000;  // enough for 32 lanes

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::abort();
}

// The plainest and the best; what lies between them is checked by the tests.
constexpr std::size_t kSets = 2;
mf::Isa instruction_set(std::size_t number) { return number == 0 ? mf::Isa::portable : mf::detected_isa(); }

struct Outcome {
  std::string refusal;
  Bytes data;
  bool operator==(const Outcome&) const = default;
};

Outcome decode(std::span<const std::uint8_t> stream, std::int64_t most) {
  try {
    const std::int64_t size = mf::decoded_size(stream);
    if (size > most) return {"above the limit", {}};
    Bytes data(static_cast<std::size_t>(size));
    mf::arithmetic_decode(stream, data);
    return {{}, std::move(data)};
  } catch (const mf::StreamError& error) {
    return {error.what(), {}};
  }
}

void decode_everywhere(std::span<const std::uint8_t> stream, std::int64_t most = kMostDecoded) {
  std::optional<Outcome> first;
  for (std::size_t set = 0; set < kSets; ++set) {
    mf::use_isa(instruction_set(set));
    const Outcome outcome = decode(stream, most);
    if (!first) first = outcome;
    expect(outcome == *first, "every instruction set decodes to the same");
  }
}

void put(Bytes& stream, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) stream.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

// fields: element, model and flags, decoded size (3), chunk (3); then the chunks. A single chunk gets its length.
Bytes with_sound_header(std::span<const std::uint8_t> fields) {
  constexpr std::size_t kFields = 7;
  if (fields.size() < kFields) return {};
  const std::uint64_t size = fields[1] + 256U * fields[2] + 65536U * fields[3];
  const std::uint64_t chunk = fields[4] + 256U * fields[5] + 65536U * fields[6];
  const auto digit = [&fields](int unit, int base) { return static_cast<std::uint8_t>(fields[0] / unit % base); };
  Bytes stream{'M', 'F', 'A', 'C', 1, digit(1, 4), digit(4, 2), digit(8, 2)};
  put(stream, size, 8);
  put(stream, chunk, 4);
  put(stream, mf::crc32c(stream), 4);
  const auto body = fields.subspan(kFields);
  if (size <= chunk && body.size() >= 4) {
    put(stream, body.size() - 4, 4);  // in place of no field: the chunk's checksum follows in the input
  }
  stream.insert(stream.end(), body.begin(), body.end());
  return stream;
}

constexpr std::array kElements{mf::Element::bytes, mf::Element::float32, mf::Element::float16, mf::Element::bfloat16};
constexpr std::array kModels{mf::SymbolModel::fixed, mf::SymbolModel::adaptive, mf::SymbolModel::conditional};

struct Choice {
  mf::Element element;
  mf::SymbolModel model;
  Bytes data;
};

// One byte for element and model; the rest is data.
Choice chosen(std::span<const std::uint8_t> input) {
  if (input.empty()) return {kElements[0], kModels[0], {}};
  return {kElements[input[0] % 4], kModels[input[0] / 4 % 3], Bytes(input.begin() + 1, input.end())};
}

// The first byte of the data says how often the others are repeated: seldom so often that many lanes are used, which
// takes its time.
Choice repeated(std::span<const std::uint8_t> input) {
  Choice choice = chosen(input);
  if (choice.data.size() < 2) return choice;
  const int times = choice.data[0] < 0xF0 ? choice.data[0] % 16 : 512;
  const Bytes piece(choice.data.begin() + 1, choice.data.end());
  choice.data.clear();
  for (int i = 0; i < times && std::ssize(choice.data) + std::ssize(piece) <= kMostRepeated; ++i) {
    choice.data.insert(choice.data.end(), piece.begin(), piece.end());
  }
  return choice;
}

Bytes encode_everywhere(std::span<const std::uint8_t> data, mf::Element element, mf::SymbolModel model) {
  std::optional<Bytes> first;
  for (std::size_t set = 0; set < kSets; ++set) {
    mf::use_isa(instruction_set(set));
    Bytes stream = mf::arithmetic_encode(data, element, model);
    if (!first) first = std::move(stream);
    else expect(stream == *first, "every instruction set makes the same stream");
  }
  expect(first->size() <= data.size() + 24 + 13, "a stream is hardly longer than its data");
  return *first;
}

void round_trip(const Choice& choice) {
  const Bytes& data = choice.data;
  const Bytes stream = encode_everywhere(data, choice.element, choice.model);
  for (std::size_t set = 0; set < kSets; ++set) {
    mf::use_isa(instruction_set(set));
    Bytes decoded(static_cast<std::size_t>(mf::decoded_size(stream)));
    mf::arithmetic_decode(stream, decoded);
    expect(decoded == data, "the data comes back");
  }
}

void damage(std::span<const std::uint8_t> input) {
  constexpr std::size_t kPlaces = 8;
  if (input.size() < kPlaces) return;
  const Choice choice = repeated(input.subspan(kPlaces));
  Bytes stream = mf::arithmetic_encode(choice.data, choice.element, choice.model);
  const std::size_t body = stream.size() - 24;
  if (body == 0) return;
  for (std::size_t at = 0; at < kPlaces; at += 4) {
    const std::size_t place = input[at] + 256U * input[at + 1] + 65536U * input[at + 2];
    stream[24 + place % body] ^= input[at + 3];
  }
  decode_everywhere(stream, kMostRepeated);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  mf::set_threads(1);
  if (size == 0) return 0;
  const std::span<const std::uint8_t> rest(input + 1, size - 1);
  switch (input[0] % 8) {
    case 0: decode_everywhere(rest); break;
    case 4:
    case 5: round_trip(chosen(rest)); break;
    case 6: round_trip(repeated(rest)); break;
    case 7: damage(rest); break;
    default: decode_everywhere(with_sound_header(rest)); break;
  }
  return 0;
}
