// Convolution in its plain form: any number of axes up to three, any groups, strides, dilations, pads, layouts and weights,
// every float type (float16 and bfloat16 are summed in float).
//
// Loops: (image, filter) in parallel, then output rows, then channels and taps; the innermost loop runs along an output row
// whose sums stand in scratch, so it vectorizes where the input's rows are contiguous.
#include "ops/conv_end.h"
#include "ops/float_types.h"
#include "ops/registry.h"
#include "ops/window.h"

namespace graphopt {
namespace {

// ints: filters, groups, auto_pad, window, end; in: x, w, bias?, residual?
struct ConvParams {
  Window window;
  ConvEnd end;
  int64_t batch, filters, channels, per_group;  // channels and filters of one group
};

template <class T> void finish_row(const ConvParams& p, const Tensor* residual, int64_t n, int64_t f, int64_t od, int64_t oh,
                                   const Compute<T>* sums, const Tensor& y) {
  const Window& g = p.window;
  T* to = y.as<T>() + n * y.strides[0] + f * y.strides[1] + od * g.y[0] + oh * g.y[1];
  const T* added = nullptr;
  int64_t added_step = 0;
  if (residual != nullptr) {
    const int r = residual->rank;
    added_step = residual->strides[r - 1];
    added = residual->as<T>() + n * residual->strides[0] + f * residual->strides[1];
    if (g.rank > 1) added += oh * residual->strides[r - 2];
    if (g.rank > 2) added += od * residual->strides[r - 3];
  }
  for (int64_t ow = 0; ow < g.out[2]; ++ow) {
    Compute<T> v = sums[ow];
    const Compute<T> other = added != nullptr ? value_of(added[ow * added_step]) : Compute<T>(0);
    v = p.end.residual_last ? activate(p.end, v) + other : activate(p.end, v + other);
    to[ow * g.y[2]] = element_of<T>(v);
  }
}

template <class T> void run_conv(const Instr& instr, Worker& worker) {
  const ConvParams& p = instr.as<ConvParams>();
  const Window& g = p.window;
  const Tensor &x = *instr.in[0], &w = *instr.in[1], &y = *instr.out[0];
  const Tensor *bias = instr.in[2], *residual = instr.in[3];
  const auto to_number = [](T v) { return value_of(v); };
  worker.parallel(p.batch * p.filters, 1, [&](int64_t begin, int64_t end, Worker& me) {
    auto* sums = reinterpret_cast<Compute<T>*>(me.scratch);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t n = item / p.filters, f = item % p.filters;
      const T* image = x.as<T>() + n * x.strides[0] + (f / p.per_group) * p.channels * x.strides[1];
      const T* filter = w.as<T>() + f * w.strides[0];
      const Compute<T> start = bias != nullptr ? value_of(bias->as<T>()[f * bias->strides[0]]) : Compute<T>(0);
      for (int64_t od = 0; od < g.out[0]; ++od)
        for (int64_t oh = 0; oh < g.out[1]; ++oh) {
          for (int64_t ow = 0; ow < g.out[2]; ++ow) sums[ow] = start;
          add_taps(g, x, image, w, filter, od, oh, sums, to_number, to_number);
          finish_row<T>(p, residual, n, f, od, oh, sums, y);
        }
    }
  });
}

// The window, its kernel taken from the weights where the integers leave it open (0).
Window read_weighted_window(Bind& b) {
  const Tensor &x = *b.in[0], &w = *b.in[1];
  const int r = x.rank - 2;
  if (r < 1 || r > kWindowAxes || w.rank != x.rank)
    b.host->fail("conv of a tensor of rank %d with weights of rank %d: ranks 3 to 5 are supported", x.rank, w.rank);
  if (b.n_ints < 3 + window_ints(r)) b.host->fail("conv of %d axes needs %d integers", r, 3 + window_ints(r));
  int64_t ints[window_ints(kWindowAxes)];
  for (int i = 0; i < window_ints(r); ++i) ints[i] = b.ints[3 + i];
  for (int i = 0; i < r; ++i) ints[i] = w.dims[2 + i];
  return read_window(b, x, ints, static_cast<AutoPad>(b.ints[2]));
}

Run prepare_conv(Bind& b) {
  const Tensor &x = *b.in[0], &w = *b.in[1];
  auto& p = b.make<ConvParams>();
  p.window = read_weighted_window(b);
  p.end = read_conv_end(b, 3 + window_ints(p.window.rank));
  const int64_t groups = b.ints[1];
  p.batch = x.dims[0];
  p.filters = w.dims[0];
  p.channels = w.dims[1];
  if (groups < 1 || x.dims[1] != p.channels * groups || p.filters % groups != 0)
    b.host->fail("conv of %lld channels in %lld groups does not fit weights of %lld filters of %lld channels",
                 static_cast<long long>(x.dims[1]), static_cast<long long>(groups), static_cast<long long>(p.filters),
                 static_cast<long long>(p.channels));
  p.per_group = p.filters / groups > 0 ? p.filters / groups : 1;
  if (b.has(2) && b.in[2]->dims[0] != p.filters)
    b.host->fail("conv has %lld filters but a bias of %lld", static_cast<long long>(p.filters),
                 static_cast<long long>(b.in[2]->dims[0]));
  take_output(b, p.window, x, p.filters, false, *b.out[0]);
  const Run run = GRAPHOPT_FOR_FLOATS(x.dtype, run_conv);
  if (run == nullptr) b.host->fail("conv does not take element type %d", static_cast<int>(x.dtype));
  b.need_scratch(p.window.out[2] * 8);
  return run;
}

void shape_conv(Bind& b) {
  const Window w = read_weighted_window(b);
  set_window_dims(w, *b.in[0], b.in[1]->dims[0], false, *b.out[0]);
}

const RegisterKernel conv{"conv", prepare_conv, shape_conv};

}  // namespace
}  // namespace graphopt
