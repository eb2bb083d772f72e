// The threads of the core: one pool for the process.
#pragma once

#include <cstdint>
#include <functional>

namespace model_forensics {

// Threads that one call may use, the caller's among them: MODEL_FORENSICS_THREADS, else the processors that this process
// may run on.
int threads();

// Throws std::invalid_argument below 1.
void set_threads(int count);

// Runs body(begin, end) over [0, items) cut into ranges of at least `grain` items, on the pool and on the calling thread,
// and returns when all are done. Which thread takes which range is not fixed: a body may only write what belongs to its
// items. An exception in a body reaches the caller, once. Calls from several threads at once, from within a body (they
// run there, serially) and after fork() are safe.
void parallel_for(std::int64_t items, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace model_forensics
