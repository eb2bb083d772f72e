// The extension module `model_forensics._core`. Only `model_forensics.ops` imports it.
#include "arguments.hpp"
#include "operations.hpp"

namespace model_forensics {

namespace {

// Spans are taken under the GIL, which is then released: the arguments keep the arrays alive until the call returns.
void bind_entropy(py::module_& module) {
  module.def("entropy_windows", [](const py::array& symbols, const py::array& offsets, std::int64_t window,
                                   std::int64_t stride, std::int64_t alphabet, const py::array& cost, py::array out) {
    const auto symbols_in = input<std::uint8_t>(symbols, "symbols");
    const auto offsets_in = input<std::int64_t>(offsets, "offsets");
    const auto cost_in = input<std::int64_t>(cost, "cost");
    const auto bits = output<double>(out, "out");
    const py::gil_scoped_release released;
    entropy_windows(symbols_in, offsets_in, window, stride, alphabet, cost_in, bits);
  });
}

void bind_histogram(py::module_& module) {
  module.def("histogram", [](const py::array& symbols, std::int64_t alphabet, py::array out) {
    const auto symbols_in = input<std::uint8_t>(symbols, "symbols");
    const auto channels = columns(symbols, "symbols");
    const auto counts = output<std::int64_t>(out, "out");
    const py::gil_scoped_release released;
    histogram(symbols_in, channels, alphabet, counts);
  });
}

void bind_quantize(py::module_& module) {
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

}  // namespace

}  // namespace model_forensics

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.attr("compiler") = MODEL_FORENSICS_COMPILER;
  model_forensics::bind_entropy(module);
  model_forensics::bind_histogram(module);
  model_forensics::bind_quantize(module);
  model_forensics::bind_codelength(module);
}
