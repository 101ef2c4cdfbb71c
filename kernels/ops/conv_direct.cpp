// Dense convolution of float32, channels-last: pointwise, k x k, any dilation and stride, groups of several channels.
//
// Loops: strips (input in L2) in parallel, then panels of 32 filters, output rows, tiles of 12 positions; a tile walks the
// whole depth (conv_tile.h). Input with a border, or of another layout, is copied strip by strip to scratch: reading
// planar images costs no pass of its own. 97 % of a core's peak from K = 500, 85 % at K = 16 to 32 (Zen 4).
#include "ops/conv_direct.h"

namespace graphopt {
namespace {

// ints: filters, groups, auto_pad, window, end; in: x, packed weights, bias?, residual?

// Copies `columns` pixels of all channels; where channels are not innermost, in blocks that stay in L1.
void copy_pixels(const float* from, int64_t channel_stride, int64_t column_stride, int64_t channels, int64_t columns,
                 float* to) {
  if (channel_stride == 1 && column_stride == channels) {
    std::memcpy(to, from, static_cast<size_t>(channels * columns) * 4);
  } else if (channel_stride == 1) {
    for (int64_t w = 0; w < columns; ++w)
      std::memcpy(to + w * channels, from + w * column_stride, static_cast<size_t>(channels) * 4);
  } else {
    constexpr int64_t kBlock = 16;
    for (int64_t c0 = 0; c0 < channels; c0 += kBlock) {
      const int64_t c1 = c0 + kBlock < channels ? c0 + kBlock : channels;
      for (int64_t w0 = 0; w0 < columns; w0 += kBlock) {
        const int64_t w1 = w0 + kBlock < columns ? w0 + kBlock : columns;
        for (int64_t w = w0; w < w1; ++w)
          for (int64_t c = c0; c < c1; ++c) to[w * channels + c] = from[c * channel_stride + w * column_stride];
      }
    }
  }
}

struct Strip {
  int64_t n, od, row, rows, column, columns;
};

// The strip's input and the zeros around it, in scratch.
void copy_strip(const DirectPlan& p, const float* x, const Strip& s, float* to) {
  const Window& g = p.window;
  const int64_t channels = p.channels * p.groups;
  const int64_t first_w = s.column * g.stride[2] - g.pad[2], width = (s.columns - 1) * g.stride[2] + g.extent(2);
  const int64_t first_h = s.row * g.stride[1] - g.pad[1], height = (s.rows - 1) * g.stride[1] + g.extent(1);
  const int64_t left = first_w < 0 ? (-first_w < width ? -first_w : width) : 0;
  const int64_t over = first_w + width - g.in[2], right = over > 0 ? (over < width - left ? over : width - left) : 0;
  for (int64_t kd = 0; kd < g.kernel[0]; ++kd) {
    const int64_t id = s.od * g.stride[0] + kd * g.dilation[0] - g.pad[0];
    for (int64_t h = 0; h < height; ++h) {
      float* line = to + kd * p.slice + h * p.line;
      const int64_t ih = first_h + h;
      if (id < 0 || id >= g.in[0] || ih < 0 || ih >= g.in[1]) {
        if (g.kernel[0] > 1 || id < 0 || id >= g.in[0])  // else the tiles leave this row out
          std::memset(line, 0, static_cast<size_t>(width * channels) * 4);
        continue;
      }
      const float* from = x + s.n * p.x_batch + id * g.x[0] + ih * g.x[1] + (first_w + left) * g.x[2];
      std::memset(line, 0, static_cast<size_t>(left * channels) * 4);
      copy_pixels(from, p.x_channel, g.x[2], channels, width - left - right, line + left * channels);
      std::memset(line + (width - right) * channels, 0, static_cast<size_t>(right * channels) * 4);
    }
  }
}

// What one panel of one group writes.
struct PanelRun {
  const DirectPlan& p;
  const float* weights;
  const float* bias;  // padded
  int columns, vectors;
  int64_t filter;  // the first

