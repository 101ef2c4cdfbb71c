// Winograd's convolution F(2x2, 3x3) of float32: stride 1, dilation 1, one group. 16 products where the definition has 36.
//
// Loops: blocks of tiles (parallel). A tile is 4 x 4 pixels, of which 2 x 2 results come. B'dB of each tile for each
// vector of channels; then 16 matrix products, tiles x channels by channels x filters; then A'mA with the end. The block's
// two transforms stay in L2. 190 to 230 GF of the definition's products where conv.direct has 105 (a core of 115, Zen 4).
// Errors are of the size of conv.direct's; an infinity or a NaN reaches all results of the tiles that read it.
#include <algorithm>

#include "ops/conv_end.h"
#include "ops/conv_winograd.h"
#include "ops/registry.h"
#include "ops/window.h"

namespace graphopt {
namespace {

// ints: filters, groups, auto_pad, window, end; in: x, packed weights, bias?, residual?
struct WinogradPlan {
  Window window;
  ConvEnd end;
  ActivationPass pass;
  WinogradWeights weights;
  int64_t batch, channels, filters;
  int64_t x_batch, x_channel, y_batch, y_channel, r_batch, r_channel, residual[2];
  int64_t tile_rows, tile_columns, tiles, block;  // of an image; of all; of a block
  int64_t padded;                                 // channels in whole vectors
  const float* zeros;                             // a pixel outside of the image

  int64_t input_stride() const { return block * padded + 16; }  // not 4 KiB
  int64_t sum_stride() const { return block * weights.filters.padded() + 16; }
};

// Weights beyond this come from beyond L2: more tiles for each time that they are read.
constexpr int64_t kNearWeights = 1 << 20, kScratch = 3 << 20;
constexpr int64_t kShortBlock = 24, kLongBlock = 96;

GRAPHOPT_INLINE vf take(const float* p, int64_t stride, int n) {
  if (stride == 1) return n == kLanes ? load(p) : load_first(p, n);
  vf v{};
  for (int i = 0; i < n; ++i) v[i] = p[i * stride];
  return v;
}

GRAPHOPT_INLINE void put(float* p, int64_t stride, int n, vf v) {
  if (stride == 1 && n == kLanes) return store(p, v);
  if (stride == 1) return store_first(p, v, n);
  for (int i = 0; i < n; ++i) p[i * stride] = v[i];
}

struct TileAt {
  int64_t n, row, column;  // image, first result
};

TileAt tile_at(const WinogradPlan& p, int64_t index) {
  const int64_t image = p.tile_rows * p.tile_columns, rest = index % image;
  return {index / image, rest / p.tile_columns * 2, rest % p.tile_columns * 2};
}

// B'dB of one tile: 16 rows of channels, `stride` floats apart.
void transform_input(const WinogradPlan& p, const float* x, const TileAt& at, float* to, int64_t stride) {
  const Window& g = p.window;
  const float* pixel[4][4];
  int64_t channel[4][4];
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) {
      const int64_t h = at.row + i - g.pad[1], w = at.column + j - g.pad[2];
      const bool inside = h >= 0 && h < g.in[1] && w >= 0 && w < g.in[2];
      pixel[i][j] = inside ? x + at.n * p.x_batch + h * g.x[1] + w * g.x[2] : p.zeros;
      channel[i][j] = inside ? p.x_channel : 1;
    }
  for (int64_t c = 0; c < p.channels; c += kLanes) {
    const int n = static_cast<int>(p.channels - c < kLanes ? p.channels - c : kLanes);
    vf d[4][4], e[4][4];
    if (p.x_channel == 1 && n == kLanes) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) d[i][j] = load(pixel[i][j] + c);
    } else {
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) d[i][j] = take(pixel[i][j] + c * channel[i][j], channel[i][j], n);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      e[0][j] = d[0][j] - d[2][j];
      e[1][j] = d[1][j] + d[2][j];
      e[2][j] = d[2][j] - d[1][j];
      e[3][j] = d[1][j] - d[3][j];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      float* row = to + 4 * i * stride + c;
      store(row, e[i][0] - e[i][2]);
      store(row + stride, e[i][1] + e[i][2]);
      store(row + 2 * stride, e[i][2] - e[i][1]);
      store(row + 3 * stride, e[i][1] - e[i][3]);
    }
  }
}

