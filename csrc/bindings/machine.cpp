// What the core runs on: instruction sets and threads.
#include <map>
#include <string>

#include "bindings.hpp"
#include "isa.hpp"
#include "parallel.hpp"

namespace model_forensics {

namespace {

const std::map<std::string, Isa> kNames{{"portable", Isa::portable}, {"avx2", Isa::avx2}, {"avx512", Isa::avx512}};

std::string name_of(Isa wanted) {
  for (const auto& [name, value] : kNames) {
    if (value == wanted) return name;
  }
  return "unknown";
}

}  // namespace

void bind_machine(pybind11::module_& module) {
  module.def("isa", [] { return name_of(isa()); });
  module.def("detected_isa", [] { return name_of(detected_isa()); });
  module.def("use_isa", [](const std::string& name) {
    const auto found = kNames.find(name);
    if (found == kNames.end()) throw pybind11::value_error("the instruction set is portable, avx2 or avx512");
    use_isa(found->second);
  });
  module.def("threads", &threads);
  module.def("set_threads", &set_threads);
}

}  // namespace model_forensics
