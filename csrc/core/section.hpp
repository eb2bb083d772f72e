// One plane of one chunk: bytes to a section of the stream and back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arithmetic.hpp"
#include "wire.hpp"

namespace model_forensics {

// Appends the section; stores the symbols as they are where coding does not make them smaller.
void encode_section(std::span<const std::uint8_t> symbols, SymbolModel model, std::vector<std::uint8_t>& stream);

// Takes one section and fills `symbols`. Throws StreamError.
void decode_section(Reader& reader, std::span<std::uint8_t> symbols);

}  // namespace model_forensics
