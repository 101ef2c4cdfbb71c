// Packer of 8-bit weights: source [K, N], or [N, K] if ints[0] is not 0; int8 or uint8.
#include <cstdlib>
#include <utility>

#include "ops/quantized_gemm.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

Tensor matrix(const PackRequest& r, const Tensor& source) {
  if (r.n_sources != 1 || source.rank != 2) r.host->fail("weights of a product are a matrix");
  if (source.dtype != DType::kInt8 && source.dtype != DType::kUint8)
    r.host->fail("8-bit weights of element type %d", static_cast<int>(source.dtype));
  Tensor t = source;
  if (r.n_ints > 0 && r.ints[0] != 0) {
    std::swap(t.dims[0], t.dims[1]);
    std::swap(t.strides[0], t.strides[1]);
  }
  return t;
}

int64_t bytes(const PackRequest& r) {
  const Tensor t = matrix(r, r.sources[0]);
  return BytePanels{t.dims[0], {t.dims[1]}}.bytes();
}

// Calls f(byte in the packed form, its row, its column) for all elements.
template <class F>
void for_each(const BytePanels& layout, const char* packed, const F& f) {
  for (int64_t p = 0; p < layout.panels.count(); ++p) {
    const int64_t width = layout.panels.width(p);
    const int8_t* panel = layout.panel(packed, p);
    for (int64_t k = 0; k < layout.depth; ++k)
      for (int64_t j = 0; j < width && p * kPanel + j < layout.panels.columns; ++j)
        f(panel + (k / 4 * width + j) * 4 + k % 4, k, p * kPanel + j);
  }
}

bool is_narrow(const BytePanels& layout, const char* packed, int64_t p) {
  const int8_t* at = layout.panel(packed, p);
  for (int64_t i = 0; i < layout.groups() * layout.panels.width(p) * 4; i += 2)
    if (std::abs(at[i]) + std::abs(at[i + 1]) > 128) return false;
  return true;
}

void pack(const PackRequest& r, char* packed) {
  const Tensor t = matrix(r, r.sources[0]);
  const BytePanels layout{t.dims[0], {t.dims[1]}};
  const auto* from = t.as<uint8_t>();
  const int offset = t.dtype == DType::kUint8 ? 0x80 : 0;  // less 128 is the same as the other sign bit
  auto* sums = reinterpret_cast<int32_t*>(packed);
  for_each(layout, packed, [&](const int8_t* to, int64_t k, int64_t n) {
    const auto value = static_cast<int8_t>(from[k * t.strides[0] + n * t.strides[1]] ^ offset);
    *const_cast<int8_t*>(to) = value;
    sums[n] += value;
  });
  for (int64_t p = 0; p < layout.panels.count(); ++p) packed[layout.flags_offset() + p] = is_narrow(layout, packed, p);
}

void unpack(const PackRequest& r, const char* packed, Tensor* sources) {
  const Tensor t = matrix(r, sources[0]);
  const int offset = t.dtype == DType::kUint8 ? 0x80 : 0;
  for_each({t.dims[0], {t.dims[1]}}, packed, [&](const int8_t* from, int64_t k, int64_t n) {
    t.as<uint8_t>()[k * t.strides[0] + n * t.strides[1]] = static_cast<uint8_t>(static_cast<uint8_t>(*from) ^ offset);
  });
}

const RegisterPacker byte_panels{"gemm.u8s8", bytes, pack, unpack};

}  // namespace
}  // namespace graphopt
