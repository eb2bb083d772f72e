// CRC-32C (Castagnoli; RFC 3720, appendix B.4): polynomial 0x1EDC6F41 reflected, start and end inverted.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

std::uint32_t crc32c(std::span<const std::uint8_t> data);

}  // namespace model_forensics