  // `n` positions of one output row, whose first window begins at `a`; `is_first`: nothing has read the weights before.
  void row(const ConvSegments& segments, const float* a, const float* w, bool is_first, float* c, const float* residual, int64_t n) const {
    alignas(64) float buffer[kConvRows * kConvPanel];
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    ConvTileEnd end{bias, nullptr, p.residual[2], p.end.residual_last, static_cast<float>(p.end.low()),
                    static_cast<float>(p.end.high()), columns - (vectors - 1) * kLanes};
    const int64_t c_stride = p.window.y[2];
    int64_t tiles = ceil_div(n, kConvRows);
    for (int64_t done = 0; tiles > 0; --tiles) {
      const int rows = static_cast<int>(ceil_div(n - done, tiles));
      const ConvTile tile = kConvTiles.of[vectors - 1][rows - 1];
      const float* from = a + done * segments.row_stride;
      const float* added = residual == nullptr ? nullptr : residual + done * p.residual[2];
      if (!p.scatters && (p.pass == nullptr || end.last == kLanes)) {
        end.residual = p.pass == nullptr || !p.end.residual_last ? added : nullptr;
        float* to = c + done * c_stride;
        if (p.pass == nullptr) {
          tile(segments, from, w, is_first && done == 0, to, c_stride, end);
        } else {
          tile(segments, from, w, is_first && done == 0, buffer, kConvPanel, end);
          activate_tile(buffer, to, rows, p.end.residual_last ? added : nullptr);
        }
      } else {
        ConvTileEnd plain{bias, nullptr, 0, false, -kInfinity, kInfinity, kLanes};
        tile(segments, from, w, is_first && done == 0, buffer, kConvPanel, plain);
        scatter(buffer, rows, c + done * c_stride, added);
      }
      done += rows;
    }
  }

  void activate_tile(const float* buffer, float* c, int rows, const float* added) const {
    p.pass({buffer, kConvPanel, c, p.window.y[2], rows, vectors * kLanes}, static_cast<float>(p.end.p), static_cast<float>(p.end.q));
    if (added == nullptr) return;
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j) c[i * p.window.y[2] + j] += added[i * p.residual[2] + j];
  }

  // From the buffer to an output or with a residual of any layout, and tails with an activation.
  void scatter(float* buffer, int rows, float* c, const float* added) const {
    const int64_t y_column = p.window.y[2], r_column = p.residual[2];
    const auto low = static_cast<float>(p.end.low()), high = static_cast<float>(p.end.high());
    auto add = [&] {
      if (added == nullptr) return;
      for (int j = 0; j < columns; ++j)
        for (int i = 0; i < rows; ++i) buffer[i * kConvPanel + j] += added[i * r_column + j * p.residual_channel];
    };
    if (!p.end.residual_last) add();
    if (p.pass != nullptr) {
      p.pass({buffer, kConvPanel, buffer, kConvPanel, rows, vectors * kLanes}, static_cast<float>(p.end.p), static_cast<float>(p.end.q));
    } else {
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < vectors; ++j) {
          float* v = buffer + i * kConvPanel + j * kLanes;
          store(v, min(broadcast(high), max(broadcast(low), load(v))));
        }
    }
    if (p.end.residual_last) add();
    for (int j = 0; j < columns; ++j)
      for (int i = 0; i < rows; ++i) c[i * y_column + j * p.y_channel] = buffer[i * kConvPanel + j];
  }
};

void run_strip(const DirectPlan& p, const Instr& instr, const Strip& s, const PanelRun& panel, int64_t group, const float* copied) {
  const Window& g = p.window;
  const float* base;
  if (p.copies) base = copied;
  else
    base = instr.in[0]->as<float>() + s.n * p.x_batch + (s.od * g.stride[0]) * g.x[0] +
           (s.row * g.stride[1] - g.pad[1]) * g.x[1] + s.column * g.stride[2] * g.x[2];
  base += group * p.channels;
  float* y = instr.out[0]->as<float>() + p.y_offset + s.n * p.y_batch + s.od * g.y[0] + s.column * g.y[2] + panel.filter * p.y_channel;
  const float* residual = instr.in[3] == nullptr ? nullptr
                                                 : instr.in[3]->as<float>() + s.n * p.residual_batch +
                                                       s.od * p.residual[0] + s.column * p.residual[2] +
                                                       panel.filter * p.residual_channel;
  for (int64_t h = 0; h < s.rows; ++h) {
    const int64_t oh = s.row + h, first = oh * g.stride[1] - g.pad[1];
    ConvSegments segments = p.segments;
    const float* w = panel.weights;
    if (p.depth == 0) {
      segments.count = 0;
    } else if (g.kernel[0] == 1) {
      // Rows of taps above and below the image are left out.
      int64_t low = first < 0 ? ceil_div(-first, g.dilation[1]) : 0;
      int64_t high = g.in[1] - first > 0 ? ceil_div(g.in[1] - first, g.dilation[1]) : 0;
      high = high < g.kernel[1] ? high : g.kernel[1];
      low = low < high ? low : high;
      segments.offsets += low * p.segments_of_row;
      segments.count = (high - low) * p.segments_of_row;
      w += low * g.kernel[2] * p.channels * panel.vectors * kLanes;
    }
    panel.row(segments, base + h * g.stride[1] * p.line, w, h == 0, y + oh * g.y[1],
              residual == nullptr ? nullptr : residual + oh * p.residual[1], s.columns);
  }
}

