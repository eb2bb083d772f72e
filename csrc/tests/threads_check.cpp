// Hammers the thread pool and every operation that uses it; meant to run under ThreadSanitizer.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "arithmetic.hpp"
#include "codelength.hpp"
#include "entropy.hpp"
#include "parallel.hpp"
#include "planes.hpp"

#if defined(__unix__) && !defined(__SANITIZE_THREAD__)
#include <sys/wait.h>
#include <unistd.h>
#define CHECK_FORK 1  // ThreadSanitizer does not support threads that are started after fork()
#endif

namespace mf = model_forensics;

namespace {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::_Exit(1);  // without the destructors that other threads may still need
}

// Every item exactly once, in ranges of at least `grain`.
void covers(std::int64_t items, std::int64_t grain) {
  std::vector<int> visits(static_cast<std::size_t>(items), 0);  // plain: two visits at once would be a race
  mf::parallel_for(items, grain, [&](std::int64_t begin, std::int64_t end) {
    expect(end - begin >= std::min(items, grain), "a range is at least a grain long");
    for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
  });
  for (const int count : visits) expect(count == 1, "every item is visited once");
}

void small_work_stays_here() {
  const auto caller = std::this_thread::get_id();
  mf::parallel_for(100, 100, [&](std::int64_t begin, std::int64_t end) {
    expect(std::this_thread::get_id() == caller && begin == 0 && end == 100, "small work wakes no thread");
  });
}

void nested_calls_run_serially() {
  std::atomic<std::int64_t> total{0};
  mf::parallel_for(16, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto outer = std::this_thread::get_id();
      mf::parallel_for(100, 1, [&](std::int64_t from, std::int64_t to) {
        expect(std::this_thread::get_id() == outer, "a nested call stays on its thread");
        total += to - from;
      });
    }
  });
  expect(total == 1600, "nested calls do all their work");
}

void exceptions_reach_the_caller() {
  for (int round = 0; round < 50; ++round) {
    bool caught = false;
    try {
      mf::parallel_for(64, 1, [&](std::int64_t begin, std::int64_t end) {
        if (begin <= round && round < end) throw std::runtime_error("planted");
      });
    } catch (const std::runtime_error&) {
      caught = true;
    }
    expect(caught, "an exception reaches the caller");
    covers(64, 1);  // and the pool works on
  }
}

void huge_ranges_do_not_overflow() {
  constexpr std::int64_t items = std::int64_t{1} << 62;
  std::atomic<std::int64_t> total{0};
  mf::parallel_for(items, 3, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
  expect(total == items, "2^62 items are cut without overflow");
}

void callers_at_once(void (*work)(), int rounds) {
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([work, rounds] {
      for (int round = 0; round < rounds; ++round) work();
    });
  }
  for (auto& caller : callers) caller.join();
}

void child_has_its_own_pool() {
#if defined(CHECK_FORK)
  const pid_t child = fork();
  if (child == 0) {
    covers(1000, 1);
    std::_Exit(0);
  }
  int status = -1;
  expect(waitpid(child, &status, 0) == child && status == 0, "the pool works after fork()");
#endif
}

// ---- Operations that use the pool: one function each. Add new ones here and to main(). ----

// Enough symbols for several threads.
void entropy_windows() {
  constexpr std::int64_t window = 256;
  std::vector<std::uint8_t> symbols(1'200'000);
  for (std::size_t i = 0; i < symbols.size(); ++i) symbols[i] = static_cast<std::uint8_t>(i * i % 251 % 16);
  std::vector<std::int64_t> cost(window + 1);
  for (std::size_t c = 1; c < cost.size(); ++c) {
    cost[c] = std::llround(static_cast<double>(c) * std::log2(static_cast<double>(c)) * 4294967296.0);
  }
  const auto length = static_cast<std::int64_t>(symbols.size());
  const std::vector<std::int64_t> offsets{0, 1000, 1000, 1100, length};
  for (const std::int64_t alphabet : {16, 256}) {
    std::int64_t windows = 0;
    for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
      windows += mf::count_windows(offsets[row + 1] - offsets[row], window, 64);
    }
    std::vector<double> bits(static_cast<std::size_t>(windows), -1.0);
    mf::entropy_windows(symbols, offsets, window, 64, alphabet, cost, bits);
    for (const double value : bits) expect(value >= 0.0 && value <= 4.0, "entropy is from 0 to 4 bits");
  }
}

