// Packer `conv.bytes`: weights s8 [filters, channels of a group, taps..] as panels of bytes, a group after the other.
// ints: groups. The depth runs over taps, then channels.
#include <cstdlib>

#include "ops/quantized_gemm.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Groups {
  int64_t count, taps;
  BytePanels layout;

  int64_t stride() const { return (layout.bytes() + 63) / 64 * 64; }
};

Groups groups_of(const PackRequest& r, const Tensor& w) {
  if (r.n_sources != 1 || r.n_ints != 1 || w.rank < 3 || w.dtype != DType::kInt8 || r.ints[0] < 1 || w.dims[0] % r.ints[0] != 0)
    r.host->fail("weights of a convolution of bytes: %lld filters of element type %d", static_cast<long long>(w.rank > 0 ? w.dims[0] : 0),
                 static_cast<int>(w.dtype));
  const int64_t taps = w.product(2, w.rank);
  return {r.ints[0], taps, BytePanels{taps * w.dims[1], {w.dims[0] / r.ints[0]}}};
}

int64_t bytes(const PackRequest& r) {
  const Groups g = groups_of(r, r.sources[0]);
  return g.stride() * g.count;
}

// Calls f(byte in the packed form, byte in the weights) for all of them.
template <class F>
void for_each(const Groups& g, const Tensor& w, char* packed, const F& f) {
  const int64_t filters = g.layout.panels.columns, channels = w.dims[1];
  for (int64_t i = 0; i < w.dims[0]; ++i) {
    const int64_t column = i % filters, panel = column / kPanel;
    auto* to = const_cast<int8_t*>(g.layout.panel(packed + i / filters * g.stride(), panel));
    for (int64_t tap = 0; tap < g.taps; ++tap) {
      int64_t at = i * w.strides[0], rest = tap;
      for (int axis = w.rank - 1; axis >= 2; --axis) at += rest % w.dims[axis] * w.strides[axis], rest /= w.dims[axis];
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t k = tap * channels + c;
        f(to + (k / 4 * g.layout.panels.width(panel) + column % kPanel) * 4 + k % 4, w.as<int8_t>() + at + c * w.strides[1]);
      }
    }
  }
}

void pack(const PackRequest& r, char* packed) {
  const Tensor& w = r.sources[0];
  const Groups g = groups_of(r, w);
  for_each(g, w, packed, [](int8_t* to, const int8_t* from) { *to = *from; });
  for (int64_t group = 0; group < g.count; ++group) {
    char* of_group = packed + group * g.stride();
    for (int64_t p = 0; p < g.layout.panels.count(); ++p) {
      const int8_t* at = g.layout.panel(of_group, p);
      bool narrow = true;
      for (int64_t i = 0; i < g.layout.groups() * g.layout.panels.width(p) * 4; i += 2) narrow &= std::abs(at[i]) + std::abs(at[i + 1]) <= 128;
      of_group[g.layout.flags_offset() + p] = narrow;
    }
  }
}

void unpack(const PackRequest& r, const char* packed, Tensor* sources) {
  const Groups g = groups_of(r, sources[0]);
  for_each(g, sources[0], const_cast<char*>(packed), [](const int8_t* from, int8_t* to) { *to = *from; });
}

const RegisterPacker weights{"conv.bytes", bytes, pack, unpack};

}  // namespace
}  // namespace graphopt
