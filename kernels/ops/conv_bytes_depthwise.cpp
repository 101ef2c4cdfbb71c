// `conv.bytes.depthwise`: each channel of 8-bit images with a filter of its own, channels-last; sums are exact.
//
// Operands, ints and results as `conv.bytes`, but weights are s32 [taps, channels]. Loops: rows of the result in parallel,
// positions by twos, vectors of channels, taps. Taps outside the image read a line of zero points.
#include "ops/conv_bytes.h"
#include "ops/registry.h"
#include "ops/window.h"

namespace graphopt {
namespace {

constexpr int64_t kMostTaps = 512;

struct Plan {
  Window window;
  ByteResult result;
  int64_t batch, channels, x_batch, y_batch, y_channel, grain;
  uint8_t padding;
};

template <class X>
struct Taps {
  const X* at[kMostTaps];
};

template <class X>
void find_taps(const Plan& p, const X* image, const X* padding, int64_t od, int64_t oh, int64_t ow, Taps<X>& taps) {
  const Window& g = p.window;
  const X** to = taps.at;
  for (int64_t kd = 0; kd < g.kernel[0]; ++kd)
    for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
      const int64_t id = od * g.stride[0] + kd * g.dilation[0] - g.pad[0], ih = oh * g.stride[1] + kh * g.dilation[1] - g.pad[1];
      const bool inside = id >= 0 && id < g.in[0] && ih >= 0 && ih < g.in[1];
      for (int64_t kw = 0; kw < g.kernel[2]; ++kw) {
        const int64_t iw = ow * g.stride[2] + kw * g.dilation[2] - g.pad[2];
        *to++ = inside && iw >= 0 && iw < g.in[2] ? image + id * g.x[0] + ih * g.x[1] + iw * g.x[2] : padding;
      }
    }
}

template <int positions, class X>
GRAPHOPT_INLINE void add_taps(const Plan& p, const Instr& instr, const Taps<X>* taps, int64_t c, int count, char* y) {
  const int64_t all = p.window.taps();
  const int32_t* weights = instr.in[1]->as<int32_t>() + c;
  alignas(64) int32_t start[kLanes] = {};
  alignas(64) float scale[kLanes] = {};
  const int32_t* starts = instr.in[2]->as<int32_t>() + c;
  const float* scales = instr.in[3] == nullptr ? scale : instr.in[3]->as<float>() + c;
  if (count < kLanes) {
    std::memcpy(start, starts, static_cast<size_t>(count) * 4);
    starts = start;
    if (instr.in[3] != nullptr) std::memcpy(scale, scales, static_cast<size_t>(count) * 4);
    scales = scale;
  }
  vi acc[positions];
#pragma GCC unroll 4
  for (int i = 0; i < positions; ++i) acc[i] = load_bits(starts);
  for (int64_t t = 0; t < all; ++t) {
    const vi w = count == kLanes ? load_bits(weights + t * p.channels)
                                 : (vi)load_first(reinterpret_cast<const float*>(weights + t * p.channels), count);
#pragma GCC unroll 4
    for (int i = 0; i < positions; ++i) acc[i] += w * wide_bytes(taps[i].at[t] + c, count);
  }
  const int64_t size = p.result.size();
#pragma GCC unroll 4
  for (int i = 0; i < positions; ++i) {
    char* to = y + (i * p.window.y[2] + c * p.y_channel) * size;
    if (p.y_channel == 1) {
      put_results(p.result, acc[i], scales, to, count);
      continue;
    }
    char results[kLanes * 4];
    put_results(p.result, acc[i], scales, results, count);
    for (int j = 0; j < count; ++j) std::memcpy(to + j * p.y_channel * size, results + j * size, static_cast<size_t>(size));
  }
}

template <int positions, class X>
void run_positions(const Plan& p, const Instr& instr, const Taps<X>* taps, char* y) {
  int64_t c = 0;
  for (; c + kLanes <= p.channels; c += kLanes) add_taps<positions>(p, instr, taps, c, kLanes, y);
  if (c < p.channels) add_taps<positions>(p, instr, taps, c, static_cast<int>(p.channels - c), y);
}

template <class X>
void run(const Instr& instr, Worker& worker) {
  const auto& p = instr.as<Plan>();
  const Window& g = p.window;
  worker.parallel(p.batch * g.out[0] * g.out[1], p.grain, [&](int64_t begin, int64_t end, Worker& me) {
    std::memset(me.scratch, p.padding, static_cast<size_t>(p.channels));
    const X* padding = reinterpret_cast<const X*>(me.scratch);
    Taps<X> taps[2];
    for (int64_t row = begin; row < end; ++row) {
      const int64_t oh = row % g.out[1], od = row / g.out[1] % g.out[0], n = row / g.out[1] / g.out[0];
      const X* image = instr.in[0]->as<X>() + n * p.x_batch;
      char* y = instr.out[0]->data + (n * p.y_batch + od * g.y[0] + oh * g.y[1]) * p.result.size();
      int64_t ow = 0;
      for (; ow + 2 <= g.out[2]; ow += 2) {
        find_taps(p, image, padding, od, oh, ow, taps[0]);
        find_taps(p, image, padding, od, oh, ow + 1, taps[1]);
        run_positions<2>(p, instr, taps, y + ow * g.y[2] * p.result.size());
      }
      if (ow < g.out[2]) {
        find_taps(p, image, padding, od, oh, ow, taps[0]);
        run_positions<1>(p, instr, taps, y + ow * g.y[2] * p.result.size());
      }
    }
  });
}

Window read_byte_window(Bind& b) {
  const int r = b.in[0]->rank - 2;
  if (r >= 1 && r <= kWindowAxes && b.n_ints != 3 + window_ints(r) + 2)
    b.host->fail("conv.bytes.depthwise of %d axes needs %d integers", r, 5 + window_ints(r));
  return read_window(b, *b.in[0], b.ints + 3, static_cast<AutoPad>(b.ints[2]));
}

bool is_channels_last(const Tensor& t) {
  int64_t step = t.dims[1];
  bool found = t.dims[1] == 1 || t.strides[1] == 1;
  for (int i = t.rank - 1; i >= 1; --i) {
    const int axis = i == 1 ? 0 : i;
    found &= t.dims[axis] == 1 || t.strides[axis] == step;
    step *= t.dims[axis];
  }
  return found || step == 0;
}

Run prepare(Bind& b) {
  if (b.n_in != 4) b.host->fail("conv.bytes.depthwise takes 4 operands, not %d", b.n_in);
  const Tensor &x = *b.in[0], &y = *b.out[0];
  auto& p = b.make<Plan>();
  p.window = read_byte_window(b);
  p.batch = x.dims[0], p.channels = x.dims[1];
  const int ends = 3 + window_ints(p.window.rank);
  if (x.dtype != DType::kUint8 && x.dtype != DType::kInt8) b.host->fail("conv.bytes.depthwise of element type %d", static_cast<int>(x.dtype));
  if (y.dtype != DType::kUint8 && y.dtype != DType::kInt8 && y.dtype != DType::kInt32 && y.dtype != DType::kFloat)
    b.host->fail("conv.bytes.depthwise in element type %d", static_cast<int>(y.dtype));
  if (b.ints[0] != p.channels || b.ints[1] != p.channels || p.window.taps() > kMostTaps || b.in[1]->dtype != DType::kInt32 ||
      b.in[1]->count() != p.channels * p.window.taps() || !b.in[1]->is_dense())
    b.host->fail("conv.bytes.depthwise: %lld weights for %lld channels with %lld taps", static_cast<long long>(b.in[1]->count()),
                 static_cast<long long>(p.channels), static_cast<long long>(p.window.taps()));
  for (int i = 2; i < 4; ++i)
    if ((i == 2 || y.dtype != DType::kInt32 || b.has(3)) && (!b.has(i) || b.in[i]->count() != p.channels || !b.in[i]->is_dense()))
      b.host->fail("conv.bytes.depthwise of %lld channels takes as many starts and scales", static_cast<long long>(p.channels));
  take_output(b, p.window, x, p.channels, false, y);
  if (!is_channels_last(x)) b.host->fail("conv.bytes.depthwise: channels are not innermost");
  p.window.x[2] = p.channels;
  for (int i = kWindowAxes - 2; i >= 0; --i) p.window.x[i] = p.window.x[i + 1] * p.window.in[i + 1];
  p.x_batch = p.window.x[0] * p.window.in[0];
  p.y_batch = y.strides[0], p.y_channel = p.channels == 1 ? 1 : y.strides[1];
  p.padding = static_cast<uint8_t>(b.ints[ends]);
  p.result = byte_result(y.dtype, b.ints[ends + 1]);
  const int64_t work = p.window.out[2] * p.channels * p.window.taps();
  p.grain = work > 0 ? ceil_div(100000, work) : 1;
  b.need_scratch(p.channels + 64);
  return x.dtype == DType::kInt8 ? run<int8_t> : run<uint8_t>;
}

void shape(Bind& b) { set_window_dims(read_byte_window(b), *b.in[0], b.ints[0], false, *b.out[0]); }

const RegisterKernel depthwise{"conv.bytes.depthwise", prepare, shape};

}  // namespace
}  // namespace graphopt
