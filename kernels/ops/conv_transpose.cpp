// Transposed convolution in its plain form: any axes up to three, groups, strides, dilations, layouts, float types.
//
// Loops: (image, filter) in parallel, output positions, taps that reach the position, channels.
#include "ops/conv_transpose.h"

#include "ops/conv_end.h"
#include "ops/float_types.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// in: x, w (channels, filters of a group, kernel...), bias?; integers: conv_transpose.h
struct TransposeParams {
  Window window;
  ConvEnd end;
  int64_t batch, filters, channels, per_group;
};

// The input that tap k of output o reads; false where it reads none.
inline bool reads(const Window& g, int axis, int64_t o, int64_t k, int64_t* i) {
  const int64_t at = o + g.pad[axis] - k * g.dilation[axis];
  if (at < 0 || at % g.stride[axis] != 0) return false;
  *i = at / g.stride[axis];
  return *i < g.in[axis];
}

template <class T> void run_transpose(const Instr& instr, Worker& worker) {
  const TransposeParams& p = instr.as<TransposeParams>();
  const Window& g = p.window;
  const Tensor &x = *instr.in[0], &w = *instr.in[1], &y = *instr.out[0];
  const Tensor* bias = instr.in[2];
  int64_t tap[kWindowAxes] = {0, 0, 0};
  for (int i = 0; i < g.rank; ++i) tap[kWindowAxes - g.rank + i] = w.strides[2 + i];
  worker.parallel(p.batch * p.filters, 1, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t n = item / p.filters, f = item % p.filters, group = f / p.per_group;
      const T* image = x.as<T>() + n * x.strides[0] + group * p.channels * x.strides[1];
      const T* filter = w.as<T>() + group * p.channels * w.strides[0] + f % p.per_group * w.strides[1];
      T* to = y.as<T>() + n * y.strides[0] + f * y.strides[1];
      const Compute<T> start = bias != nullptr ? value_of(bias->as<T>()[f * bias->strides[0]]) : Compute<T>(0);
      for (int64_t o = 0; o < g.out_size(); ++o) {
        const int64_t ow = o % g.out[2], oh = o / g.out[2] % g.out[1], od = o / g.out[2] / g.out[1];
        Compute<T> sum = start;
        int64_t id, ih, iw;
        for (int64_t kd = 0; kd < g.kernel[0]; ++kd) {
          if (!reads(g, 0, od, kd, &id)) continue;
          for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
            if (!reads(g, 1, oh, kh, &ih)) continue;
            for (int64_t kw = 0; kw < g.kernel[2]; ++kw) {
              if (!reads(g, 2, ow, kw, &iw)) continue;
              const T* from = image + id * g.x[0] + ih * g.x[1] + iw * g.x[2];
              const T* weight = filter + kd * tap[0] + kh * tap[1] + kw * tap[2];
              for (int64_t c = 0; c < p.channels; ++c)
                sum += value_of(from[c * x.strides[1]]) * value_of(weight[c * w.strides[0]]);
            }
          }
        }
        to[od * g.y[0] + oh * g.y[1] + ow * g.y[2]] = element_of<T>(activate(p.end, sum));
      }
    }
  });
}

Run prepare_transpose(Bind& b) {
  const Tensor &x = *b.in[0], &w = *b.in[1];
  auto& p = b.make<TransposeParams>();
  p.window = read_transpose(b);
  p.end = read_conv_end(b, transpose_ints(p.window.rank));
  const int64_t groups = b.ints[1];
  p.batch = x.dims[0], p.filters = b.ints[0];
  if (w.rank != x.rank || groups < 1 || x.dims[1] != w.dims[0] || w.dims[0] % groups != 0 || w.dims[1] * groups != p.filters)
    b.host->fail("transposed convolution of %lld channels in %lld groups does not fit weights of %lld channels and %lld filters",
                 static_cast<long long>(x.dims[1]), static_cast<long long>(groups), static_cast<long long>(w.dims[0]),
                 static_cast<long long>(w.dims[1]));
  for (int i = 0; i < p.window.rank; ++i)
    if (w.dims[2 + i] != p.window.kernel[kWindowAxes - p.window.rank + i])
      b.host->fail("transposed convolution: kernel axis %d has %lld taps, not %lld", i, static_cast<long long>(w.dims[2 + i]),
                   static_cast<long long>(p.window.kernel[kWindowAxes - p.window.rank + i]));
  p.channels = w.dims[0] / groups, p.per_group = w.dims[1] > 0 ? w.dims[1] : 1;
  take_transpose_output(b, p.window);
  const Run run = GRAPHOPT_FOR_FLOATS(x.dtype, run_transpose);
  if (run == nullptr) b.host->fail("transposed convolution does not take element type %d", static_cast<int>(x.dtype));
  return run;
}

void shape_transpose(Bind& b) { set_transpose_dims(b, read_transpose(b), *b.out[0]); }

const RegisterKernel transpose{"conv.transpose", prepare_transpose, shape_transpose};

}  // namespace
}  // namespace graphopt
