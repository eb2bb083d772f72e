// Round trips of the arithmetic coder under the sanitizers: odd sizes, all elements and models, every instruction set, in
// memory of exactly the size that is needed; and streams that end early.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "arithmetic.hpp"
#include "isa.hpp"

namespace mf = model_forensics;

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::array kElements{mf::Element::bytes, mf::Element::float32, mf::Element::float16, mf::Element::bfloat16};
constexpr std::array kModels{mf::SymbolModel::fixed, mf::SymbolModel::adaptive, mf::SymbolModel::conditional};

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

// `levels` symbols, the smaller ones more often.
Bytes uneven(std::size_t size, std::uint32_t levels) {
  Bytes data(size);
  std::uint32_t state = 12345;
  for (auto& byte : data) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::uint8_t>((state >> 8) % levels * ((state >> 20) % levels) / levels);
  }
  return data;
}

// The same, but some symbols come late and once: of them, adaptive ones take two words.
Bytes with_latecomers(std::size_t size) {
  constexpr std::uint8_t kFirst = 100;
  Bytes data = uneven(size, kFirst);
  for (std::size_t late = kFirst; late < 256; ++late) data[size / 2 + late * 501] = static_cast<std::uint8_t>(late);
  return data;
}

// Only what the stream holds is readable, to the byte.
std::unique_ptr<std::uint8_t[]> exact(std::span<const std::uint8_t> bytes) {
  auto copy = std::make_unique<std::uint8_t[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return copy;
}

Bytes round_trip(const Bytes& data, mf::Element element, mf::SymbolModel model) {
  const Bytes stream = mf::arithmetic_encode(data, element, model);
  const auto copy = exact(stream);
  const std::span<const std::uint8_t> readable(copy.get(), stream.size());
  expect(mf::decoded_size(readable) == std::int64_t(data.size()), "the size is known");
  Bytes decoded(data.size(), 0xA5);
  mf::arithmetic_decode(readable, decoded);
  expect(decoded == data, "the data comes back");
  return stream;
}

void instruction_sets_agree(const Bytes& data, mf::Element element, mf::SymbolModel model) {
  mf::use_isa(mf::Isa::portable);
  const Bytes stream = round_trip(data, element, model);
  for (const auto isa : {mf::Isa::avx2, mf::Isa::avx512}) {
    if (isa > mf::detected_isa()) continue;
    mf::use_isa(isa);
    expect(round_trip(data, element, model) == stream, "every instruction set makes the same stream");
  }
}

void ends_early(const Bytes& data, mf::SymbolModel model) {
  const Bytes stream = mf::arithmetic_encode(data, mf::Element::float16, model);
  Bytes decoded(data.size());
  for (std::size_t size = 0; size < stream.size(); ++size) {
    const std::span<const std::uint8_t> part(stream.data(), size);
    const auto copy = exact(part);
    bool refused = false;
    try {
      mf::arithmetic_decode({copy.get(), size}, decoded);
    } catch (const mf::StreamError&) {
      refused = true;
    }
    expect(refused, "a stream that ends early is refused");
  }
}

}  // namespace

int main() {
  for (const auto model : kModels) {
    for (const auto element : kElements) {
      for (const std::size_t size : {0U, 1U, 2U, 3U, 7U, 31U, 997U, 4099U, 40'009U}) {
        instruction_sets_agree(uneven(size, 40), element, model);
      }
      instruction_sets_agree(Bytes(5000, 7), element, model);
    }
    for (const std::size_t size : {100'003U, 300'007U}) {  // of 16 and 32 lanes
      instruction_sets_agree(uneven(size, 250), mf::Element::bytes, model);
    }
    instruction_sets_agree(with_latecomers(300'007), mf::Element::bytes, model);
    ends_early(uneven(400, 20), model);
  }
  // Two chunks and a bit.
  instruction_sets_agree(uneven((std::size_t{2} << 22) + 5, 9), mf::Element::float32, mf::SymbolModel::fixed);
  std::puts("arithmetic checks hold");
}