Strip strip_of(const DirectPlan& p, int64_t index) {
  const Window& g = p.window;
  Strip s;
  s.column = index % p.column_strips * p.strip_columns;
  index /= p.column_strips;
  s.row = index % p.row_strips * p.strip_rows;
  index /= p.row_strips;
  s.od = index % g.out[0];
  s.n = index / g.out[0];
  s.rows = g.out[1] - s.row < p.strip_rows ? g.out[1] - s.row : p.strip_rows;
  s.columns = g.out[2] - s.column < p.strip_columns ? g.out[2] - s.column : p.strip_columns;
  return s;
}

}  // namespace

void run_plan(const DirectPlan& p, const Instr& instr, Worker& worker) {
  const int64_t panels = p.panels(), all = panels * p.groups, padded = conv_padded(p.filters);
  worker.parallel(p.units(), 1, [&](int64_t begin, int64_t end, Worker& me) {
    auto* copied = reinterpret_cast<float*>(me.scratch);
    int64_t present = -1;
    alignas(64) float bias[kConvPanel];
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t part = unit % p.parts;
      const Strip s = strip_of(p, unit / p.parts);
      if (p.copies && present != unit / p.parts) copy_strip(p, instr.in[0]->as<float>(), s, copied);
      present = unit / p.parts;
      for (int64_t i = all * part / p.parts; i < all * (part + 1) / p.parts; ++i) {
        const int64_t group = i / panels, first = i % panels * kConvPanel;
        const int64_t left = p.filters - first;
        const int columns = static_cast<int>(left < kConvPanel ? left : kConvPanel);
        const float* weights = instr.in[1]->as<float>() + p.weights_offset + group * p.depth * padded + first * p.depth;
        const int64_t filter = group * p.filters + first;
        for (int j = 0; j < kConvPanel; ++j)
          bias[j] = instr.in[2] != nullptr && j < columns ? instr.in[2]->as<float>()[(filter + j) * instr.in[2]->strides[0]] : 0.0f;
        const PanelRun panel{p, weights, bias, columns, (columns + kLanes - 1) / kLanes, filter};
        run_strip(p, instr, s, panel, group, copied);
      }
    }
  });
}

namespace {

void run_direct(const Instr& instr, Worker& worker) { run_plan(instr.as<DirectPlan>(), instr, worker); }

Run prepare_direct(Bind& b) {
  const Tensor& x = *b.in[0];
  auto& p = b.make<DirectPlan>();
  p.window = read_conv_window(b, "conv.direct");
  p.end = read_conv_end(b, 3 + window_ints(p.window.rank));
  const int64_t filters = b.ints[0];
  p.groups = b.ints[1];
  if (x.dtype != DType::kFloat) b.host->fail("conv.direct takes float32, not element type %d", static_cast<int>(x.dtype));
  if (p.groups < 1 || x.dims[1] % p.groups != 0 || filters % p.groups != 0)
    b.host->fail("conv.direct: %lld channels and %lld filters in %lld groups", static_cast<long long>(x.dims[1]),
                 static_cast<long long>(filters), static_cast<long long>(p.groups));
  p.channels = x.dims[1] / p.groups;
  p.filters = filters / p.groups;
  const int64_t bytes = p.groups * p.window.taps() * p.channels * conv_padded(p.filters) * 4;
  if (b.in[1]->count() != bytes)
    b.host->fail("conv.direct has %lld bytes of weights where %lld channels need %lld", static_cast<long long>(b.in[1]->count()),
                 static_cast<long long>(x.dims[1]), static_cast<long long>(bytes));
  if (b.has(2) && b.in[2]->dims[0] != filters)
    b.host->fail("conv has %lld filters but a bias of %lld", static_cast<long long>(filters), static_cast<long long>(b.in[2]->dims[0]));
  take_output(b, p.window, x, filters, false, *b.out[0]);
  plan_direct(b, p);
  return run_direct;
}

void shape_direct(Bind& b) {
  const Window w = read_conv_window(b, "conv.direct");
  set_window_dims(w, *b.in[0], b.ints[0], false, *b.out[0]);
}

const RegisterKernel conv_direct{"conv.direct", prepare_direct, shape_direct};

}  // namespace
}  // namespace graphopt
