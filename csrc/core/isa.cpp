#include "isa.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace model_forensics {

namespace {

Isa initial_isa() {
  const char* text = std::getenv("MODEL_FORENSICS_ISA");
  const std::string_view name = text == nullptr ? "" : text;
  if (name.empty() || name == "avx512") return detected_isa();
  if (name == "avx2") return std::min(Isa::avx2, detected_isa());
  if (name == "portable") return Isa::portable;
  throw std::invalid_argument("MODEL_FORENSICS_ISA is '" + std::string(name) +
                              "', and must be portable, avx2 or avx512");
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> value{initial_isa()};
  return value;
}

}  // namespace

Isa detected_isa() {
#if (defined(__x86_64__) || defined(_M_X64)) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    return Isa::avx2;
  }
#endif
  return Isa::portable;
}

bool avx512_bytes() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool present = __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") &&
                              __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("gfni");
  return present && isa() == Isa::avx512;
#else
  return false;
#endif
}

Isa isa() { return current().load(std::memory_order_relaxed); }

void use_isa(Isa wanted) {
  if (wanted > detected_isa()) throw std::invalid_argument("this machine lacks the instruction set");
  current().store(wanted, std::memory_order_relaxed);
}

}  // namespace model_forensics
