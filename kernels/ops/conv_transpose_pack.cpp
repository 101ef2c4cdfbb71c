// Packer `conv.transpose.direct`: the weights of each phase as those of a convolution, one phase after the other.
#include "ops/conv_tile.h"
#include "ops/conv_transpose_phases.h"
#include "ops/float_types.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// Weights of dims (channels, filters of a group, kernel...); ints: groups, strides.
struct Sources {
  int64_t groups, channels, filters, padded;
  int64_t kernel[kWindowAxes] = {1, 1, 1}, stride[kWindowAxes] = {1, 1, 1}, step[kWindowAxes] = {0, 0, 0};
  explicit Sources(const PackRequest& r) {
    const Tensor& w = r.sources[0];
    groups = r.ints[0];
    channels = w.dims[0] / groups, filters = w.dims[1], padded = conv_padded(filters);
    const int rank = w.rank - 2;
    for (int i = 0; i < rank; ++i) {
      const int a = kWindowAxes - rank + i;
      kernel[a] = w.dims[2 + i], step[a] = w.strides[2 + i], stride[a] = r.ints[1 + i];
    }
  }
};

// Calls f(offset in the source, index in the packed form).
template <class F> int64_t for_weights(const Sources& s, const Tensor& w, const F& f) {
  int64_t begin = 0;
  for_phases(s.kernel, s.stride, [&](const Phase& phase) {
    const int64_t depth = phase.all() * s.channels;
    for (int64_t group = 0; group < s.groups; ++group)
      for (int64_t t = 0; t < phase.all(); ++t) {
        int64_t rest = t, offset = 0;
        for (int a = kWindowAxes - 1; a >= 0; --a) {
          const int64_t reversed = phase.taps[a] - 1 - rest % phase.taps[a];
          rest /= phase.taps[a];
          offset += (phase.residue[a] + reversed * s.stride[a]) * s.step[a];
        }
        for (int64_t c = 0; c < s.channels; ++c)
          for (int64_t j = 0; j < s.filters; ++j) {
            const int64_t first = j / kConvPanel * kConvPanel, width = s.padded - first < kConvPanel ? s.padded - first : kConvPanel;
            f(offset + (group * s.channels + c) * w.strides[0] + j * w.strides[1],
              begin + group * depth * s.padded + first * depth + (t * s.channels + c) * width + j - first);
          }
      }
    begin += s.groups * depth * s.padded;
  });
  return begin;
}

int64_t bytes_phases(const PackRequest& r) {
  const Sources s(r);
  int64_t taps = 0;
  for_phases(s.kernel, s.stride, [&](const Phase& phase) { taps += phase.all(); });
  return s.groups * taps * s.channels * s.padded * 4;
}

void pack_phases(const PackRequest& r, char* packed) {
  const Tensor& w = r.sources[0];
  auto* to = reinterpret_cast<float*>(packed);
  auto pack = [&](auto* from) { for_weights(Sources(r), w, [&](int64_t at, int64_t index) { to[index] = to_float(from[at]); }); };
  if (w.dtype == DType::kFloat) pack(w.as<float>());
  else if (w.dtype == DType::kFloat16) pack(w.as<f16>());
  else if (w.dtype == DType::kBfloat16) pack(w.as<bf16>());
  else r.host->fail("weights of element type %d are not packed for conv.transpose.direct", static_cast<int>(w.dtype));
}

void unpack_phases(const PackRequest& r, const char* packed, Tensor* sources) {
  const auto* from = reinterpret_cast<const float*>(packed);
  auto unpack = [&](auto* to) {
    for_weights(Sources(r), sources[0], [&](int64_t at, int64_t index) { from_float(from[index], to[at]); });
  };
  if (sources[0].dtype == DType::kFloat) unpack(sources[0].as<float>());
  else if (sources[0].dtype == DType::kFloat16) unpack(sources[0].as<f16>());
  else unpack(sources[0].as<bf16>());
}

const RegisterPacker packed{"conv.transpose.direct", bytes_phases, pack_phases, unpack_phases};

}  // namespace
}  // namespace graphopt
