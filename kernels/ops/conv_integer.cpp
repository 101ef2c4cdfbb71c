// Convolution of 8-bit integers: exact sums, with or without requantization. Plain form, any axes up to three.
//
// Loops: (image, filter) in parallel, output rows, channels and taps; along the row sums stand in scratch.
// Requantization: to nearest even of float(sum) * (x_scale * w_scale / y_scale), then the zero point, then the bounds.
#include <cmath>

#include "ops/registry.h"
#include "ops/window.h"

namespace graphopt {
namespace {

// ints: filters, groups, auto_pad, window
// conv.integer: in x, w, x_zero?, w_zero?; out int32
// conv.quantized: in x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias?; out 8 bits
struct IntegerParams {
  Window window;
  int64_t batch, filters, channels, per_group;
  bool is_quantized;
};

struct Operands {
  const Tensor *x, *w, *x_zero, *w_zero;
};
Operands operands_of(const IntegerParams& p, Tensor* const* in) {
  return p.is_quantized ? Operands{in[0], in[3], in[2], in[5]} : Operands{in[0], in[1], in[2], in[3]};
}

// An element of a vector, or of a scalar for all.
int32_t integer_at(const Tensor* t, int64_t i) {
  if (t == nullptr) return 0;
  const int64_t at = t->count() > 1 ? i * t->strides[t->rank - 1] : 0;
  if (t->dtype == DType::kInt32) return t->as<int32_t>()[at];
  return t->dtype == DType::kInt8 ? t->as<int8_t>()[at] : t->as<uint8_t>()[at];
}
float float_at(const Tensor& t, int64_t i) { return t.as<float>()[t.count() > 1 ? i * t.strides[t.rank - 1] : 0]; }

void requantize(const IntegerParams& p, const Instr& instr, int64_t f, const int32_t* sums, char* to) {
  const Tensor& y = *instr.out[0];
  const int32_t zero = integer_at(instr.in[7], 0), low = y.dtype == DType::kInt8 ? -128 : 0, high = low + 255;
  const float scale = float_at(*instr.in[1], 0) * float_at(*instr.in[4], f) / float_at(*instr.in[6], 0);
  for (int64_t ow = 0; ow < p.window.out[2]; ++ow) {
    float v = static_cast<float>(sums[ow]) * scale;
    v = std::fmin(std::fmax(v, static_cast<float>(low - zero)), static_cast<float>(high - zero));
    to[ow * p.window.y[2]] = static_cast<char>(static_cast<int32_t>(std::nearbyint(v)) + zero);
  }
}

template <class X, class W> void run_integer(const Instr& instr, Worker& worker) {
  const IntegerParams& p = instr.as<IntegerParams>();
  const Window& g = p.window;
  const Tensor& y = *instr.out[0];
  const Operands o = operands_of(p, instr.in);
  const int32_t x_zero = integer_at(o.x_zero, 0);
  const auto input_of = [x_zero](X v) { return v - x_zero; };
  worker.parallel(p.batch * p.filters, 1, [&](int64_t begin, int64_t end, Worker& me) {
    auto* sums = reinterpret_cast<int32_t*>(me.scratch);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t n = item / p.filters, f = item % p.filters;
      const X* image = o.x->as<X>() + n * o.x->strides[0] + (f / p.per_group) * p.channels * o.x->strides[1];
      const W* filter = o.w->as<W>() + f * o.w->strides[0];
      const int32_t w_zero = integer_at(o.w_zero, f);
      const auto weight_of = [w_zero](W v) { return v - w_zero; };
      const int32_t start = p.is_quantized ? integer_at(instr.in[8], f) : 0;
      for (int64_t od = 0; od < g.out[0]; ++od)
        for (int64_t oh = 0; oh < g.out[1]; ++oh) {
          for (int64_t ow = 0; ow < g.out[2]; ++ow) sums[ow] = start;
          add_taps(g, *o.x, image, *o.w, filter, od, oh, sums, weight_of, input_of);
          const int64_t at = n * y.strides[0] + f * y.strides[1] + od * g.y[0] + oh * g.y[1];
          if (p.is_quantized) {
            requantize(p, instr, f, sums, y.data + at);
          } else {
            for (int64_t ow = 0; ow < g.out[2]; ++ow) y.as<int32_t>()[at + ow * g.y[2]] = sums[ow];
          }
        }
    }
  });
}

Run prepare(Bind& b, bool is_quantized) {
  auto& p = b.make<IntegerParams>();
  p.is_quantized = is_quantized;
  p.window = read_conv_window(b, "conv.integer");
  const Operands o = operands_of(p, b.in);
  const int64_t groups = b.ints[1];
  p.batch = o.x->dims[0], p.filters = o.w->dims[0], p.channels = o.w->dims[1];
  if (o.w->rank != o.x->rank || groups < 1 || o.x->dims[1] != p.channels * groups || p.filters % groups != 0)
    b.host->fail("integer convolution of %lld channels in %lld groups does not fit weights of %lld filters of %lld channels",
                 static_cast<long long>(o.x->dims[1]), static_cast<long long>(groups), static_cast<long long>(p.filters),
                 static_cast<long long>(p.channels));
  for (int i = 0; i < p.window.rank; ++i)
    if (o.w->dims[2 + i] != p.window.kernel[kWindowAxes - p.window.rank + i])
      b.host->fail("integer convolution: kernel axis %d has %lld taps", i, static_cast<long long>(o.w->dims[2 + i]));
  p.per_group = p.filters / groups > 0 ? p.filters / groups : 1;
  take_output(b, p.window, *o.x, p.filters, false, *b.out[0]);
  b.need_scratch(p.window.out[2] * 4);
  const bool x_signed = o.x->dtype == DType::kInt8, w_signed = o.w->dtype == DType::kInt8;
  if ((!x_signed && o.x->dtype != DType::kUint8) || (!w_signed && o.w->dtype != DType::kUint8))
    b.host->fail("integer convolution does not take element types %d and %d", static_cast<int>(o.x->dtype), static_cast<int>(o.w->dtype));
  if (x_signed) return w_signed ? run_integer<int8_t, int8_t> : run_integer<int8_t, uint8_t>;
  return w_signed ? run_integer<uint8_t, int8_t> : run_integer<uint8_t, uint8_t>;
}

Run prepare_integer(Bind& b) { return prepare(b, false); }
Run prepare_quantized(Bind& b) { return prepare(b, true); }
void shape_integer(Bind& b) { set_window_dims(read_conv_window(b, "conv.integer"), *b.in[0], b.ints[0], false, *b.out[0]); }

const RegisterKernel integer{"conv.integer", prepare_integer, shape_integer};
const RegisterKernel quantized{"conv.quantized", prepare_quantized, shape_integer};

}  // namespace
}  // namespace graphopt
