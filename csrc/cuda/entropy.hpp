// Shannon entropy over windows of symbols, on the GPU. Same bits as csrc/core.
//
// All pointers are to device memory. Launches are asynchronous on `stream`; what a launch reports at once is thrown.
#pragma once

#include <cstdint>
#include <vector>

struct CUstream_st;

namespace model_forensics::cuda {

// Where a row's part of everything begins. A plan has one more entry than there are rows; that one holds the totals.
struct Row {
  std::int64_t symbol, window;
  std::int64_t section;  // of consecutive windows of one row: what one thread walks over
};

struct WindowPlan {
  std::vector<Row> rows;  // [rows + 1]
  std::int64_t section_windows = 1;
};

// offsets: [rows + 1] of host memory, from 0, not decreasing. window and stride at least 1.
WindowPlan plan_windows(const std::int64_t* offsets, std::int64_t rows, std::int64_t window, std::int64_t stride);

// A plan on the device.
struct DeviceWindowPlan {
  const Row* rows = nullptr;  // [count + 1]
  std::int64_t count = 0;
  std::int64_t sections = 0;  // rows[count].section
  std::int64_t section_windows = 1;
};

// symbols: all rows, each symbol below `alphabet` (the caller has checked).
// gain:    [window], gain[c] = cost[c + 1] - cost[c] of the cost table that all backends share, in units of 2^-32 bits.
// whole:   cost[window].
// bits:    [windows of all rows], bits per symbol.
void entropy_windows(const std::uint8_t* symbols, const DeviceWindowPlan& plan, std::int64_t window,
                     std::int64_t stride, int alphabet, const std::int64_t* gain, std::int64_t whole, double* bits,
                     CUstream_st* stream);

}  // namespace model_forensics::cuda
