// Runs every kernel of csrc/cuda on the CPU and compares it with plain loops, on odd sizes, in two orders of threads.
//
// Built with the sanitizers (preset `asan`). What this shows: that the kernels compute the right numbers, stay inside
// their arrays, and do not depend on the order of threads between barriers. What it cannot show: speed, and what only
// truly concurrent threads do.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"

namespace emulation_check {

void check_arithmetic();
void check_planes();
void check_codelength();
void check_entropy();

}  // namespace emulation_check

int main() {
  using cuda_emulation::Order;
  for (const Order order : {Order::forward, Order::reversed}) {
    cuda_emulation::order = order;
    emulation_check::check_arithmetic();
    emulation_check::check_planes();
    emulation_check::check_codelength();
    emulation_check::check_entropy();
  }
  std::puts("emulated CUDA checks hold");
}
