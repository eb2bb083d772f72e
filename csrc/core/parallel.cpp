#include "parallel.hpp"

#include <stdexcept>

namespace model_forensics {

int threads() { return 1; }

void set_threads(int count) {
  if (count < 1) throw std::invalid_argument("threads must be at least 1");
}

void parallel_for(std::int64_t items, std::int64_t /*grain*/,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (items > 0) body(0, items);
}

}  // namespace model_forensics
