#include "entropy.hpp"

#include "device.hpp"

namespace model_forensics::cuda {

namespace {

constexpr std::int64_t kSharedGains = 2048;  // gains of windows up to this many symbols are kept in shared memory
constexpr int kChunk = 16;                   // symbols that a thread loads at once where their place allows it

struct Problem {
  const std::uint8_t* symbols;
  DeviceWindowPlan plan;
  std::int64_t window, stride;
  int alphabet;
  const std::int64_t* gain;
  std::int64_t whole;
  double* bits;
};

// A word of counts, or the counts in it: the same memory under two types.
typedef std::uint32_t __attribute__((may_alias)) Word;

template <typename Count>
struct Shape {
  static constexpr int kPerWord = static_cast<int>(sizeof(std::uint32_t) / sizeof(Count));
  static constexpr int kThreads = kWarp * kPerWord;  // 32 KiB of counts for 256 symbols
  __host__ __device__ static constexpr int words(int alphabet) { return (alphabet + kPerWord - 1) / kPerWord; }
};

// One thread's counts, and the exact cost of the window they are of. Counts are in shared memory, those of kPerWord
// neighbouring symbols in one word; words of the same symbols lie side by side for all threads, so that the lanes of a
// warp never meet in a bank, whatever the symbols are.
template <typename Count>
class Counts {
 public:
  __device__ Counts(unsigned char* memory, const std::int64_t* gain)
      : words_(reinterpret_cast<Word*>(memory) + threadIdx.x), gain_(gain) {}

  __device__ void clear(int alphabet) {
    for (int word = 0; word < Shape<Count>::words(alphabet); ++word) words_[word * Shape<Count>::kThreads] = 0;
    sum_ = 0;
  }

  __device__ __forceinline__ void enter(unsigned symbol) {
    auto* const count = place(symbol);
    const unsigned before = *count;
    *count = static_cast<Count>(before + 1);
    sum_ += gain_[before];
  }

  // Both counts are loaded before either is stored, which halves the wait; the same symbol changes nothing.
  __device__ __forceinline__ void exchange(unsigned leaving, unsigned entering) {
    auto* const from = place(leaving);
    auto* const to = place(entering);
    const unsigned many = *from;
    const unsigned few = *to;
    const bool same = leaving == entering;
    *from = static_cast<Count>(many - 1);
    *to = static_cast<Count>(same ? many : few + 1);
    sum_ += gain_[same ? many - 1 : few] - gain_[many - 1];
  }

  __device__ std::int64_t sum() const { return sum_; }

 private:
  typedef Count __attribute__((may_alias)) Item;

  __device__ __forceinline__ Item* place(unsigned symbol) const {
    return reinterpret_cast<Item*>(words_ + symbol / Shape<Count>::kPerWord * Shape<Count>::kThreads) +
           symbol % Shape<Count>::kPerWord;
  }

