// Depthwise convolution of float32, channels-last: one filter a channel.
//
// Loops: output rows in parallel, tiles of up to 8 positions, channels, tap rows. For 3, 5 and 7 taps with stride 1 or 2 a
// tile loads each input once a tap row and keeps it in registers, zeros where the window crosses the border; elsewhere
// each tap is loaded, and positions at the border are done one by one. Nothing is copied.
// 60-105 GF from L2 (Zen 4, peak 115); images beyond it are bound by memory.
#include "ops/conv_depthwise.h"

#include "ops/conv_end.h"
#include "ops/conv_tile.h"
#include "ops/registry.h"
#include "ops/window.h"

namespace graphopt {
namespace {

// ints: channels, groups, auto_pad, window, end; in: x, packed weights, bias?, residual?
struct DepthwiseParams {
  Window window;
  ConvEnd end;
  ActivationPass pass;
  int64_t batch, channels, padded;
  int64_t x_batch, x_channel, y_batch, y_channel;
  int64_t residual_batch, residual_channel, residual[kWindowAxes];
  int64_t first_inside, last_inside;  // columns whose whole window is inside
  const DepthwiseTiles* tiles;  // null: taps, stride or dilation that have none
};

const DepthwiseTiles* tiles_of(const Window& g) {
  const int64_t taps = g.kernel[2], stride = g.stride[2];
  if (g.dilation[2] != 1) return nullptr;
  if (stride == 1) return taps == 3 ? &kDepthwiseTiles<3, 1> : taps == 5 ? &kDepthwiseTiles<5, 1> : taps == 7 ? &kDepthwiseTiles<7, 1> : nullptr;
  if (stride == 2) return taps == 3 ? &kDepthwiseTiles<3, 2> : taps == 5 ? &kDepthwiseTiles<5, 2> : nullptr;
  return nullptr;
}

// An activation that is no bound, over finished positions.
void activate_positions(const DepthwiseParams& p, float* y, int64_t step, int positions) {
  const int64_t whole = p.channels / kLanes * kLanes;
  const auto a = static_cast<float>(p.end.p), b = static_cast<float>(p.end.q);
  if (whole > 0) p.pass({y, step, y, step, positions, static_cast<int>(whole)}, a, b);
  if (whole == p.channels) return;
  for (int i = 0; i < positions; ++i) {
    const int rest = static_cast<int>(p.channels - whole);
    alignas(64) float buffer[kLanes];
    store(buffer, load_first(y + i * step + whole, rest));
    p.pass({buffer, kLanes, buffer, kLanes, 1, kLanes}, a, b);
    store_first(y + i * step + whole, load(buffer), rest);
  }
}

struct DepthwiseRow {
  const DepthwiseParams& p;
  DepthwiseTile tile;
  const float* lines[kMostTapRows];  // column 0 of each tap row's line
  const float* weights[kMostTapRows];
  float* y;
  const float* residual;

  void run(DepthwiseRun function, int64_t ow, int positions, int64_t first_tap, int64_t taps) {
    const Window& g = p.window;
    const int64_t at = ow * g.stride[2] - g.pad[2] + first_tap * g.dilation[2];
    for (int64_t r = 0; r < tile.tap_rows; ++r) {
      tile.lines[r] = lines[r] + at * g.x[2];
      tile.weights[r] = weights[r] + first_tap * p.padded;
    }
    tile.y = y + ow * g.y[2];
    const float* added = residual == nullptr ? nullptr : residual + ow * p.residual[2];
    const bool after = p.pass != nullptr && p.end.residual_last;
    tile.residual = after ? nullptr : added;
    function(tile, taps);
    if (p.pass == nullptr) return;
    activate_positions(p, tile.y, g.y[2], positions);
    if (!after || added == nullptr) return;
    for (int i = 0; i < positions; ++i)
      for (int64_t c = 0; c < p.channels; ++c) tile.y[i * g.y[2] + c] += added[i * p.residual[2] + c];
  }

  // A position whose window crosses the border.
  void single(int64_t ow) {
    const Window& g = p.window;
    const int64_t first = ow * g.stride[2] - g.pad[2];
    const int64_t low = first < 0 ? ceil_div(-first, g.dilation[2]) : 0;
    int64_t high = g.in[2] - first > 0 ? ceil_div(g.in[2] - first, g.dilation[2]) : 0;
    high = high < g.kernel[2] ? high : g.kernel[2];
    run(depthwise_any<1>, ow, 1, low < high ? low : 0, low < high ? high - low : 0);
  }