// A'mA of one tile, with bias, residual and activation.
void transform_output(const WinogradPlan& p, const Instr& instr, const float* sums, int64_t stride, const TileAt& at) {
  const Window& g = p.window;
  const bool second_row = at.row + 1 < g.out[1], second_column = at.column + 1 < g.out[2];
  float* y = instr.out[0]->as<float>() + at.n * p.y_batch + at.row * g.y[1] + at.column * g.y[2];
  const float* residual = instr.in[3] == nullptr ? nullptr
                                                 : instr.in[3]->as<float>() + at.n * p.r_batch + at.row * p.residual[0] + at.column * p.residual[1];
  const float* bias = instr.in[2] == nullptr ? nullptr : instr.in[2]->as<float>();
  const int64_t bias_stride = bias == nullptr ? 0 : instr.in[2]->strides[0];
  const vf low = broadcast(static_cast<float>(p.end.low())), high = broadcast(static_cast<float>(p.end.high()));
  for (int64_t f = 0; f < p.filters; f += kLanes) {
    const int n = static_cast<int>(p.filters - f < kLanes ? p.filters - f : kLanes);
    vf m[4][4], s[2][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) m[i][j] = load(sums + (4 * i + j) * stride + f);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      s[0][j] = m[0][j] + m[1][j] + m[2][j];
      s[1][j] = m[1][j] - m[2][j] - m[3][j];
    }
    const vf b = bias == nullptr ? vf{} : take(bias + f * bias_stride, bias_stride, n);
    vf r[2][2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      r[i][0] = s[i][0] + s[i][1] + s[i][2] + b;
      r[i][1] = s[i][1] - s[i][2] - s[i][3] + b;
    }
    const auto each = [&](const auto& change) __attribute__((always_inline)) {
      for (int i = 0; i < 1 + second_row; ++i)
        for (int j = 0; j < 1 + second_column; ++j) change(r[i][j], i, j);
    };
    const auto add = [&](vf& v, int i, int j) __attribute__((always_inline)) {
      v += take(residual + i * p.residual[0] + j * p.residual[1] + f * p.r_channel, p.r_channel, n);
    };
    if (residual != nullptr && !p.end.residual_last) each(add);
    if (p.pass != nullptr) {
      alignas(64) float buffer[4 * kLanes];
      for (int i = 0; i < 4; ++i) store(buffer + i * kLanes, r[i / 2][i % 2]);
      p.pass({buffer, kLanes, buffer, kLanes, 4, kLanes}, static_cast<float>(p.end.p), static_cast<float>(p.end.q));
      for (int i = 0; i < 4; ++i) r[i / 2][i % 2] = load(buffer + i * kLanes);
    } else {
      each([&](vf& v, int, int) __attribute__((always_inline)) { v = min(high, max(low, v)); });
    }
    if (residual != nullptr && p.end.residual_last) each(add);
    each([&](vf& v, int i, int j) __attribute__((always_inline)) { put(y + i * g.y[1] + j * g.y[2] + f * p.y_channel, p.y_channel, n, v); });
  }
}

void run_block(const WinogradPlan& p, const Instr& instr, int64_t first, char* scratch) {
  const int64_t count = std::min(p.block, p.tiles - first), columns = p.weights.filters.padded();
  auto* inputs = reinterpret_cast<float*>(scratch);
  auto* sums = inputs + 16 * p.input_stride();
  const auto* weights = instr.in[1]->as<float>();
  for (int64_t t = 0; t < count; ++t)
    transform_input(p, instr.in[0]->as<float>(), tile_at(p, first + t), inputs + t * p.padded, p.input_stride());
  alignas(64) float ones[kPanel], zeros[kPanel] = {};
  std::fill(ones, ones + kPanel, 1.0f);
  const TileEnd plain{ones, zeros, nullptr, 0, false, false, 0, 0};
  for (int q = 0; q < 16; ++q)
    for (int64_t panel = 0; panel < p.weights.filters.count(); ++panel) {
      const int64_t width = p.weights.filters.width(panel);
      for_row_tiles(count, [&](int64_t row, int size) {
        const Tile<float> tile = kTiles<float>.of[width / kLanes - 1][size - 1];
        tile(p.channels, inputs + q * p.input_stride() + row * p.padded, p.padded, weights + q * p.weights.stride() + p.weights.panel(panel),
             width, row == 0, sums + q * p.sum_stride() + row * columns + panel * kPanel, columns, plain);
      });
    }
  for (int64_t t = 0; t < count; ++t) transform_output(p, instr, sums + t * columns, p.sum_stride(), tile_at(p, first + t));
}