  Word* words_;
  const std::int64_t* gain_;
  std::int64_t sum_ = 0;
};

struct alignas(kChunk) Chunk {
  std::uint32_t words[kChunk / 4];
  __device__ __forceinline__ unsigned symbol(int i) const { return (words[i / 4] >> (i % 4 * 8)) & 0xFF; }
};

__device__ inline Chunk load_chunk(const std::uint8_t* symbols) { return *reinterpret_cast<const Chunk*>(symbols); }

template <typename Count>
__device__ void enter_all(Counts<Count>& counts, const std::uint8_t* symbols, std::int64_t length, bool chunks) {
  std::int64_t i = 0;
  for (; chunks && i < length; i += kChunk) {
    const Chunk entering = load_chunk(symbols + i);
#pragma unroll
    for (int k = 0; k < kChunk; ++k) counts.enter(entering.symbol(k));
  }
  for (; i < length; ++i) counts.enter(symbols[i]);
}

template <typename Count>
__device__ void move_on(Counts<Count>& counts, const std::uint8_t* symbols, std::int64_t window, std::int64_t stride,
                        bool chunks) {
  std::int64_t i = 0;
  for (; chunks && i < stride; i += kChunk) {
    const Chunk leaving = load_chunk(symbols + i);
    const Chunk entering = load_chunk(symbols + window + i);
#pragma unroll
    for (int k = 0; k < kChunk; ++k) counts.exchange(leaving.symbol(k), entering.symbol(k));
  }
  for (; i < stride; ++i) counts.exchange(symbols[i], symbols[window + i]);
}

__device__ inline std::int64_t find_row(const DeviceWindowPlan& plan, std::int64_t section) {
  std::int64_t low = 0;  // the last row whose first section is not after `section`; rows without windows are passed over
  for (std::int64_t high = plan.count; high - low > 1;) {
    const std::int64_t middle = (low + high) / 2;
    if (plan.rows[middle].section <= section) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// The windows of one section, whose symbols begin at `symbols`.
template <typename Count>
__device__ void walk_section(Counts<Count>& counts, const Problem& problem, const std::uint8_t* symbols,
                             std::int64_t windows, double* bits) {
  const std::int64_t window = problem.window;
  const std::int64_t stride = problem.stride;
  const bool chunks = reinterpret_cast<std::uintptr_t>(symbols) % kChunk == 0 && window % kChunk == 0 &&
                      stride % kChunk == 0;
  const double scale = static_cast<double>(window) * 4294967296.0;  // 2^32: the unit of the gains
  for (std::int64_t index = 0; index < windows; ++index) {
    if (index == 0 || stride >= window) {  // nothing of the previous window is left
      counts.clear(problem.alphabet);
      enter_all(counts, symbols + index * stride, window, chunks);
    } else {
      move_on(counts, symbols + (index - 1) * stride, window, stride, chunks);
    }
    bits[index] = static_cast<double>(problem.whole - counts.sum()) / scale;
  }
}

template <typename Count, bool kGainsShared>
__global__ void __launch_bounds__(Shape<Count>::kThreads) entropy_kernel(Problem problem) {
  constexpr int kThreads = Shape<Count>::kThreads;
  MODEL_FORENSICS_SHARED(memory);
  const std::int64_t* gain = problem.gain;
  unsigned char* counts_memory = memory;
  if constexpr (kGainsShared) {
    auto* const shared = reinterpret_cast<std::int64_t*>(memory);
    for (std::int64_t c = threadIdx.x; c < problem.window; c += kThreads) shared[c] = problem.gain[c];
    __syncthreads();
    gain = shared;
    counts_memory += problem.window * static_cast<std::int64_t>(sizeof(std::int64_t));
  }
  const std::int64_t section = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (section >= problem.plan.sections) return;
  const std::int64_t row = find_row(problem.plan, section);
  const Row begin = problem.plan.rows[row];
  const std::int64_t first = (section - begin.section) * problem.plan.section_windows;
  const std::int64_t windows = problem.plan.rows[row + 1].window - begin.window;
  Counts<Count> counts(counts_memory, gain);
  walk_section(counts, problem, problem.symbols + begin.symbol + first * problem.stride,
               smaller(problem.plan.section_windows, windows - first), problem.bits + begin.window + first);
}

template <typename Count, bool kGainsShared>
void launch(const Problem& problem, cudaStream_t stream) {
  const auto kernel = entropy_kernel<Count, kGainsShared>;
  constexpr int kThreads = Shape<Count>::kThreads;
  const std::int64_t blocks = (problem.plan.sections + kThreads - 1) / kThreads;
  require_blocks(blocks);
  const std::size_t gains = kGainsShared ? sizeof(std::int64_t) * static_cast<std::size_t>(problem.window) : 0;
  const std::size_t counts =
      sizeof(std::uint32_t) * kThreads * static_cast<std::size_t>(Shape<Count>::words(problem.alphabet));
  MODEL_FORENSICS_LAUNCH(kernel, blocks, kThreads, gains + counts, stream, problem);
  check_launch();
}

}  // namespace

void entropy_windows(const std::uint8_t* symbols, const DeviceWindowPlan& plan, std::int64_t window,
                     std::int64_t stride, int alphabet, const std::int64_t* gain, std::int64_t whole, double* bits,
                     CUstream_st* stream) {
  if (window < 1 || stride < 1) throw std::invalid_argument("window and stride must be at least 1");
  if (alphabet < 1 || alphabet > 256) throw std::invalid_argument("alphabet must be from 1 to 256");
  if (plan.sections == 0) return;
  const Problem problem{symbols, plan, window, stride, alphabet, gain, whole, bits};
  if (window <= kSharedGains) {
    launch<std::uint16_t, true>(problem, stream);
  } else if (window <= 0xFFFF) {
    launch<std::uint16_t, false>(problem, stream);
  } else {
    launch<std::uint32_t, false>(problem, stream);
  }
}

}  // namespace model_forensics::cuda