  // The whole row in tiles of even size.
  void run_tiles() {
    const Window& g = p.window;
    int64_t tiles = ceil_div(g.out[2], kMostPositions);
    for (int64_t ow = 0; tiles > 0; --tiles) {
      const int64_t positions = ceil_div(g.out[2] - ow, tiles), first = ow * g.stride[2] - g.pad[2];
      tile.first = first < 0 ? -first : 0;
      tile.last = g.in[2] - first;
      run(p.tiles->of[positions - 1], ow, static_cast<int>(positions), 0, g.kernel[2]);
      ow += positions;
    }
  }
};

void run_row(const Instr& instr, const DepthwiseParams& p, int64_t n, int64_t od, int64_t oh, const float* bias) {
  const Window& g = p.window;
  DepthwiseRow row{p, {}, {}, {}, instr.out[0]->as<float>() + n * p.y_batch + od * g.y[0] + oh * g.y[1], nullptr};
  if (instr.in[3] != nullptr)
    row.residual = instr.in[3]->as<float>() + n * p.residual_batch + od * p.residual[0] + oh * p.residual[1];
  DepthwiseTile& t = row.tile;
  t.channels = p.channels, t.padded = p.padded;
  t.column = g.x[2] * g.dilation[2], t.step = g.x[2] * g.stride[2];
  t.bias = bias;
  t.y_step = g.y[2], t.residual_step = p.residual[2];
  t.residual_last = p.end.residual_last;
  t.low = static_cast<float>(p.end.low()), t.high = static_cast<float>(p.end.high());
  const float* x = instr.in[0]->as<float>() + n * p.x_batch;
  const float* w = instr.in[1]->as<float>();
  for (int64_t kd = 0; kd < g.kernel[0]; ++kd) {
    const int64_t id = od * g.stride[0] + kd * g.dilation[0] - g.pad[0];
    if (id < 0 || id >= g.in[0]) continue;
    for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
      const int64_t ih = oh * g.stride[1] + kh * g.dilation[1] - g.pad[1];
      if (ih < 0 || ih >= g.in[1]) continue;
      row.lines[t.tap_rows] = x + id * g.x[0] + ih * g.x[1];
      row.weights[t.tap_rows++] = w + (kd * g.kernel[1] + kh) * g.kernel[2] * p.padded;
    }
  }
  if (p.tiles != nullptr) return row.run_tiles();
  int64_t ow = 0;
  for (; ow < p.first_inside; ++ow) row.single(ow);
  for (; ow + 4 <= p.last_inside; ow += 4) row.run(depthwise_any<4>, ow, 4, 0, g.kernel[2]);
  for (; ow < g.out[2]; ++ow) row.single(ow);
}

void run_depthwise(const Instr& instr, Worker& worker) {
  const DepthwiseParams& p = instr.as<DepthwiseParams>();
  const Window& g = p.window;
  worker.parallel(p.batch * g.out[0] * g.out[1], 1, [&](int64_t begin, int64_t end, Worker& me) {
    auto* bias = reinterpret_cast<float*>(me.scratch);
    for (int64_t c = 0; c < p.padded; ++c)
      bias[c] = instr.in[2] != nullptr && c < p.channels ? instr.in[2]->as<float>()[c * instr.in[2]->strides[0]] : 0.0f;
    for (int64_t i = begin; i < end; ++i)
      run_row(instr, p, i / g.out[1] / g.out[0], i / g.out[1] % g.out[0], i % g.out[1], bias);
  });
}

// Other layouts, and windows of very many rows.
void run_plain(const Instr& instr, Worker& worker) {
  const DepthwiseParams& p = instr.as<DepthwiseParams>();
  const Window& g = p.window;
  const float* w = instr.in[1]->as<float>();
  worker.parallel(p.batch * p.channels, 1, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / p.channels, c = i % p.channels;
      const float* x = instr.in[0]->as<float>() + n * p.x_batch + c * p.x_channel;
      float* y = instr.out[0]->as<float>() + n * p.y_batch + c * p.y_channel;
      const float* added = instr.in[3] == nullptr ? nullptr : instr.in[3]->as<float>() + n * p.residual_batch + c * p.residual_channel;
      const float bias = instr.in[2] == nullptr ? 0.0f : instr.in[2]->as<float>()[c * instr.in[2]->strides[0]];
      for (int64_t o = 0; o < g.out_size(); ++o) {
        const int64_t ow = o % g.out[2], oh = o / g.out[2] % g.out[1], od = o / g.out[2] / g.out[1];
        float sum = bias;
        for (int64_t t = 0; t < g.taps(); ++t) {
          const int64_t kw = t % g.kernel[2], kh = t / g.kernel[2] % g.kernel[1], kd = t / g.kernel[2] / g.kernel[1];
          const int64_t iw = ow * g.stride[2] + kw * g.dilation[2] - g.pad[2];
          const int64_t ih = oh * g.stride[1] + kh * g.dilation[1] - g.pad[1];
          const int64_t id = od * g.stride[0] + kd * g.dilation[0] - g.pad[0];
          if (iw < 0 || iw >= g.in[2] || ih < 0 || ih >= g.in[1] || id < 0 || id >= g.in[0]) continue;
          sum += w[t * p.padded + c] * x[id * g.x[0] + ih * g.x[1] + iw * g.x[2]];
        }
        const float other = added == nullptr ? 0.0f : added[od * p.residual[0] + oh * p.residual[1] + ow * p.residual[2]];
        sum = p.end.residual_last ? activate(p.end, sum) + other : activate(p.end, sum + other);
        y[od * g.y[0] + oh * g.y[1] + ow * g.y[2]] = sum;
      }
    }
  });
}

