// Turns NumPy arrays into spans. Refuses instead of casting: a hidden copy would cost more than the operation.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>

namespace model_forensics {

namespace py = pybind11;

template <typename T>
void require_array(const py::array& array, const char* name) {
  const auto label = std::string(name);
  if (!py::isinstance<py::array_t<T>>(array)) {
    throw py::type_error(label + " must be " + py::str(py::dtype::of<T>()).template cast<std::string>() + ", not " +
                         py::str(array.dtype()).template cast<std::string>());
  }
  if ((array.flags() & py::array::c_style) == 0) throw py::value_error(label + " must be C-contiguous");
  if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) != 0) {
    throw py::value_error(label + " must be aligned");
  }
}

template <typename T>
std::span<const T> input(const py::array& array, const char* name) {
  require_array<T>(array, name);
  return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())};
}

template <typename T>
std::span<T> output(py::array& array, const char* name) {
  require_array<T>(array, name);
  return {static_cast<T*>(array.mutable_data()), static_cast<std::size_t>(array.size())};  // throws if read-only
}

inline std::int64_t columns(const py::array& array, const char* name) {
  if (array.ndim() != 2) throw py::value_error(std::string(name) + " must have two dimensions");
  return static_cast<std::int64_t>(array.shape(1));
}

}  // namespace model_forensics
