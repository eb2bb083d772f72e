#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define MODEL_FORENSICS_FORK 1
#endif

namespace model_forensics {

namespace {

using Body = std::function<void(std::int64_t, std::int64_t)>;

constexpr int kMaxThreads = 1024;
constexpr std::int64_t kRangesPerThread = 8;  // so that a thread that got the easy ranges takes some of the others'

int processors() {
#if defined(__linux__)
  // A machine may have more processors than fit into cpu_set_t; the kernel then says EINVAL.
  for (int capacity = CPU_SETSIZE; capacity <= CPU_SETSIZE * 64; capacity *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(capacity));
    if (set == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity));
    const int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return std::min(count, kMaxThreads);
  }
#endif
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

int initial_threads() {
  const char* text = std::getenv("MODEL_FORENSICS_THREADS");
  const std::string_view value = text == nullptr ? "" : text;
  if (value.empty()) return processors();
  int count = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), count);
  if (error != std::errc{} || end != value.data() + value.size() || count < 1 || count > kMaxThreads) {
    throw std::invalid_argument("MODEL_FORENSICS_THREADS is '" + std::string(value) +
                                "', and must be a number from 1 to 1024");
  }
  return count;
}

std::atomic<int> thread_count{0};  // 0: not asked for yet

// True while this thread works on a range, so that a call from within a body runs right there.
thread_local bool inside_body = false;

class InsideBody {
 public:
  InsideBody() : before_(inside_body) { inside_body = true; }
  ~InsideBody() { inside_body = before_; }
  InsideBody(const InsideBody&) = delete;
  InsideBody& operator=(const InsideBody&) = delete;

 private:
  bool before_;
};

// One call of parallel_for: the ranges that are left, and the exception of the first range that failed.
class Job {
 public:
  Job(std::int64_t items, std::int64_t ranges, const Body& body)
      : shortest_(items / ranges), longer_(items % ranges), ranges_(ranges), body_(body) {}

  // Takes ranges until none is left. May run on several threads at once.
  void work() noexcept {
    const InsideBody inside;
    for (std::int64_t range = next_++; range < ranges_; range = next_++) {
      try {
        body_(begin(range), begin(range + 1));
      } catch (...) {
        const std::lock_guard lock(mutex_);
        // Ranges are handed out in order, so that the first one that fails is always among those that ran.
        if (range < failed_) {
          failed_ = range;
          failure_ = std::current_exception();
        }
        next_ = ranges_;
      }
    }
  }

  // Only after every thread has left work().
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::int64_t begin(std::int64_t range) const { return range * shortest_ + std::min(range, longer_); }

  const std::int64_t shortest_;
  const std::int64_t longer_;  // the first so many ranges have one item more
  const std::int64_t ranges_;
  const Body& body_;
  std::atomic<std::int64_t> next_{0};
  std::mutex mutex_;
  std::int64_t failed_ = std::numeric_limits<std::int64_t>::max();
  std::exception_ptr failure_;
};

// Sleeping workers, and at most one job at a time.
class Pool {
 public:
  // Whether the job was done: false at once when the pool works for another caller.
  bool run(Job& job, int helpers) {
    const std::unique_lock caller(busy_, std::try_to_lock);
    if (!caller.owns_lock()) return false;
    {
      const std::lock_guard lock(mutex_);
      start(helpers);
      job_ = &job;
      places_ = std::min(helpers, started_);
    }
    wake_.notify_all();
    job.work();
    std::unique_lock lock(mutex_);
    places_ = 0;  // who wakes up only now finds nothing to do and never sees the job
    left_.wait(lock, [this] { return working_ == 0; });
    return true;
  }

 private:
  void start(int helpers) {
    for (; started_ < helpers; ++started_) {
      try {
        std::thread([this] { serve(); }).detach();
      } catch (const std::system_error&) {
        return;  // the machine gives no more threads; those that there are do the work
      }
    }
  }

  [[noreturn]] void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return places_ > 0; });
      --places_;
      ++working_;
      Job& job = *job_;
      lock.unlock();
      job.work();
      lock.lock();
      if (--working_ == 0) left_.notify_one();
    }
  }

  std::mutex busy_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::condition_variable left_;
  Job* job_ = nullptr;
  int started_ = 0;
  int places_ = 0;   // how many more workers the job takes
  int working_ = 0;  // workers that hold the job
};

// Never deleted: workers sleep in it until the process ends, and destroying a condition variable under them at exit
// would be undefined. No lock guards the pointer, so none can be held when the process forks.
std::atomic<Pool*> shared_pool{nullptr};

Pool& pool() {
  Pool* existing = shared_pool.load(std::memory_order_acquire);
  if (existing != nullptr) return *existing;
  auto* fresh = new Pool;
  if (shared_pool.compare_exchange_strong(existing, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;  // another thread was first; this one has no workers yet
  return *existing;
}

#if defined(MODEL_FORENSICS_FORK)
// Threads do not survive fork(), and locks may be held in the copy: the child starts with a pool of its own.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] { shared_pool.store(nullptr); });
#endif

}  // namespace

int threads() {
  int count = thread_count.load(std::memory_order_relaxed);
  if (count == 0) {
    const int initial = initial_threads();
    // If set_threads came in between, its number stays.
    if (thread_count.compare_exchange_strong(count, initial, std::memory_order_relaxed)) count = initial;
  }
  return count;
}

void set_threads(int count) {
  if (count < 1 || count > kMaxThreads) throw std::invalid_argument("threads must be from 1 to 1024");
  thread_count.store(count, std::memory_order_relaxed);
}

void parallel_for(std::int64_t items, std::int64_t grain, const Body& body) {
  if (grain < 1) throw std::invalid_argument("grain must be at least 1");
  if (items <= 0) return;
  const int allowed = inside_body ? 1 : threads();
  if (allowed > 1 && items / grain >= 2) {
    const std::int64_t ranges = std::min(items / grain, allowed * kRangesPerThread);
    Job job(items, ranges, body);
    if (pool().run(job, static_cast<int>(std::min<std::int64_t>(allowed, ranges)) - 1)) return job.rethrow();
  }
  body(0, items);
}

}  // namespace model_forensics
