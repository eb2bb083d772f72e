// One function an operation's file; module.cpp calls them all.
//
// Spans are taken under the GIL, which is then released: the arguments keep the arrays alive until the call returns.
#pragma once

#include <pybind11/pybind11.h>

namespace model_forensics {

void bind_arithmetic(pybind11::module_& module);
void bind_bins(pybind11::module_& module);
void bind_codelength(pybind11::module_& module);
void bind_entropy(pybind11::module_& module);
void bind_machine(pybind11::module_& module);
void bind_patch(pybind11::module_& module);
void bind_planes(pybind11::module_& module);
void bind_predictive(pybind11::module_& module);
void bind_value_shapes(pybind11::module_& module);

}  // namespace model_forensics
