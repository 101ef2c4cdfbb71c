// Sliding windows: what convolution, transposed convolution and pooling have in common.
//
// Up to three spatial axes, kept right-aligned in arrays of three: the axes that a 1-D or 2-D window lacks have size 1.
#pragma once
#include "engine/abi.h"

namespace graphopt {

constexpr int kWindowAxes = 3;

enum class AutoPad : int64_t { kNone = 0, kSameUpper = 1, kSameLower = 2, kValid = 3 };

struct Window {
  int rank = 0;  // of the tensors' spatial part
  int64_t in[kWindowAxes] = {1, 1, 1}, out[kWindowAxes] = {1, 1, 1};
  int64_t kernel[kWindowAxes] = {1, 1, 1}, stride[kWindowAxes] = {1, 1, 1}, dilation[kWindowAxes] = {1, 1, 1};
  int64_t pad[kWindowAxes] = {0, 0, 0}, pad_end[kWindowAxes] = {0, 0, 0};
  int64_t x[kWindowAxes] = {0, 0, 0}, y[kWindowAxes] = {0, 0, 0};  // strides of the two tensors

  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  int64_t in_size() const { return in[0] * in[1] * in[2]; }
  int64_t out_size() const { return out[0] * out[1] * out[2]; }
  int64_t extent(int axis) const { return dilation[axis] * (kernel[axis] - 1) + 1; }
  // The window positions of `axis` whose tap `k` lies inside the input: [first, last).
  void inside(int axis, int64_t k, int64_t* first, int64_t* last) const {
    const int64_t shift = k * dilation[axis] - pad[axis], s = stride[axis];
    int64_t lo = shift >= 0 ? 0 : (-shift + s - 1) / s;
    int64_t hi = in[axis] - shift > 0 ? (in[axis] - shift + s - 1) / s : 0;
    hi = hi < out[axis] ? hi : out[axis];
    *first = lo;
    *last = hi > lo ? hi : lo;
  }
};

// Integers that describe a window of r axes: kernel[r], strides[r], dilations[r], pads before[r], pads after[r].
// A kernel of 0 is the whole axis.
constexpr int window_ints(int rank) { return 5 * rank; }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Reads `ints` for the tensor `x` of dims (N, C, spatial...); resolves auto_pad. Outputs' dims are not needed yet.
inline Window read_window(Bind& b, const Tensor& x, const int64_t* ints, AutoPad auto_pad) {
  Window w;
  w.rank = x.rank - 2;
  if (w.rank < 1 || w.rank > kWindowAxes)
    b.host->fail("windows of %lld axes are not supported: 1 to 3 are", static_cast<long long>(w.rank));
  const int r = w.rank;
  for (int i = 0; i < r; ++i) {
    const int a = kWindowAxes - r + i;
    w.in[a] = x.dims[2 + i];
    w.x[a] = x.strides[2 + i];
    w.kernel[a] = ints[i];
    w.stride[a] = ints[r + i];
    w.dilation[a] = ints[2 * r + i];
    w.pad[a] = ints[3 * r + i];
    w.pad_end[a] = ints[4 * r + i];
    if (w.kernel[a] == 0) {
      // The whole axis; an empty one is a window on padding alone.
      w.kernel[a] = w.in[a] > 0 ? w.in[a] : 1;
      w.stride[a] = w.dilation[a] = 1;
      w.pad[a] = 0, w.pad_end[a] = w.in[a] > 0 ? 0 : 1;
      continue;
    }
    if (w.kernel[a] < 1 || w.stride[a] < 1 || w.dilation[a] < 1)
      b.host->fail("window axis %d: kernel %lld, stride %lld, dilation %lld must be at least 1", i,
                   static_cast<long long>(w.kernel[a]), static_cast<long long>(w.stride[a]),
                   static_cast<long long>(w.dilation[a]));
    if (auto_pad == AutoPad::kNone) continue;
    w.pad[a] = w.pad_end[a] = 0;
    if (auto_pad == AutoPad::kValid) continue;
    const int64_t positions = ceil_div(w.in[a], w.stride[a]);
    int64_t total = (positions - 1) * w.stride[a] + w.extent(a) - w.in[a];
    total = total > 0 ? total : 0;
    w.pad[a] = auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
    w.pad_end[a] = total - w.pad[a];
  }
  return w;
}

// The window of a convolution of in[0]; its integers: filters, groups, auto_pad, window, then the kernel's own.
inline Window read_conv_window(Bind& b, const char* kernel) {
  const int r = b.in[0]->rank - 2;
  if (r >= 1 && r <= kWindowAxes && b.n_ints < 3 + window_ints(r))
    b.host->fail("%s of %d axes needs %d integers", kernel, r, 3 + window_ints(r));
  return read_window(b, *b.in[0], b.ints + 3, static_cast<AutoPad>(b.ints[2]));
}

// How many positions the window has along `axis`.
inline int64_t window_positions(const Window& w, int axis, bool ceil_mode = false) {
  const int64_t room = w.in[axis] + w.pad[axis] + w.pad_end[axis] - w.extent(axis);
  if (room < 0) return 0;
  int64_t n = (ceil_mode ? ceil_div(room, w.stride[axis]) : room / w.stride[axis]) + 1;
  // A window that would start in the padding after the input does not count.
  if (ceil_mode && (n - 1) * w.stride[axis] >= w.in[axis] + w.pad[axis]) --n;
  return n;
}

// Sets the dims of `y` to (batch, channels, positions...).
inline void set_window_dims(const Window& w, const Tensor& x, int64_t channels, bool ceil_mode, Tensor& y) {
  y.rank = x.rank;
  y.dims[0] = x.dims[0];
  y.dims[1] = channels;
  for (int i = 0; i < w.rank; ++i) y.dims[2 + i] = window_positions(w, kWindowAxes - w.rank + i, ceil_mode);
}

// Takes the output's dims and strides over; fails where `y` has other dims than the window gives.
inline void take_output(Bind& b, Window& w, const Tensor& x, int64_t channels, bool ceil_mode, const Tensor& y) {
  Tensor expected;
  set_window_dims(w, x, channels, ceil_mode, expected);
  for (int i = 0; i < expected.rank; ++i)
    if (y.rank != expected.rank || y.dims[i] != expected.dims[i])
      b.host->fail("output axis %d has %lld elements where the window gives %lld", i,
                   static_cast<long long>(i < y.rank ? y.dims[i] : -1), static_cast<long long>(expected.dims[i]));
  for (int i = 0; i < w.rank; ++i) {
    w.out[kWindowAxes - w.rank + i] = y.dims[2 + i];
    w.y[kWindowAxes - w.rank + i] = y.strides[2 + i];
  }
}

// Adds weight * input to `sums`, one an output position of the row (od, oh), for every channel and every tap that lies
// inside the input. `image` and `filter` begin at the first channel; `weight_of` and `input_of` make elements numbers.
template <class X, class W, class Sum, class WeightOf, class InputOf>
inline void add_taps(const Window& g, const Tensor& x, const X* image, const Tensor& w, const W* filter, int64_t od,
                     int64_t oh, Sum* sums, WeightOf weight_of, InputOf input_of) {
  int64_t tap[kWindowAxes] = {0, 0, 0};
  for (int i = 0; i < g.rank; ++i) tap[kWindowAxes - g.rank + i] = w.strides[2 + i];
  const int64_t channels = w.dims[1], step = g.stride[2] * g.x[2];
  for (int64_t kd = 0; kd < g.kernel[0]; ++kd) {
    const int64_t id = od * g.stride[0] + kd * g.dilation[0] - g.pad[0];
    if (id < 0 || id >= g.in[0]) continue;
    for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
      const int64_t ih = oh * g.stride[1] + kh * g.dilation[1] - g.pad[1];
      if (ih < 0 || ih >= g.in[1]) continue;
      for (int64_t kw = 0; kw < g.kernel[2]; ++kw) {
        int64_t first, last;
        g.inside(2, kw, &first, &last);
        const int64_t shift = kw * g.dilation[2] - g.pad[2];
        for (int64_t c = 0; c < channels; ++c) {
          const Sum weight = weight_of(filter[c * w.strides[1] + kd * tap[0] + kh * tap[1] + kw * tap[2]]);
          const X* row = image + c * x.strides[1] + id * g.x[0] + ih * g.x[1] + shift * g.x[2];
          if (step == 1) {
            for (int64_t ow = first; ow < last; ++ow) sums[ow] += weight * input_of(row[ow]);
          } else {
            for (int64_t ow = first; ow < last; ++ow) sums[ow] += weight * input_of(row[ow * step]);
          }
        }
      }
    }
  }
}

}  // namespace graphopt
