// The extension module `model_forensics._core_cuda`. Only `model_forensics.ops` imports it.
//
// Device memory and streams come as integers (data_ptr, cuda_stream): the caller owns the memory, keeps it alive until
// the stream is done, and has made its device current. Importing the module does not touch CUDA.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <map>
#include <string>

#include "arithmetic.hpp"
#include "codelength.hpp"
#include "entropy.hpp"
#include "planes.hpp"
#include "sites.hpp"

namespace py = pybind11;

namespace model_forensics::cuda {

namespace {

using Address = std::uintptr_t;
using HostIntegers = py::array_t<std::int64_t, py::array::c_style>;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

CUstream_st* stream_at(Address address) { return at<CUstream_st>(address); }

// Rows of a plan as a NumPy array [rows, 64-bit members], to be copied to the device as it is.
template <typename Row>
HostIntegers table_of(const std::vector<Row>& rows) {
  static_assert(sizeof(Row) % sizeof(std::int64_t) == 0);
  constexpr auto kMembers = static_cast<py::ssize_t>(sizeof(Row) / sizeof(std::int64_t));
  HostIntegers table({static_cast<py::ssize_t>(rows.size()), kMembers});
  std::copy_n(reinterpret_cast<const std::int64_t*>(rows.data()), table.size(), table.mutable_data());
  return table;
}

Scale scale_named(const std::string& name) {
  static const std::map<std::string, Scale> names{{"symbols", Scale::symbols},
                                                  {"uniform", Scale::uniform},
                                                  {"log", Scale::log},
                                                  {"sign", Scale::sign},
                                                  {"exponent", Scale::exponent}};
  const auto found = names.find(name);
  if (found == names.end()) throw py::value_error("scale must be symbols, uniform, log, sign or exponent");
  return found->second;
}

Model model_numbered(int number) {
  if (number != 0 && number != 1) throw py::value_error("model must be 0 or 1");
  return static_cast<Model>(number);
}

py::tuple plan_sites_from(const HostIntegers& shapes, std::int64_t tile_channels, std::int64_t block_tokens,
                          std::int64_t block_channels) {
  if (shapes.ndim() != 2 || shapes.shape(1) != 2) throw py::value_error("shapes must be [sites, 2]");
  if ((block_tokens > 0) != (block_channels > 0) || block_tokens < 0 || block_channels < 0) {
    throw py::value_error("a block must have both sides, or neither");
  }
  const Plan plan = plan_sites(shapes.data(), shapes.shape(0), tile_channels, {block_tokens, block_channels});
  return py::make_tuple(table_of(plan.sites), plan.tile_channels, plan.tile_tokens);
}

py::tuple plan_windows_from(const HostIntegers& offsets, std::int64_t window, std::int64_t stride) {
  if (offsets.size() < 1) throw py::value_error("offsets must be [rows + 1]");
  const WindowPlan plan = plan_windows(offsets.data(), offsets.size() - 1, window, stride);
  return py::make_tuple(table_of(plan.rows), plan.section_windows);
}

void bind_inputs(py::module_& module) {
  using namespace pybind11::literals;
  py::class_<Input>(module, "Input", py::module_local())
      .def(py::init([](const std::string& scale, Address values, Address low, Address step, int levels, int alphabet,
                       Address outside) {
             return Input{scale_named(scale), at<const void>(values), at<const float>(low), at<const float>(step),
                          levels, alphabet, at<int>(outside)};
           }),
           py::kw_only(), "scale"_a, "values"_a, "low"_a, "step"_a, "levels"_a, "alphabet"_a, "outside"_a);
  py::class_<DevicePlan>(module, "DevicePlan", py::module_local())
      .def(py::init([](Address sites, std::int64_t count, std::int64_t tiles, std::int64_t tile_channels,
                       std::int64_t tile_tokens) {
             return DevicePlan{at<const Site>(sites), count, tiles, tile_channels, tile_tokens};
           }),
           py::kw_only(), "sites"_a, "count"_a, "tiles"_a, "tile_channels"_a, "tile_tokens"_a);
  py::class_<Sums>(module, "Sums", py::module_local())
      .def(py::init([](Address channel, Address token, Address site, Address block, std::int64_t block_tokens,
                       std::int64_t block_channels) {
             return Sums{at<std::int64_t>(channel), at<std::int64_t>(token), at<std::int64_t>(site),
                         at<std::int64_t>(block), {block_tokens, block_channels}};
           }),
           py::kw_only(), "channel"_a = 0, "token"_a = 0, "site"_a = 0, "block"_a = 0, "block_tokens"_a = 0,
           "block_channels"_a = 0);
  module.def("tile_channels", &tile_channels);
  module.def("plan_sites", &plan_sites_from);
  module.def("plan_windows", &plan_windows_from);
}

void bind_operations(py::module_& module) {
  module.def("quantize", [](const Input& input, const DevicePlan& plan, Address symbols, Address stream) {
    quantize(input, plan, at<std::uint8_t>(symbols), stream_at(stream));
  });
  module.def("histogram", [](const Input& input, const DevicePlan& plan, Address counts, Address stream) {
    histogram(input, plan, at<std::int64_t>(counts), stream_at(stream));
  });
  module.def("codelength", [](const Input& input, const DevicePlan& plan, Address cost, std::int64_t count,
                              Address tables, std::int64_t largest, const Sums& sums, Address stream) {
    const Costs costs{at<const std::int32_t>(cost), count, at<const std::int32_t>(tables), largest};
    codelength(input, plan, costs, sums, stream_at(stream));
  });
  module.def("entropy_windows",
             [](Address symbols, Address rows, std::int64_t count, std::int64_t sections, std::int64_t section_windows,
                std::int64_t window, std::int64_t stride, int alphabet, Address gain, std::int64_t whole, Address bits,
                Address stream) {
               entropy_windows(at<const std::uint8_t>(symbols), {at<const Row>(rows), count, sections, section_windows},
                               window, stride, alphabet, at<const std::int64_t>(gain), whole, at<double>(bits),
                               stream_at(stream));
             });
}

void bind_arithmetic(py::module_& module) {
  using namespace pybind11::literals;
  py::class_<Frame>(module, "Frame", py::module_local())
      .def(py::init([](std::int64_t size, std::int64_t chunk, int width) {
             if (width != 1 && width != 2 && width != 4) throw py::value_error("width must be 1, 2 or 4");
             if (size < 0 || chunk < 1 || chunk > (1 << 24) || chunk % width != 0) throw py::value_error("impossible sizes");
             return Frame{size, chunk, width};
           }),
           py::kw_only(), "size"_a, "chunk"_a, "width"_a)
      .def_property_readonly("chunks", &Frame::chunks)
      .def_property_readonly("sections", &Frame::sections)
      .def("section_words", [](const Frame& frame, int model) { return section_words(frame, model_numbered(model)); });
  py::class_<Coded>(module, "Coded", py::module_local())
      .def(py::init([](int model, Address sections, Address slices, Address words, Address lane_words, Address sizes) {
             return Coded{model_numbered(model), at<Section>(sections), at<std::uint32_t>(slices), at<std::uint16_t>(words),
                          at<std::int32_t>(lane_words), at<std::int64_t>(sizes)};
           }),
           py::kw_only(), "model"_a, "sections"_a, "slices"_a, "words"_a, "lane_words"_a, "sizes"_a);
  module.attr("LANES") = kLanes;
  module.def("split_planes", [](Address data, const Frame& frame, Address planes, Address counts, Address stream) {
    split_planes(at<const std::uint8_t>(data), frame, at<std::uint8_t>(planes), at<std::uint32_t>(counts),
                 stream_at(stream));
  });
  module.def("join_planes", [](Address planes, const Frame& frame, Address data, Address stream) {
    join_planes(at<const std::uint8_t>(planes), frame, at<std::uint8_t>(data), stream_at(stream));
  });
  module.def("chunk_checksums", [](Address data, const Frame& frame, Address checksums, Address stream) {
    chunk_checksums(at<const std::uint8_t>(data), frame, at<std::uint32_t>(checksums), stream_at(stream));
  });
  module.def("encode_sections",
             [](Address planes, Address counts, const Frame& frame, const Coded& coded, Address stream) {
               encode_sections(at<const std::uint8_t>(planes), at<const std::uint32_t>(counts), frame, coded,
                               stream_at(stream));
             });
  module.def("write_sections", [](Address planes, Address checksums, const Frame& frame, const Coded& coded,
                                  Address chunk_starts, Address section_starts, Address out, Address stream) {
    write_sections(at<const std::uint8_t>(planes), at<const std::uint32_t>(checksums), frame, coded,
                   at<const std::int64_t>(chunk_starts), at<const std::int64_t>(section_starts), at<std::uint8_t>(out),
                   stream_at(stream));
  });
  module.def("find_chunks", [](Address coded, std::int64_t size, const Frame& frame, Address starts, Address failure,
                               Address stream) {
    find_chunks({at<const std::uint8_t>(coded), size}, frame, at<std::int64_t>(starts), at<std::int32_t>(failure),
                stream_at(stream));
  });
  module.def("read_sections", [](Address coded, std::int64_t size, const Frame& frame, Address starts, Address sections,
                                 Address checksums, Address failures, Address data, Address stream) {
    read_sections({at<const std::uint8_t>(coded), size}, frame, at<const std::int64_t>(starts), at<std::int64_t>(sections),
                  at<std::uint32_t>(checksums), at<std::int32_t>(failures), at<std::uint8_t>(data), stream_at(stream));
  });
  module.def("decode_sections", [](Address coded, std::int64_t size, const Frame& frame, Address starts, Address sections,
                                   Address failures, Address planes, Address stream) {
    decode_sections({at<const std::uint8_t>(coded), size}, frame, at<const std::int64_t>(starts),
                    at<const std::int64_t>(sections), at<const std::int32_t>(failures), at<std::uint8_t>(planes),
                    stream_at(stream));
  });
}

}  // namespace

}  // namespace model_forensics::cuda

PYBIND11_MODULE(_core_cuda, module, py::mod_gil_not_used()) {
  module.attr("compiler") = MODEL_FORENSICS_CUDA_COMPILER;
  model_forensics::cuda::bind_inputs(module);
  model_forensics::cuda::bind_operations(module);
  model_forensics::cuda::bind_arithmetic(module);
}
