#include "engine/constants.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <sys/mman.h>

#include "engine/errors.h"
#include "engine/pool.h"
#include "engine/python_values.h"

namespace nb = nanobind;

namespace graphopt {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

WeightBlock::~WeightBlock() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

void WeightBlock::allocate(int64_t bytes) {
  if (bytes == 0) return;
  const bool is_large = bytes >= kHugePage;
  const int64_t unit = is_large ? kHugePage : 4096;
  bytes_ = (bytes + unit - 1) / unit * unit;
  // A huge page begins at a multiple of its size: what lies before and behind goes back.
  const int64_t wanted = bytes_ + (is_large ? kHugePage : 0);
  void* at = mmap(nullptr, static_cast<size_t>(wanted), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) fail("out of memory: %lld bytes of weights", static_cast<long long>(bytes));
  char* first = static_cast<char*>(at);
  data_ = first;
  if (!is_large) return;
  const auto address = reinterpret_cast<uintptr_t>(first);
  const int64_t before = static_cast<int64_t>((kHugePage - address % kHugePage) % kHugePage);
  data_ = first + before;
  if (before > 0) munmap(first, static_cast<size_t>(before));
  if (wanted - before > bytes_) munmap(data_ + bytes_, static_cast<size_t>(wanted - before - bytes_));
#if defined(MADV_HUGEPAGE)
  madvise(data_, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
#endif
}

ConstantStore::ConstantStore(nb::list items, const Library& library) {
  struct Packed {
    size_t number;
    const Packer* packer;
    std::vector<Tensor> sources;
    std::vector<int64_t> ints;
    int64_t offset, bytes;
  };
  std::vector<Packed> packed;
  int64_t total = 0;
  for (nb::handle item : items) {
    const auto parts = nb::cast<nb::tuple>(item);
    const auto arrays = nb::cast<nb::list>(parts[0]);
    const auto dtypes = nb::cast<std::vector<int>>(parts[1]);
    const auto name = nb::cast<std::string>(parts[2]);
    Tensor tensor;
    if (name.empty() && dtypes[0] == static_cast<int>(DType::kString)) {
      strings_.push_back(std::make_unique<std::vector<std::string>>());
      tensor = strings_of(nb::cast<nb::tuple>(arrays[0]), *strings_.back());
    } else if (name.empty()) {
      kept_.push_back(nb::borrow(arrays[0]));
      tensor = tensor_of(nb::cast<Array>(arrays[0]), static_cast<DType>(dtypes[0]));
    } else {
      Packed p{tensors_.size(), library.packer(name), {}, nb::cast<std::vector<int64_t>>(parts[3]), total, 0};
      if (p.packer == nullptr) fail("there is no packed form %s", name.c_str());
      for (size_t i = 0; i < nb::len(arrays); ++i) p.sources.push_back(tensor_of(nb::cast<Array>(arrays[i]), static_cast<DType>(dtypes[i])));
      const PackRequest request{&kHost, p.sources.data(), static_cast<int32_t>(p.sources.size()), static_cast<int32_t>(p.ints.size()), p.ints.data()};
      p.bytes = p.packer->bytes(request);
      total += (p.bytes + 63) / 64 * 64;
      packed.push_back(std::move(p));
    }
    tensors_.push_back(tensor);
  }
  block_.allocate(total);
  for (const Packed& p : packed) {
    const PackRequest request{&kHost, p.sources.data(), static_cast<int32_t>(p.sources.size()), static_cast<int32_t>(p.ints.size()), p.ints.data()};
    Tensor& t = tensors_[p.number];
    t.data = block_.data() + p.offset;
    t.dtype = DType::kUint8;
    t.rank = 1;
    t.dims[0] = p.bytes;
    t.strides[0] = 1;
    p.packer->pack(request, t.data);
  }
}

}  // namespace graphopt
