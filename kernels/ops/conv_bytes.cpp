// `conv.bytes`: dense convolution of 8-bit images, channels-last, with packed constant weights; sums are exact.
//
//   start[f] + sum of x * w                      -> s32
//   the same, times scale[f]                     -> f32
//   the same, rounded half to even, + y_zero, saturated  -> u8, s8
//
// `start` holds the bias and takes the zero point of x out of the sums. Loops: blocks of positions in parallel, then
// panels of 32 filters, tiles of 12 positions (6 with AVX2). Pointwise convolutions of unsigned channels by fours read the
// image in place; others copy the windows of a block to rows: a copy of K bytes for K * N products.
#include "ops/conv_bytes_plan.h"
#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// ints: filters, groups, auto_pad, window, zero points of x and of the result
// in: x, packed weights, start s32 [filters], scale f32 [filters] (absent where the result has 32 bits)
enum Operand { kX, kWeights, kStart, kScale };

// Where the results of a position begin.
int64_t y_offset(const BytePlan& p, int64_t position) {
  const Place at = place_of(p, position);
  return at.n * p.y_batch + at.od * p.window.y[0] + at.oh * p.window.y[1] + at.ow * p.window.y[2];
}

struct PanelCall {
  const BytePlan& p;
  char* y;
  const int8_t* weights;
  const int32_t* start;
  const float* scale;
  int64_t filter;
  int columns;
  bool narrow;

  // `count` rows from `a` on, the first of which is that of `position`.
  void run(const uint8_t* a, int64_t position, int64_t count) const {
    const int vectors = columns > kLanes ? 2 : 1;
    const int64_t size = p.result.size();
    alignas(64) char buffer[kTileRows * kPanel * 4];
    int64_t tiles = ceil_div(count, kTileRows);
    for (int64_t done = 0; tiles > 0; --tiles) {
      const int rows = static_cast<int>(ceil_div(count - done, tiles));
      const ByteConvTile run_tile = byte_conv_tile(rows, vectors, narrow);
      const uint8_t* from = a + done * p.a_stride;
      if (p.is_flat && p.y_channel == 1) {
        char* to = y + ((position + done) * p.window.y[2] + filter) * size;
        run_tile(p.layout.groups(), from, p.a_stride, weights, start, scale, p.result, to, p.window.y[2], columns);
      } else {
        run_tile(p.layout.groups(), from, p.a_stride, weights, start, scale, p.result, buffer, kPanel, columns);
        for (int i = 0; i < rows; ++i) scatter(buffer + i * kPanel * size, y + (y_offset(p, position + done + i) + filter * p.y_channel) * size);
      }
      done += rows;
    }
  }

  void scatter(const char* from, char* to) const {
    const int64_t size = p.result.size();
    if (p.y_channel == 1) {
      std::memcpy(to, from, static_cast<size_t>(columns * size));
      return;
    }
    for (int j = 0; j < columns; ++j) std::memcpy(to + j * p.y_channel * size, from + j * size, static_cast<size_t>(size));
  }
};

// What the sums of a panel start from, and its scales; behind the last filter there are zeros.
struct PanelEnds {
  explicit PanelEnds(const Instr& instr)
      : starts(instr.in[kStart]->as<int32_t>()), scales(instr.in[kScale] != nullptr ? instr.in[kScale]->as<float>() : nullptr) {}

  void find(int64_t filter, int columns) {
    start = starts + filter, scale = scales != nullptr ? scales + filter : last_scales;
    if (columns == kPanel) return;
    std::memset(last_starts, 0, sizeof last_starts);
    std::memcpy(last_starts, start, static_cast<size_t>(columns) * 4);
    if (scales != nullptr) std::memcpy(last_scales, scale, static_cast<size_t>(columns) * 4);
    start = last_starts, scale = last_scales;
  }

  const int32_t *starts, *start = nullptr;
  const float *scales, *scale = nullptr;
  alignas(64) int32_t last_starts[kPanel];
  alignas(64) float last_scales[kPanel] = {};
};

// Where rows of a block begin that is read in place.
const uint8_t* in_place(const BytePlan& p, const uint8_t* x, int64_t position, int64_t group) {
  const Window& g = p.window;
  const Place at = place_of(p, position);
  return x + at.n * p.x_batch + at.od * g.stride[0] * g.x[0] + at.oh * g.stride[1] * g.x[1] + at.ow * g.stride[2] * g.x[2] + group * p.channels;
}

