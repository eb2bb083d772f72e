#include "planes.hpp"

#include "arguments.hpp"
#include "bindings.hpp"
#include "site_arguments.hpp"

namespace model_forensics {

void bind_planes(py::module_& module) {
  module.def("quantize", [](const py::array& values, const py::array& shapes, int scale, std::int64_t levels,
                            const py::array& low, const py::array& step, py::array out) {
    const auto values_in = input<float>(values, "values");
    const auto shapes_in = input<std::int64_t>(shapes, "shapes");
    const Grid grid = grid_from(scale, levels, low, step);
    const auto symbols = output<std::uint8_t>(out, "out");
    const py::gil_scoped_release released;
    quantize(values_in, grid, read_sites(shapes_in), symbols);
  });

  module.def("histogram", [](const py::array& data, const py::array& shapes, int scale, std::int64_t levels,
                             const py::array& low, const py::array& step, std::int64_t alphabet, py::array out) {
    const Grid grid = grid_from(scale, levels, low, step);
    const auto data_in = input_from(data, scale, grid);
    const auto shapes_in = input<std::int64_t>(shapes, "shapes");
    const auto counts = output<std::int64_t>(out, "out");
    const py::gil_scoped_release released;
    histogram(data_in, read_sites(shapes_in), alphabet, counts);
  });
}

}  // namespace model_forensics
