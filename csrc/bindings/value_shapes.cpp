#include "value_shapes.hpp"

#include "arguments.hpp"
#include "bindings.hpp"
#include "released_gil.hpp"

namespace model_forensics {

void bind_value_shapes(py::module_& module) {
  module.def("value_shapes", [](const py::array& values, const py::array& starts, std::int64_t most,
                                const py::array& levels, py::array counts, py::array quantiles) {
    const auto values_in = input<float>(values, "values");
    const auto starts_in = input<std::int64_t>(starts, "starts");
    const auto levels_in = input<double>(levels, "levels");
    const auto counts_out = output<std::int64_t>(counts, "counts");
    const auto quantiles_out = output<float>(quantiles, "quantiles");
    const ReleasedGil released;
    value_shapes(values_in, starts_in, most, levels_in, counts_out, quantiles_out);
  });
}

}  // namespace model_forensics