void take_residual(Bind& b, DepthwiseParams& p) {
  const Tensor &r = *b.in[3], &y = *b.out[0];
  for (int i = 0; i < y.rank; ++i)
    if (r.rank != y.rank || r.dims[i] != y.dims[i]) b.host->fail("the residual of conv.depthwise has other dims than its output");
  p.residual_batch = r.strides[0], p.residual_channel = r.dims[1] > 1 ? r.strides[1] : 1;
  for (int i = 0; i < p.window.rank; ++i) p.residual[kWindowAxes - p.window.rank + i] = r.strides[2 + i];
}

Run prepare_depthwise(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  auto& p = b.make<DepthwiseParams>();
  p.window = read_conv_window(b, "conv.depthwise");
  const Window& g = p.window;
  p.end = read_conv_end(b, 3 + window_ints(g.rank));
  p.pass = p.end.is_bounds() ? nullptr : activation_pass(p.end.kind);
  p.channels = x.dims[1], p.padded = conv_padded(p.channels);
  if (x.dtype != DType::kFloat) b.host->fail("conv.depthwise takes float32, not element type %d", static_cast<int>(x.dtype));
  if (b.ints[0] != p.channels || b.ints[1] != p.channels || b.in[1]->count() != g.taps() * p.padded * 4)
    b.host->fail("conv.depthwise: %lld channels do not fit weights of %lld bytes for %lld filters", static_cast<long long>(p.channels),
                 static_cast<long long>(b.in[1]->count()), static_cast<long long>(b.ints[0]));
  if (b.has(2) && b.in[2]->dims[0] != p.channels)
    b.host->fail("conv has %lld filters but a bias of %lld", static_cast<long long>(p.channels), static_cast<long long>(b.in[2]->dims[0]));
  take_output(b, p.window, x, p.channels, false, y);
  p.batch = x.dims[0];
  p.x_batch = x.strides[0], p.x_channel = p.channels > 1 ? x.strides[1] : 1;
  p.y_batch = y.strides[0], p.y_channel = p.channels > 1 ? y.strides[1] : 1;
  p.residual_channel = 1;
  if (b.has(3)) take_residual(b, p);
  p.first_inside = 0, p.last_inside = g.out[2];
  for (int64_t k = 0; k < g.kernel[2]; k += g.kernel[2] > 1 ? g.kernel[2] - 1 : 1) {
    int64_t first, last;
    g.inside(2, k, &first, &last);
    p.first_inside = first > p.first_inside ? first : p.first_inside;
    p.last_inside = last < p.last_inside ? last : p.last_inside;
  }
  p.first_inside = p.first_inside < g.out[2] ? p.first_inside : g.out[2];
  p.last_inside = p.last_inside > p.first_inside ? p.last_inside : p.first_inside;
  p.tiles = tiles_of(g);
  b.need_scratch(p.padded * 4);
  const bool last = p.x_channel == 1 && p.y_channel == 1 && p.residual_channel == 1;
  return last && g.kernel[0] * g.kernel[1] <= kMostTapRows ? run_depthwise : run_plain;
}

void shape_depthwise(Bind& b) {
  const Window w = read_conv_window(b, "conv.depthwise");
  set_window_dims(w, *b.in[0], b.in[0]->dims[1], false, *b.out[0]);
}

const RegisterKernel depthwise{"conv.depthwise", prepare_depthwise, shape_depthwise};

}  // namespace
}  // namespace graphopt
