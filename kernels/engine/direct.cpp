#include "engine/direct.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <tuple>

#include "engine/arrays.h"
#include "engine/errors.h"
#include "engine/memory.h"
#include "engine/pool.h"
#include "engine/values.h"

namespace nb = nanobind;

namespace graphopt {
namespace {

using Input = std::optional<std::pair<Array, int>>;  // array, element type
// Element type, dims, strides (none: dense). Dims are what the kernel's `shape` says if there are none.
using Output = std::tuple<int, std::optional<std::vector<int64_t>>, std::optional<std::vector<int64_t>>>;

struct Call {
  Bind bind{};
  Instr instr{};
  Allocations memory;
  std::vector<Tensor> tensors;
  std::vector<Tensor*> in, out;
  std::vector<std::vector<char>> storage;
};

char* allocate(Call& call, Tensor& t) {
  int64_t last = 0;
  for (int i = 0; i < t.rank; ++i) last += t.dims[i] > 0 ? (t.dims[i] - 1) * t.strides[i] : 0;
  call.storage.emplace_back(static_cast<size_t>((last + 1) * size_of(t.dtype)) + 64);
  auto address = reinterpret_cast<uintptr_t>(call.storage.back().data());
  return reinterpret_cast<char*>((address + 63) / 64 * 64);
}

nb::list call_kernel(const Library& library, const std::string& name, const std::vector<Input>& inputs,
                     const std::vector<Output>& outputs, const std::vector<int64_t>& ints,
                     const std::vector<double>& floats, nb::bytes bytes, int threads, int repeat) {
  const Kernel* kernel = library.kernel(name);
  if (kernel == nullptr) fail("there is no kernel %s", name.c_str());
  Call call;
  call.tensors.reserve(inputs.size() + outputs.size());
  for (const Input& input : inputs) {
    if (!input) {
      call.in.push_back(nullptr);
      continue;
    }
    call.tensors.push_back(tensor_of(input->first, static_cast<DType>(input->second)));
    call.in.push_back(&call.tensors.back());
  }
  bool known = true;
  for (const auto& [dtype, dims, strides] : outputs) {
    Tensor t;
    t.dtype = static_cast<DType>(dtype);
    known = known && dims.has_value();
    if (dims) {
      t.rank = static_cast<int32_t>(dims->size());
      for (int i = 0; i < t.rank; ++i) t.dims[i] = (*dims)[i];
      t.make_dense();
      if (strides)
        for (int i = 0; i < t.rank; ++i) t.strides[i] = (*strides)[i];
    }
    call.tensors.push_back(t);
    call.out.push_back(&call.tensors.back());
  }
  Pool pool(threads);
  Bind& b = call.bind;
  b.host = &kHost;
  b.owner = &call.memory;
  b.in = call.in.data();
  b.out = call.out.data();
  b.n_in = static_cast<int32_t>(call.in.size());
  b.n_out = static_cast<int32_t>(call.out.size());
  b.ints = ints.data();
  b.n_ints = static_cast<int32_t>(ints.size());
  b.floats = floats.data();
  b.n_floats = static_cast<int32_t>(floats.size());
  b.bytes = bytes.c_str();
  b.n_bytes = static_cast<int64_t>(bytes.size());
  b.threads = threads;
  if (!known) {
    if (kernel->shape == nullptr) fail("kernel %s does not compute dims", name.c_str());
    kernel->shape(b);
    for (Tensor* t : call.out) t->make_dense();
  }
  for (Tensor* t : call.out) t->data = allocate(call, *t);
  call.instr = Instr{kernel->prepare(b), b.in, b.out, b.params};
  pool.reserve_scratch(b.scratch);
  for (int i = 0; i < repeat; ++i) call.instr.run(call.instr, pool.worker());
  nb::list results;
  for (size_t i = 0; i < call.out.size(); ++i) {
    auto* kept = new std::vector<char>(std::move(call.storage[i]));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<char>*>(p); });
    results.append(array_of(*call.out[i], owner));
  }
  return results;
}

// The packers of an instruction set, as code that runs here.
const Library& layouts_of(const Library& library, const std::string& isa) {
  // The lock of Python is held: no two threads open one at the same time.
  static std::map<std::string, std::unique_ptr<Library>> all;
  std::unique_ptr<Library>& layouts = all[isa];
  if (!layouts) layouts = Library::layouts(library.folder(), isa);
  if (!layouts) fail("constants are packed for %s, which this graphopt (for %s) does not know", isa.c_str(), library.isa());
  return *layouts;
}

