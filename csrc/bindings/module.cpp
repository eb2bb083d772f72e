// The extension module `model_forensics._core`. Only `model_forensics.ops` imports it.
#include "bindings.hpp"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.attr("compiler") = MODEL_FORENSICS_COMPILER;
  model_forensics::bind_machine(module);
  model_forensics::bind_arithmetic(module);
  model_forensics::bind_entropy(module);
  model_forensics::bind_planes(module);
  model_forensics::bind_patch(module);
  model_forensics::bind_codelength(module);
  model_forensics::bind_predictive(module);
  model_forensics::bind_value_shapes(module);
  model_forensics::bind_bins(module);
}