void run_winograd(const Instr& instr, Worker& worker) {
  const WinogradPlan& p = instr.as<WinogradPlan>();
  worker.parallel(ceil_div(p.tiles, p.block), 1, [&](int64_t begin, int64_t end, Worker& me) {
    for (int64_t i = begin; i < end; ++i) run_block(p, instr, i * p.block, me.scratch);
  });
}

void cut(WinogradPlan& p, int threads) {
  const int64_t a_tile = 64 * (p.padded + p.weights.filters.padded());
  int64_t most = p.weights.bytes() > kNearWeights ? kLongBlock : kShortBlock;
  most = std::max<int64_t>(std::min(most, kScratch / a_tile), 1);
  int64_t blocks = std::max<int64_t>(ceil_div(p.tiles, most), 1);
  if (threads > 1 && p.tiles >= 2 * kTileRows) blocks = ceil_div(blocks, threads) * threads;
  p.block = std::max<int64_t>(ceil_div(p.tiles, blocks), 1);
}

Run prepare(Bind& b) {
  const Tensor &x = *b.in[0], &y = *b.out[0];
  auto& p = b.make<WinogradPlan>();
  p.window = read_conv_window(b, "conv.winograd");
  Window& g = p.window;
  p.end = read_conv_end(b, 3 + window_ints(g.rank));
  p.filters = b.ints[0];
  if (x.dtype != DType::kFloat || g.rank != 2 || b.ints[1] != 1)
    b.host->fail("conv.winograd takes float32 images in one group, not element type %d of rank %d", static_cast<int>(x.dtype), x.rank);
  for (int a = 1; a < kWindowAxes; ++a)
    if (g.kernel[a] != 3 || g.stride[a] != 1 || g.dilation[a] != 1) b.host->fail("conv.winograd takes windows of 3 x 3 and stride 1");
  p.channels = x.dims[1];
  p.weights = {p.channels, {p.filters}};
  if (b.in[1]->count() != p.weights.bytes())
    b.host->fail("conv.winograd has %lld bytes of weights where %lld channels need %lld", static_cast<long long>(b.in[1]->count()),
                 static_cast<long long>(p.channels), static_cast<long long>(p.weights.bytes()));
  if (b.has(2) && b.in[2]->dims[0] != p.filters)
    b.host->fail("conv has %lld filters but a bias of %lld", static_cast<long long>(p.filters), static_cast<long long>(b.in[2]->dims[0]));
  take_output(b, g, x, p.filters, false, y);
  p.pass = p.end.is_bounds() ? nullptr : activation_pass(p.end.kind);
  p.batch = x.dims[0];
  p.x_batch = x.strides[0], p.x_channel = x.dims[1] > 1 ? x.strides[1] : 1;
  p.y_batch = y.strides[0], p.y_channel = y.dims[1] > 1 ? y.strides[1] : 1;
  if (b.has(3)) {
    const Tensor& r = *b.in[3];
    for (int i = 0; i < y.rank; ++i)
      if (r.rank != y.rank || r.dims[i] != y.dims[i]) b.host->fail("the residual of conv.winograd has other dims than its output");
    p.r_batch = r.strides[0], p.r_channel = r.dims[1] > 1 ? r.strides[1] : 1;
    p.residual[0] = r.strides[2], p.residual[1] = r.strides[3];
  }
  p.padded = ceil_div(p.channels, kLanes) * kLanes;
  p.zeros = b.array<float>(p.padded);
  p.tile_rows = ceil_div(g.out[1], 2), p.tile_columns = ceil_div(g.out[2], 2);
  p.tiles = p.filters > 0 ? p.batch * p.tile_rows * p.tile_columns : 0;
  cut(p, b.threads);
  b.need_scratch((p.input_stride() + p.sum_stride()) * 16 * 4);
  return run_winograd;
}

void shape(Bind& b) {
  const Window w = read_conv_window(b, "conv.winograd");
  set_window_dims(w, *b.in[0], b.ints[0], false, *b.out[0]);
}

const RegisterKernel winograd{"conv.winograd", prepare, shape};

}  // namespace
}  // namespace graphopt
