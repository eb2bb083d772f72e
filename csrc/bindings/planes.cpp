#include "arguments.hpp"
#include "bindings.hpp"
#include "planes.hpp"

namespace model_forensics {

void bind_planes(py::module_& module) {
  module.def("histogram", [](const py::array& symbols, std::int64_t alphabet, py::array out) {
    const auto symbols_in = input<std::uint8_t>(symbols, "symbols");
    const auto channels = columns(symbols, "symbols");
    const auto counts = output<std::int64_t>(out, "out");
    const py::gil_scoped_release released;
    histogram(symbols_in, channels, alphabet, counts);
  });

  using Quantize = decltype(&quantize_uniform);
  const auto bind = [&module](const char* name, Quantize quantize) {
    module.def(name, [quantize](const py::array& values, const py::array& low, const py::array& step,
                                std::int64_t levels, py::array out) {
      const auto values_in = input<float>(values, "values");
      const auto low_in = input<float>(low, "low");
      const auto step_in = input<float>(step, "step");
      const auto symbols = output<std::uint8_t>(out, "out");
      const py::gil_scoped_release released;
      quantize(values_in, low_in, step_in, levels, symbols);
    });
  };
  bind("quantize_uniform", &quantize_uniform);
  bind("quantize_log", &quantize_log);
}

}  // namespace model_forensics