void run(const Instr& instr, Worker& worker) {
  const auto& p = instr.as<BytePlan>();
  const auto* x = instr.in[kX]->as<uint8_t>();
  const char* packed = instr.in[kWeights]->data;
  const int64_t panels = p.layout.panels.count(), all = panels * p.groups, filters = p.layout.panels.columns;
  worker.parallel(p.blocks * p.parts, 1, [&](int64_t begin, int64_t end, Worker& me) {
    PanelEnds ends(instr);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit / p.parts * p.block, part = unit % p.parts;
      const int64_t count = p.positions - first < p.block ? p.positions - first : p.block;
      int64_t present = -1;
      for (int64_t i = all * part / p.parts; i < all * (part + 1) / p.parts; ++i) {
        const int64_t group = i / panels, panel = i % panels, column = panel * kPanel;
        const char* of_group = packed + group * p.group_bytes;
        const int columns = static_cast<int>(filters - column < kPanel ? filters - column : kPanel);
        ends.find(group * filters + column, columns);
        const PanelCall call{p,       instr.out[0]->data, p.layout.panel(of_group, panel), ends.start, ends.scale, group * filters + column,
                             columns, p.layout.is_narrow(of_group, panel)};
        if (p.copies) {
          auto* rows = reinterpret_cast<uint8_t*>(me.scratch);
          if (present != group) copy_windows(p, x, first, count, group, rows);
          present = group;
          call.run(rows, first, count);
        } else if (p.is_flat) {
          call.run(in_place(p, x, first, group), first, count);
        } else {
          // A row of the result at a time.
          for (int64_t at = first; at < first + count;) {
            const int64_t left = p.window.out[2] - at % p.window.out[2], n = left < first + count - at ? left : first + count - at;
            call.run(in_place(p, x, at, group), at, n);
            at += n;
          }
        }
      }
    }
  });
}

Window read_byte_window(Bind& b) {
  const int r = b.in[kX]->rank - 2;
  if (r >= 1 && r <= kWindowAxes && b.n_ints != 3 + window_ints(r) + 2) b.host->fail("conv.bytes of %d axes needs %d integers", r, 5 + window_ints(r));
  return read_window(b, *b.in[kX], b.ints + 3, static_cast<AutoPad>(b.ints[2]));
}

void plan_blocks(Bind& b, BytePlan& p, bool is_signed) {
  const Window& g = p.window;
  const Tensor& x = *b.in[kX];
  bool pointwise = true, dense = true;
  for (int i = 0; i < kWindowAxes; ++i) {
    pointwise &= g.kernel[i] == 1 && g.pad[i] == 0 && g.pad_end[i] == 0;
    dense &= g.stride[i] == 1;
  }
  const int64_t pixel = x.dims[1];
  p.flips = is_signed;
  p.copies = is_signed || !pointwise || p.channels % 4 != 0;
  const bool y_flat = g.y[2] >= 0 && (g.out[1] == 1 || g.y[1] == g.out[2] * g.y[2]) && (g.out[0] == 1 || g.y[0] == g.out[1] * g.out[2] * g.y[2]) &&
                      (p.batch == 1 || p.y_batch == g.out_size() * g.y[2]);
  const bool x_flat = p.copies || dense;  // images have no gaps
  p.is_flat = x_flat && y_flat;
  p.a_stride = p.copies ? (p.layout.depth + 3) / 4 * 4 : g.stride[2] * pixel;
  if (p.copies && p.a_stride % 1024 == 0) p.a_stride += 64;
  p.block = (int64_t{128} << 10) / (p.a_stride > 0 ? p.a_stride : 1) / kTileRows * kTileRows;
  p.block = p.block < 4 * kTileRows ? 4 * kTileRows : p.block;
  // Blocks for all threads, none of less than a tile or two.
  const int64_t wanted = ceil_div(p.positions, 4 * b.threads);
  if (b.threads > 1 && p.block > wanted) p.block = wanted < 2 * kTileRows ? 2 * kTileRows : ceil_div(wanted, kTileRows) * kTileRows;
  p.blocks = ceil_div(p.positions, p.block);
  const int64_t all = p.layout.panels.count() * p.groups;
  p.parts = b.threads == 1 || p.blocks >= 2 * b.threads || p.blocks == 0 ? 1 : ceil_div(2 * b.threads, p.blocks);
  p.parts = p.parts < all ? p.parts : all;
  if (p.positions * p.layout.depth * p.layout.panels.columns * p.groups < kPieceOfWork) p.parts = all > 0 ? 1 : 0;
  if (p.copies) b.need_scratch((p.block < p.positions ? p.block : p.positions) * p.a_stride + 64);
}