nb::object pack(const Library& library, const std::string& name, const std::vector<std::pair<Array, int>>& sources,
                const std::vector<int64_t>& ints) {
  const Packer* packer = library.packer(name);
  if (packer == nullptr) fail("there is no packed form %s for %s", name.c_str(), library.isa());
  std::vector<Tensor> tensors;
  for (const auto& [array, dtype] : sources) tensors.push_back(tensor_of(array, static_cast<DType>(dtype)));
  PackRequest request{&kHost, tensors.data(), static_cast<int32_t>(tensors.size()), static_cast<int32_t>(ints.size()), ints.data()};
  Tensor t;
  t.dtype = DType::kUint8;
  t.rank = 1;
  t.dims[0] = packer->bytes(request);
  t.strides[0] = 1;
  size_t size = (static_cast<size_t>(t.dims[0]) + 64) / 64 * 64;
  t.data = static_cast<char*>(std::aligned_alloc(64, size));
  std::memset(t.data, 0, size);
  nb::capsule owner(t.data, [](void* p) noexcept { std::free(p); });
  packer->pack(request, t.data);
  return array_of(t, owner);
}

// The sources of a packed constant that another instruction set's library made.
nb::list unpack(const Library& library, const std::string& isa, const std::string& name,
                const std::vector<std::pair<int, std::vector<int64_t>>>& sources, const std::vector<int64_t>& ints, Array packed) {
  const Packer* packer = layouts_of(library, isa).packer(name);
  if (packer == nullptr) fail("there is no packed form %s for %s", name.c_str(), isa.c_str());
  std::vector<Tensor> tensors;
  std::vector<std::unique_ptr<std::vector<char>>> storage;
  for (const auto& [dtype, dims] : sources) {
    Tensor t;
    t.dtype = static_cast<DType>(dtype);
    if (dims.size() > kMaxRank || t.dtype == DType::kString) fail("a packed constant has sources of rank %zu", dims.size());
    for (int64_t dim : dims) t.dims[t.rank++] = dim;
    t.make_dense();
    storage.push_back(std::make_unique<std::vector<char>>(static_cast<size_t>(bytes_of(t.dtype, checked_count(t)))));
    t.data = storage.back()->data();
    tensors.push_back(t);
  }
  const PackRequest request{&kHost, tensors.data(), static_cast<int32_t>(tensors.size()), static_cast<int32_t>(ints.size()), ints.data()};
  const int64_t wanted = packer->bytes(request);
  if (static_cast<int64_t>(packed.nbytes()) != wanted) fail("%zu bytes of packed form %s, wanted %lld", packed.nbytes(), name.c_str(), static_cast<long long>(wanted));
  packer->unpack(request, static_cast<const char*>(packed.data()), tensors.data());
  nb::list results;
  for (size_t i = 0; i < tensors.size(); ++i) {
    nb::capsule owner(storage[i].release(), [](void* p) noexcept { delete static_cast<std::vector<char>*>(p); });
    results.append(array_of(tensors[i], owner));
  }
  return results;
}

}  // namespace

void bind_direct(nb::module_& m, const Library& library) {
  m.def(
      "call_kernel",
      [&library](const std::string& name, const std::vector<Input>& inputs, const std::vector<Output>& outputs,
                 const std::vector<int64_t>& ints, const std::vector<double>& floats, nb::bytes bytes, int threads,
                 int repeat) {
        return call_kernel(library, name, inputs, outputs, ints, floats, bytes, threads, repeat);
      },
      nb::arg("name"), nb::arg("inputs"), nb::arg("outputs"), nb::arg("ints"), nb::arg("floats"), nb::arg("bytes"),
      nb::arg("threads"), nb::arg("repeat"));
  m.def(
      "pack",
      [&library](const std::string& name, const std::vector<std::pair<Array, int>>& sources,
                 const std::vector<int64_t>& ints, const std::string& isa) {
        return pack(isa.empty() ? library : layouts_of(library, isa), name, sources, ints);
      },
      nb::arg("name"), nb::arg("sources"), nb::arg("ints"), nb::arg("isa") = "");
  m.def(
      "unpack",
      [&library](const std::string& isa, const std::string& name, const std::vector<std::pair<int, std::vector<int64_t>>>& sources,
                 const std::vector<int64_t>& ints, Array packed) { return unpack(library, isa, name, sources, ints, packed); },
      nb::arg("isa"), nb::arg("name"), nb::arg("sources"), nb::arg("ints"), nb::arg("packed"));
  m.def("packer_names", [&library] { return library.packer_names(); });
  m.def("kernel_names", [&library] { return library.kernel_names(); });
  m.def("isa", [&library] { return library.isa(); });
}

}  // namespace graphopt
