// How a dense convolution is cut: strips whose input stays in L2, segments of contiguous floats.
#include <utility>

#include "ops/conv_direct.h"

namespace graphopt {
namespace {

// Bytes of a strip's input: next to a panel of weights and the output it has to fit in 1 MiB of L2.
constexpr int64_t kCopiedBytes = 384 << 10, kReadBytes = 256 << 10;

// An image of one column, which is how a convolution over time is often written, becomes one of one row: tiles run along rows.
void lay_down(DirectPlan& p) {
  Window& g = p.window;
  if (g.in[2] != 1 || g.out[2] != 1 || g.kernel[2] != 1 || g.pad[2] != 0 || g.pad_end[2] != 0) return;
  for (int64_t* of : {g.in, g.out, g.kernel, g.stride, g.dilation, g.pad, g.pad_end, g.x, g.y, p.residual}) std::swap(of[1], of[2]);
}

// A pointwise convolution knows no rows: images whose rows follow each other are one long row.
void join_rows(DirectPlan& p) {
  Window& g = p.window;
  for (int a = 0; a < kWindowAxes; ++a)
    if (g.kernel[a] != 1 || g.stride[a] != 1 || g.pad[a] != 0 || g.pad_end[a] != 0) return;
  for (int a = 1; a >= 0; --a) {
    const bool follow = g.in[a] == 1 || (g.x[a] == g.x[2] * g.in[2] && g.y[a] == g.y[2] * g.out[2] &&
                                         p.residual[a] == p.residual[2] * g.out[2]);
    if (!follow) return;
    g.in[2] *= g.in[a], g.out[2] *= g.out[a];
    g.in[a] = g.out[a] = 1;
  }
  if (p.batch > 1 && p.x_batch == g.x[2] * g.in[2] && p.y_batch == g.y[2] * g.out[2] &&
      p.residual_batch == p.residual[2] * g.out[2]) {
    g.in[2] *= p.batch, g.out[2] *= p.batch;
    p.batch = 1;
  }
}

int64_t rows_read(const Window& g, int axis, int64_t positions) {
  return (positions - 1) * g.stride[axis] + g.extent(axis);
}

void cut_strips(DirectPlan& p, int threads) {
  const Window& g = p.window;
  const int64_t most = p.copies ? kCopiedBytes : kReadBytes, all = p.channels * p.groups;
  const int64_t pixel = (all > 0 ? all : 1) * 4 * g.kernel[0];
  const int64_t line = rows_read(g, 2, g.out[2]) * pixel;
  p.strip_rows = g.out[1], p.strip_columns = g.out[2];
  // As many rows as fit, or a part of one row.
  const int64_t fitting = (most / line - g.extent(1)) / g.stride[1] + 1;
  if (most / line < g.extent(1)) {
    p.strip_rows = 1;
    const int64_t columns = (most / (pixel * g.extent(1)) - g.extent(2)) / g.stride[2] + 1;
    p.strip_columns = columns < 4 * kConvRows ? 4 * kConvRows : columns;
  } else {
    p.strip_rows = fitting;
  }
  p.strip_rows = p.strip_rows < g.out[1] ? p.strip_rows : g.out[1];
  p.strip_columns = p.strip_columns < g.out[2] ? p.strip_columns : g.out[2];
  p.row_strips = ceil_div(g.out[1], p.strip_rows), p.column_strips = ceil_div(g.out[2], p.strip_columns);
  p.parts = 1;
  if (threads > 1) {
    // Work for all threads: more strips, or where the weights are larger than the image, parts of the panels.
    const int64_t strips = p.batch * g.out[0] * p.row_strips * p.column_strips;
    const bool few = strips < 4 * threads;
    const int64_t panels = p.groups * p.panels();
    if (few && strips % threads != 0 && panels >= 2 * threads && p.depth * p.filters > g.in_size() * p.channels) {
      p.parts = threads;
    } else if (few && strips % threads != 0) {
      if (g.out[1] > 1) p.row_strips = ceil_div(p.row_strips, threads) * threads;
      else p.column_strips = ceil_div(p.column_strips, threads) * threads;
    }
  }
  // Even sizes.
  p.strip_rows = ceil_div(g.out[1], p.row_strips);
  p.row_strips = ceil_div(g.out[1], p.strip_rows);
  p.strip_columns = ceil_div(g.out[2], p.column_strips);
  p.column_strips = ceil_div(g.out[2], p.strip_columns);
}

void find_segments(Bind& b, DirectPlan& p) {
  const Window& g = p.window;
  const int64_t all = p.channels * p.groups;
  if (p.copies) {
    p.copy_rows = rows_read(g, 1, p.strip_rows), p.copy_columns = rows_read(g, 2, p.strip_columns);
    p.pixel = all, p.line = all * p.copy_columns, p.slice = p.line * p.copy_rows;
    b.need_scratch(p.slice * g.kernel[0] * 4);
  } else {
    p.pixel = g.x[2], p.line = g.x[1], p.slice = g.x[0] * g.dilation[0];
  }
  // Taps of one row that touch each other are one segment.
  const bool joined = g.dilation[2] == 1 && (g.kernel[2] == 1 || p.pixel == p.channels);
  p.segments_of_row = joined ? 1 : g.kernel[2];
  p.segments.count = g.kernel[0] * g.kernel[1] * p.segments_of_row;
  p.segments.length = joined ? g.kernel[2] * p.channels : p.channels;
  p.segments.row_stride = g.stride[2] * p.pixel;
  auto* offsets = b.array<int64_t>(p.segments.count);
  p.segments.offsets = offsets;
  for (int64_t d = 0; d < g.kernel[0]; ++d)
    for (int64_t h = 0; h < g.kernel[1]; ++h)
      for (int64_t w = 0; w < p.segments_of_row; ++w)
        *offsets++ = d * p.slice + h * g.dilation[1] * p.line + w * g.dilation[2] * p.pixel;
}

}  // namespace

void plan_direct(Bind& b, DirectPlan& p) {
  Window& g = p.window;
  const Tensor &x = *b.in[0], &y = *b.out[0];
  p.batch = x.dims[0];
  p.x_batch = x.strides[0], p.x_channel = x.dims[1] > 1 ? x.strides[1] : 1, p.y_batch = y.strides[0];
  p.y_channel = y.dims[1] > 1 ? y.strides[1] : 1;
  p.residual_batch = p.y_batch, p.residual_channel = p.y_channel;
  for (int a = 0; a < kWindowAxes; ++a) p.residual[a] = g.y[a];
  if (b.has(3)) {
    const Tensor& r = *b.in[3];
    for (int i = 0; i < y.rank; ++i)
      if (r.rank != y.rank || r.dims[i] != y.dims[i]) b.host->fail("the residual of conv.direct has other dims than its output");
    p.residual_batch = r.strides[0], p.residual_channel = r.dims[1] > 1 ? r.strides[1] : 1;
    for (int i = 0; i < g.rank; ++i) p.residual[kWindowAxes - g.rank + i] = r.strides[2 + i];
  }
  p.scatters = p.y_channel != 1 || p.residual_channel != 1;
  p.pass = p.end.is_bounds() ? nullptr : activation_pass(p.end.kind);
  p.depth = g.taps() * p.channels;
  if (p.batch * g.out_size() * p.filters * p.groups == 0) {
    p.batch = 0;
    return;
  }
  lay_down(p);
  join_rows(p);
  p.copies = p.x_channel != 1 || g.pad[2] != 0 || g.pad_end[2] != 0 || g.pad[0] != 0 || g.pad_end[0] != 0 ||
             (g.kernel[0] > 1 && (g.pad[1] != 0 || g.pad_end[1] != 0));
  cut_strips(p, b.threads);
  find_segments(b, p);
}

}  // namespace graphopt
