// What pooling kernels derive from shapes.
#pragma once
#include "ops/window.h"

namespace graphopt {

enum class Pooling : int64_t { kMax = 0, kAverage = 1, kLp = 2 };

struct PoolParams {
  Window window;
  Pooling kind;
  bool has_indices;
  bool counts_padding, columns_first;  // of average; of indices
  double p;
  int64_t batch, channels;
  int64_t x_batch, x_channel, y_batch, y_channel;
  int64_t channel_blocks;  // units of work of one output row, where rows are few

  // How many taps of a window count in its average.
  int64_t divisor(const int64_t at[kWindowAxes]) const {
    int64_t count = 1;
    for (int a = 0; a < kWindowAxes; ++a) {
      int64_t taps = 0;
      const int64_t first = at[a] * window.stride[a] - window.pad[a], end = window.in[a] + (counts_padding ? window.pad_end[a] : 0);
      for (int64_t k = 0; k < window.kernel[a]; ++k) {
        const int64_t i = first + k * window.dilation[a];
        taps += (counts_padding || i >= 0) && i < end;
      }
      count *= taps;
    }
    return count;
  }

  // Calls f(offset in x, flat index of the spatial position) for the taps of a window inside the image.
  template <class F> void for_taps(const int64_t at[kWindowAxes], const F& f) const {
    const Window& g = window;
    for (int64_t kd = 0; kd < g.kernel[0]; ++kd) {
      const int64_t id = at[0] * g.stride[0] + kd * g.dilation[0] - g.pad[0];
      if (id < 0 || id >= g.in[0]) continue;
      for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
        const int64_t ih = at[1] * g.stride[1] + kh * g.dilation[1] - g.pad[1];
        if (ih < 0 || ih >= g.in[1]) continue;
        for (int64_t kw = 0; kw < g.kernel[2]; ++kw) {
          const int64_t iw = at[2] * g.stride[2] + kw * g.dilation[2] - g.pad[2];
          if (iw < 0 || iw >= g.in[2]) continue;
          f(id * g.x[0] + ih * g.x[1] + iw * g.x[2], index_of(id, ih, iw));
        }
      }
    }
  }

  int64_t index_of(int64_t d, int64_t h, int64_t w) const {
    if (!columns_first) return (d * window.in[1] + h) * window.in[2] + w;
    // The first spatial axis runs fastest; axes that the window lacks have size 1.
    return d + window.in[0] * (h + window.in[1] * w);
  }
};

// float32 with channels innermost in both tensors and without indices.
void run_pool_channels(const Instr& instr, Worker& worker);
// The maximum of bytes, likewise.
template <class T>
void run_max_bytes(const Instr& instr, Worker& worker);

}  // namespace graphopt