// Three chunks, two of them of one symbol and so quickly done.
void arithmetic() {
  constexpr std::size_t chunk = std::size_t{1} << 22;
  std::vector<std::uint8_t> data(2 * chunk + 30'001, 7);
  for (std::size_t i = chunk; i < data.size(); ++i) data[i] = i < 2 * chunk ? 9 : static_cast<std::uint8_t>(i * i % 41);
  for (const auto model : {mf::SymbolModel::fixed, mf::SymbolModel::adaptive}) {
    auto stream = mf::arithmetic_encode(data, mf::Element::bytes, model);
    std::vector<std::uint8_t> decoded(data.size());
    mf::arithmetic_decode(stream, decoded);
    expect(decoded == data, "the data comes back");
    stream[24 + 4] ^= 1;  // the checksum of the first chunk: what one thread refuses, the caller hears of
    bool refused = false;
    try {
      mf::arithmetic_decode(stream, decoded);
    } catch (const mf::StreamError&) {
      refused = true;
    }
    expect(refused, "a damaged stream is refused");
  }
}

// Values on a grid: sums and counts of several sites meet in shared totals, whoever computes them.
void planes() {
  const mf::Sites sites = mf::read_sites(std::vector<std::int64_t>{3000, 300, 0, 4, 700, 1100}, {64, 50});
  std::vector<float> values(static_cast<std::size_t>(sites.values));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 37 % 1001) - 500.0F;
  const std::vector<float> low(static_cast<std::size_t>(sites.channels), 0.0F);
  const std::vector<float> step(static_cast<std::size_t>(sites.channels), 0.5F);
  const mf::Grid grid{mf::Scale::logarithmic, 15, low, step};
  const mf::Input input{.symbols = {}, .values = values, .grid = &grid};
  std::vector<std::int64_t> counts(static_cast<std::size_t>(sites.channels * 16));
  mf::histogram(input, sites, 16, counts);
  std::int64_t counted = 0;
  for (const auto count : counts) counted += count;
  expect(counted == sites.values, "every value is counted once");
  const std::vector<std::int32_t> cost(16, 3);
  const std::vector<std::int32_t> tables(static_cast<std::size_t>(sites.channels), 0);
  std::vector<std::int64_t> channel(static_cast<std::size_t>(sites.channels));
  std::vector<std::int64_t> token(static_cast<std::size_t>(sites.tokens));
  std::vector<std::int64_t> site(3);
  std::vector<std::int64_t> cell(static_cast<std::size_t>(sites.cells));
  mf::codelength(input, sites, {cost, 16, tables}, {channel, token, site, cell});
  for (const auto& sums : {channel, token, site, cell}) {
    std::int64_t total = 0;
    for (const auto sum : sums) total += sum;
    expect(total == 3 * sites.values, "every value is paid once");
  }
}

}  // namespace

int main() {
  for (const int threads : {2, 1, 5, 3}) {
    mf::set_threads(threads);
    expect(mf::threads() == threads, "the number of threads is what was set");
    for (const std::int64_t items : {0, 1, 7, 64, 1000}) {
      for (const std::int64_t grain : {1, 3, 64}) covers(items, grain);
    }
    small_work_stays_here();
    nested_calls_run_serially();
    exceptions_reach_the_caller();
    huge_ranges_do_not_overflow();
    callers_at_once([] { covers(1000, 1); }, 20);
    child_has_its_own_pool();
    entropy_windows();
    callers_at_once(entropy_windows, 2);
    arithmetic();
    callers_at_once(arithmetic, 1);
    planes();
    callers_at_once(planes, 2);
  }
  std::puts("thread checks hold");
}