Run prepare(Bind& b) {
  if (b.n_in != 4) b.host->fail("conv.bytes takes 4 operands, not %d", b.n_in);
  const Tensor &x = *b.in[kX], &y = *b.out[0];
  auto& p = b.make<BytePlan>();
  p.window = read_byte_window(b);
  const int64_t filters = b.ints[0], r = p.window.rank;
  p.groups = b.ints[1];
  if (x.dtype != DType::kUint8 && x.dtype != DType::kInt8) b.host->fail("conv.bytes of element type %d", static_cast<int>(x.dtype));
  if (y.dtype != DType::kUint8 && y.dtype != DType::kInt8 && y.dtype != DType::kInt32 && y.dtype != DType::kFloat)
    b.host->fail("conv.bytes in element type %d", static_cast<int>(y.dtype));
  if (p.groups < 1 || x.dims[1] % p.groups != 0 || filters % p.groups != 0)
    b.host->fail("conv.bytes: %lld channels and %lld filters in %lld groups", static_cast<long long>(x.dims[1]), static_cast<long long>(filters),
                 static_cast<long long>(p.groups));
  p.batch = x.dims[0], p.channels = x.dims[1] / p.groups;
  p.layout = BytePanels{p.window.taps() * p.channels, {filters / p.groups}};
  p.group_bytes = (p.layout.bytes() + 63) / 64 * 64;
  if (b.in[kWeights]->count() != p.group_bytes * p.groups)
    b.host->fail("conv.bytes has %lld bytes of weights where %lld channels need %lld", static_cast<long long>(b.in[kWeights]->count()),
                 static_cast<long long>(x.dims[1]), static_cast<long long>(p.group_bytes * p.groups));
  const bool scaled = y.dtype != DType::kInt32;
  if (b.in[kStart] == nullptr || b.in[kStart]->count() != filters || !b.in[kStart]->is_dense() || (scaled && !b.has(kScale)) ||
      (b.has(kScale) && (b.in[kScale]->count() != filters || !b.in[kScale]->is_dense())))
    b.host->fail("conv.bytes of %lld filters takes as many starts and scales", static_cast<long long>(filters));
  take_output(b, p.window, x, filters, false, *b.out[0]);
  int64_t step = x.dims[1];
  bool is_last = x.dims[1] == 1 || x.strides[1] == 1;
  for (int i = x.rank - 1; i >= 1; --i) {
    const int axis = i == 1 ? 0 : i;
    is_last &= x.dims[axis] == 1 || x.strides[axis] == step;
    step *= x.dims[axis];
  }
  if (!is_last && x.count() > 0) b.host->fail("conv.bytes: channels are not innermost");
  for (int i = 0; i < kWindowAxes; ++i) p.window.x[i] = x.dims[1];
  for (int i = kWindowAxes - 2; i >= 0; --i) p.window.x[i] = p.window.x[i + 1] * p.window.in[i + 1];
  p.x_batch = p.window.x[0] * p.window.in[0];
  p.y_batch = y.strides[0], p.y_channel = filters == 1 ? 1 : y.strides[1];
  for (int i = 0; i < kWindowAxes - r; ++i) p.window.y[i] = 0;
  p.positions = p.batch * p.window.out_size();
  p.padding = static_cast<uint8_t>(b.ints[3 + window_ints(static_cast<int>(r))]);
  p.result = byte_result(y.dtype, b.ints[4 + window_ints(static_cast<int>(r))]);
  plan_blocks(b, p, x.dtype == DType::kInt8);
  return run;
}

void shape(Bind& b) { set_window_dims(read_byte_window(b), *b.in[kX], b.ints[0], false, *b.out[0]); }

const RegisterKernel conv_bytes{"conv.bytes", prepare, shape};

}  // namespace
}  // namespace graphopt
