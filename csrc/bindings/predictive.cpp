#include "predictive.hpp"

#include "arguments.hpp"
#include "bindings.hpp"
#include "released_gil.hpp"

namespace model_forensics {

void bind_predictive(py::module_& module) {
  module.def("predictive_bits", [](const py::array& values, const py::array& channels, const py::array& starts,
                                   const py::array& location, const py::array& scale, const py::array& degrees,
                                   const py::array& positive, const py::array& presence_gain, const py::array& bits,
                                   const py::array& expected, double step, double resolution, double least_scale,
                                   double largest_square, py::array excess, py::array symbols, py::array presence,
                                   py::array sums, py::array counts) {
    const auto values_in = input<float>(values, "values");
    const auto channels_in = input<std::int64_t>(channels, "channels");
    const auto starts_in = input<std::int64_t>(starts, "starts");
    const PredictiveModel model{input<float>(location, "location"), input<float>(scale, "scale"),
                                input<std::uint8_t>(degrees, "degrees"), input<float>(positive, "positive"),
                                input<float>(presence_gain, "presence_gain"), input<double>(bits, "bits"),
                                input<double>(expected, "expected"), step, resolution, least_scale, largest_square};
    const PredictiveBits out{output<double>(excess, "excess"), output<std::uint8_t>(symbols, "symbols"),
                             output<double>(presence, "presence"), output<double>(sums, "sums"),
                             output<std::int64_t>(counts, "counts")};
    const ReleasedGil released;
    predictive_bits(values_in, channels_in, starts_in, model, out);
  });

  module.def("add_moments", [](const py::array& values, const py::array& channels, py::array count, py::array total,
                               py::array square, py::array positive) {
    const auto values_in = input<float>(values, "values");
    const auto channels_in = input<std::int64_t>(channels, "channels");
    const auto count_out = output<double>(count, "count");
    const auto total_out = output<double>(total, "total");
    const auto square_out = output<double>(square, "square");
    const auto positive_out = output<double>(positive, "positive");
    const ReleasedGil released;
    add_moments(values_in, channels_in, count_out, total_out, square_out, positive_out);
  });
}

}  // namespace model_forensics
