// The geometry of transposed convolutions.
#pragma once
#include "ops/window.h"

namespace graphopt {

// ints: filters, groups, auto_pad, window, output_padding[r], output_shape[r] (0: as the window gives), end
constexpr int transpose_ints(int rank) { return 3 + window_ints(rank) + 2 * rank; }

// The window of the convolution whose inverse this is: `in` are the dims of x, `out` those of y, tap k of input i adds to
// output i * stride + k * dilation - pad.
inline Window read_transpose(Bind& b) {
  const Tensor& x = *b.in[0];
  const int r = x.rank - 2;
  if (r < 1 || r > kWindowAxes) b.host->fail("transposed convolution takes 1 to 3 axes, not %d", r);
  if (b.n_ints < transpose_ints(r)) b.host->fail("transposed convolution of %d axes needs %d integers", r, transpose_ints(r));
  Window w = read_window(b, x, b.ints + 3, AutoPad::kNone);
  const auto auto_pad = static_cast<AutoPad>(b.ints[2]);
  for (int i = 0; i < r; ++i) {
    const int a = kWindowAxes - r + i;
    const int64_t extra = b.ints[3 + window_ints(r) + i], asked = b.ints[3 + window_ints(r) + r + i];
    const int64_t full = (w.in[a] - 1) * w.stride[a] + w.extent(a) + extra;
    int64_t size = asked;
    if (auto_pad == AutoPad::kValid) w.pad[a] = w.pad_end[a] = 0;
    if (asked == 0 && (auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower)) size = w.in[a] * w.stride[a];
    if (size > 0) {
      const int64_t total = full > size ? full - size : 0;
      w.pad[a] = auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
      w.pad_end[a] = total - w.pad[a];
      w.out[a] = size;
    } else {
      w.out[a] = full - w.pad[a] - w.pad_end[a];
      w.out[a] = w.out[a] > 0 ? w.out[a] : 0;
    }
  }
  return w;
}

inline void set_transpose_dims(const Bind& b, const Window& w, Tensor& y) {
  y.rank = b.in[0]->rank;
  y.dims[0] = b.in[0]->dims[0], y.dims[1] = b.ints[0];
  for (int i = 0; i < w.rank; ++i) y.dims[2 + i] = w.out[kWindowAxes - w.rank + i];
}

inline void take_transpose_output(Bind& b, Window& w) {
  const Tensor& y = *b.out[0];
  Tensor expected;
  set_transpose_dims(b, w, expected);
  for (int i = 0; i < expected.rank; ++i)
    if (y.rank != expected.rank || y.dims[i] != expected.dims[i])
      b.host->fail("output axis %d has %lld elements where the transposed window gives %lld", i,
                   static_cast<long long>(i < y.rank ? y.dims[i] : -1), static_cast<long long>(expected.dims[i]));
  for (int i = 0; i < w.rank; ++i) w.y[kWindowAxes - w.rank + i] = y.strides[2 + i];
}

}  // namespace graphopt
