#include "arithmetic.hpp"

#include <memory>
#include <utility>

#include "arguments.hpp"
#include "bindings.hpp"

namespace model_forensics {

namespace {

// The stream becomes the memory of the array that Python gets.
py::array_t<std::uint8_t> to_array(std::vector<std::uint8_t>&& bytes) {
  auto owner = std::make_unique<std::vector<std::uint8_t>>(std::move(bytes));
  const auto size = static_cast<py::ssize_t>(owner->size());
  std::uint8_t* data = owner->data();
  const py::capsule capsule(owner.release(), [](void* pointer) { delete static_cast<std::vector<std::uint8_t>*>(pointer); });
  return py::array_t<std::uint8_t>(size, data, capsule);
}

}  // namespace

void bind_arithmetic(py::module_& module) {
  py::register_exception<StreamError>(module, "StreamError", PyExc_ValueError);
  module.def("arithmetic_encode", [](const py::array& data, int element, int model) {
    const auto bytes = input<std::uint8_t>(data, "data");
    if (element < 0 || element > 3 || model < 0 || model > 2) throw py::value_error("unknown element or model");
    std::vector<std::uint8_t> stream;
    {
      const py::gil_scoped_release released;
      stream = arithmetic_encode(bytes, static_cast<Element>(element), static_cast<SymbolModel>(model));
    }
    return to_array(std::move(stream));
  });
  module.def("arithmetic_size", [](const py::array& stream) { return decoded_size(input<std::uint8_t>(stream, "stream")); });
  module.def("arithmetic_decode", [](const py::array& stream, py::array out) {
    const auto coded = input<std::uint8_t>(stream, "stream");
    const auto data = output<std::uint8_t>(out, "out");
    const py::gil_scoped_release released;
    arithmetic_decode(coded, data);
  });
}

}  // namespace model_forensics
