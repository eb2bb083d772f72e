// Other Python threads run while this object lives. As pybind11::gil_scoped_release, but for one thing: when the
// interpreter ends while a daemon thread computes, CPython before 3.14 ends that thread where it asks for the GIL again, by
// unwinding its stack, and that must be able to leave this destructor; pybind11's is noexcept and aborts the process.
#pragma once

#include <pybind11/pybind11.h>

namespace model_forensics {

class ReleasedGil {
 public:
  ReleasedGil() : state_(PyEval_SaveThread()) {}
  ~ReleasedGil() noexcept(false) { PyEval_RestoreThread(state_); }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace model_forensics
