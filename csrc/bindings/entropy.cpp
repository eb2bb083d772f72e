#include "arguments.hpp"
#include "bindings.hpp"
#include "entropy.hpp"
#include "released_gil.hpp"

namespace model_forensics {

void bind_entropy(py::module_& module) {
  module.def("entropy_windows", [](const py::array& symbols, const py::array& offsets, std::int64_t window,
                                   std::int64_t stride, std::int64_t alphabet, const py::array& cost, py::array out) {
    const auto symbols_in = input<std::uint8_t>(symbols, "symbols");
    const auto offsets_in = input<std::int64_t>(offsets, "offsets");
    const auto cost_in = input<std::int64_t>(cost, "cost");
    const auto bits = output<double>(out, "out");
    const ReleasedGil released;
    entropy_windows(symbols_in, offsets_in, window, stride, alphabet, cost_in, bits);
  });
}

}  // namespace model_forensics
