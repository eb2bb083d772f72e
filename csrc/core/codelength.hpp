// Bits that symbols cost.
//
// Every function checks the sizes it is given and throws std::invalid_argument before it writes anything.
// Outputs may hold anything on entry.
#pragma once

#include <cstdint>
#include <span>

namespace model_forensics {

// symbols [tokens, channels], cost [channels, alphabet] in bits -> sums over tokens [channels] or channels [tokens].
void codelength_per_channel(std::span<const std::uint8_t> symbols, std::span<const float> cost,
                            std::int64_t channels, std::int64_t alphabet, std::span<double> bits);
void codelength_per_token(std::span<const std::uint8_t> symbols, std::span<const float> cost, std::int64_t channels,
                          std::int64_t alphabet, std::span<double> bits);

}  // namespace model_forensics
