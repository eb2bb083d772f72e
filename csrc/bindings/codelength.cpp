#include "arguments.hpp"
#include "bindings.hpp"
#include "codelength.hpp"

namespace model_forensics {

void bind_codelength(py::module_& module) {
  using Codelength = decltype(&codelength_per_channel);
  const auto bind = [&module](const char* name, Codelength codelength) {
    module.def(name, [codelength](const py::array& symbols, const py::array& cost, py::array out) {
      const auto symbols_in = input<std::uint8_t>(symbols, "symbols");
      const auto channels = columns(symbols, "symbols");
      const auto cost_in = input<float>(cost, "cost");
      const auto alphabet = columns(cost, "cost");
      const auto bits = output<double>(out, "out");
      const py::gil_scoped_release released;
      codelength(symbols_in, cost_in, channels, alphabet, bits);
    });
  };
  bind("codelength_per_channel", &codelength_per_channel);
  bind("codelength_per_token", &codelength_per_token);
}

}  // namespace model_forensics
