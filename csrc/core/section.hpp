// One plane of one chunk: bytes to a section of the stream and back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arithmetic.hpp"

namespace model_forensics {

// Appends the section; stores the symbols as they are where coding does not make them smaller.
void encode_section(std::span<const std::uint8_t> symbols, SymbolModel model, std::vector<std::uint8_t>& stream);

// Reads one section from the front of `stream`, fills `symbols` and returns what is left. Throws StreamError.
std::span<const std::uint8_t> decode_section(std::span<const std::uint8_t> stream, std::span<std::uint8_t> symbols);

}  // namespace model_forensics
