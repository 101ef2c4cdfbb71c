// Constant weights of convolutions.
//   conv.direct     [group][panel][taps][channels of the group][columns of the panel]   ints: groups
//   conv.depthwise  [taps][channels, padded to whole vectors]
#include "ops/conv_tile.h"
#include "ops/float_types.h"
#include "ops/registry.h"
#include "ops/window.h"

namespace graphopt {
namespace {

// Weights of dims (filters, channels, kernel...); ints: groups.
struct Filters {
  int64_t groups, filters, channels, taps, depth, padded;
  int rank;
  explicit Filters(const PackRequest& r) {
    const Tensor& w = r.sources[0];
    rank = w.rank;
    groups = r.n_ints > 0 && r.ints[0] > 0 ? r.ints[0] : 1;
    filters = w.dims[0] / groups;
    channels = w.dims[1];
    taps = w.product(2, w.rank);
    depth = taps * channels;
    padded = conv_padded(filters);
  }
  // Where a filter's depth begins in the packed form, and the distance of its values.
  int64_t begin(int64_t f, int64_t* step) const {
    const int64_t group = f / filters, column = f % filters, first = column / kConvPanel * kConvPanel;
    const int64_t left = padded - first;
    *step = left < kConvPanel ? left : kConvPanel;
    return group * depth * padded + first * depth + (column - first);
  }
};

// Calls f(offset of a weight in its source, index in the packed form) for all weights.
template <class F> void for_weights(const Filters& s, const Tensor& w, const F& f) {
  for (int64_t filter = 0; filter < s.groups * s.filters; ++filter) {
    int64_t step;
    const int64_t begin = s.begin(filter, &step);
    for (int64_t t = 0; t < s.taps; ++t) {
      int64_t offset = filter * w.strides[0], rest = t;
      for (int a = s.rank - 1; a >= 2; --a) {
        offset += rest % w.dims[a] * w.strides[a];
        rest /= w.dims[a];
      }
      for (int64_t c = 0; c < s.channels; ++c) f(offset + c * w.strides[1], begin + (t * s.channels + c) * step);
    }
  }
}

int64_t bytes_direct(const PackRequest& r) {
  const Filters s(r);
  return s.groups * s.depth * s.padded * 4;
}

void pack_direct(const PackRequest& r, char* packed) {
  const Tensor& w = r.sources[0];
  auto* to = reinterpret_cast<float*>(packed);
  auto pack = [&](auto* from) {
    for_weights(Filters(r), w, [&](int64_t at, int64_t index) { to[index] = to_float(from[at]); });
  };
  if (w.dtype == DType::kFloat) pack(w.as<float>());
  else if (w.dtype == DType::kFloat16) pack(w.as<f16>());
  else if (w.dtype == DType::kBfloat16) pack(w.as<bf16>());
  else r.host->fail("weights of element type %d are not packed for conv.direct", static_cast<int>(w.dtype));
}

void unpack_direct(const PackRequest& r, const char* packed, Tensor* sources) {
  const auto* from = reinterpret_cast<const float*>(packed);
  auto unpack = [&](auto* to) {
    for_weights(Filters(r), sources[0], [&](int64_t at, int64_t index) { from_float(from[index], to[at]); });
  };
  if (sources[0].dtype == DType::kFloat) unpack(sources[0].as<float>());
  else if (sources[0].dtype == DType::kFloat16) unpack(sources[0].as<f16>());
  else unpack(sources[0].as<bf16>());
}

// Of dims (channels, 1, kernel...).
template <class F> void for_depthwise_weights(const Tensor& w, const F& f) {
  const int64_t taps = w.product(2, w.rank), padded = conv_padded(w.dims[0]);
  for (int64_t t = 0; t < taps; ++t) {
    int64_t offset = 0, rest = t;
    for (int a = w.rank - 1; a >= 2; --a) {
      offset += rest % w.dims[a] * w.strides[a];
      rest /= w.dims[a];
    }
    for (int64_t c = 0; c < w.dims[0]; ++c) f(offset + c * w.strides[0], t * padded + c);
  }
}

int64_t bytes_depthwise(const PackRequest& r) {
  const Tensor& w = r.sources[0];
  if (w.dims[1] != 1) r.host->fail("conv.depthwise takes filters of 1 channel, not %lld", static_cast<long long>(w.dims[1]));
  return w.product(2, w.rank) * conv_padded(w.dims[0]) * 4;
}

void pack_depthwise(const PackRequest& r, char* packed) {
  const Tensor& w = r.sources[0];
  auto* to = reinterpret_cast<float*>(packed);
  auto pack = [&](auto* from) {
    for_depthwise_weights(w, [&](int64_t at, int64_t index) { to[index] = to_float(from[at]); });
  };
  if (w.dtype == DType::kFloat) pack(w.as<float>());
  else if (w.dtype == DType::kFloat16) pack(w.as<f16>());
  else if (w.dtype == DType::kBfloat16) pack(w.as<bf16>());
  else r.host->fail("weights of element type %d are not packed for conv.depthwise", static_cast<int>(w.dtype));
}

void unpack_depthwise(const PackRequest& r, const char* packed, Tensor* sources) {
  const auto* from = reinterpret_cast<const float*>(packed);
  auto unpack = [&](auto* to) {
    for_depthwise_weights(sources[0], [&](int64_t at, int64_t index) { from_float(from[index], to[at]); });
  };
  if (sources[0].dtype == DType::kFloat) unpack(sources[0].as<float>());
  else if (sources[0].dtype == DType::kFloat16) unpack(sources[0].as<f16>());
  else unpack(sources[0].as<bf16>());
}

const RegisterPacker conv_depthwise{"conv.depthwise", bytes_depthwise, pack_depthwise, unpack_depthwise};
const RegisterPacker conv_direct{"conv.direct", bytes_direct, pack_direct, unpack_direct};

}  // namespace
}  // namespace graphopt
