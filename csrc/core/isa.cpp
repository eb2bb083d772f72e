#include "isa.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

namespace model_forensics {

namespace {

Isa initial_isa() {
  const char* text = std::getenv("MODEL_FORENSICS_ISA");
  const std::string_view name = text == nullptr ? "" : text;
  const Isa best = detected_isa();
  if (name == "portable") return Isa::portable;
  if (name == "avx2" && best >= Isa::avx2) return Isa::avx2;
  return best;
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

Isa isa() { return current().load(std::memory_order_relaxed); }

void use_isa(Isa wanted) {
  if (wanted > detected_isa()) throw std::invalid_argument("this machine lacks the instruction set");
  current().store(wanted, std::memory_order_relaxed);
}

}  // namespace model_forensics
