// `conv.bytes`: dense convolution of 8-bit images, channels-last, with packed constant weights; sums are exact.
//
//   start[f] + sum of x * w                      -> s32
//   the same, times scale[f]                     -> f32
//   the same, rounded half to even, + y_zero, saturated  -> u8, s8
//
// `start` holds the bias and takes the zero point of x out of the sums. Loops: blocks of positions in parallel, then
// panels of 32 filters, tiles of 12 positions (6 with AVX2). Pointwise convolutions of unsigned channels by fours read the
// image in place; others copy the windows of a block to rows: a copy of K bytes for K * N products.
#include <cstdlib>
#include <utility>

#include "ops/conv_bytes.h"
#include "ops/gemm_packed.h"
#include "ops/quantized_gemm.h"
#include "ops/registry.h"
#include "ops/window.h"
#include "simd/dot.h"

namespace graphopt {
namespace {

// ints: filters, groups, auto_pad, window, zero points of x and of the result
// in: x, packed weights, start s32 [filters], scale f32 [filters] (absent where the result has 32 bits)
enum Operand { kX, kWeights, kStart, kScale };

struct BytePlan {
  Window window;
  ByteResult result;
  BytePanels layout;                     // of a group
  int64_t batch, groups, channels;       // channels of a group
  int64_t x_batch, y_batch, y_channel;   // strides
  int64_t group_bytes;                   // of packed weights
  int64_t positions, block, blocks, parts;
  int64_t a_stride;                      // of rows: in the image, or in scratch
  uint8_t padding;                       // what lies around the image
  bool copies, flips, is_flat;           // is_flat: positions of all images lie at equal distances
};

using Tile = void (*)(int64_t groups, const uint8_t* a, int64_t a_stride, const int8_t* w, const int32_t* start, const float* scale,
                      const ByteResult& result, char* to, int64_t to_stride, int columns);

GRAPHOPT_INLINE int32_t four_at(const uint8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return four;
}

template <int rows, int vectors, bool narrow>
__attribute__((noinline)) void tile(int64_t groups, const uint8_t* a, int64_t a_stride, const int8_t* w, const int32_t* start,
                                    const float* scale, const ByteResult& result, char* to, int64_t to_stride, int columns) {
  constexpr int chains = rows * vectors <= 4 ? 4 : rows * vectors <= 8 ? 2 : 1;
  vi acc[chains][rows][vectors] = {};
#pragma GCC unroll 2
  for (int j = 0; j < vectors; ++j) {
    const vi first = load_bits(start + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) acc[0][i][j] = first;
  }
  const auto step = [&](vi(&into)[rows][vectors], int64_t group) __attribute__((always_inline)) {
    vi b[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j, w += kVectorBytes) b[j] = load_bits(w);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const vi x = broadcast_bits(four_at(a + i * a_stride + 4 * group));
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) into[i][j] = dot_bytes<narrow>(into[i][j], x, b[j]);
    }
  };
  int64_t group = 0;
  for (; group + chains <= groups; group += chains)
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; ++chain) step(acc[chain], group + chain);
  for (; group < groups; ++group) step(acc[0], group);
#pragma GCC unroll 4
  for (int chain = 1; chain < chains; ++chain)
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) acc[0][i][j] += acc[chain][i][j];
  if (result.size() == 1 && columns == vectors * kLanes) {
    vf scales[vectors];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) scales[j] = load(scale + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; ++j) {
        const vb bytes = requantized(result, acc[0][i][j], scales[j]);
        std::memcpy(to + i * to_stride + j * kLanes, &bytes, kLanes);
      }
    return;
  }
  const int64_t size = result.size();
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; ++j) {
      const int count = j + 1 < vectors ? kLanes : columns - (vectors - 1) * kLanes;
      put_results(result, acc[0][i][j], scale + j * kLanes, to + (i * to_stride + j * kLanes) * size, count);
    }
}

struct Tiles {
  Tile of[2][kPanelVectors][kTileRows];  // [narrow][vectors - 1][rows - 1]
};

template <int... row>
constexpr Tiles make_tiles(std::integer_sequence<int, row...>) {
  constexpr bool narrow = !kExactBytes;
  return {{{{&tile<row + 1, 1, false>...}, {&tile<row + 1, 2, false>...}},
           {{&tile<row + 1, 1, narrow>...}, {&tile<row + 1, 2, narrow>...}}}};
}
constexpr Tiles kTiles = make_tiles(std::make_integer_sequence<int, kTileRows>{});

struct Place {
  int64_t n, od, oh, ow;
};

Place place_of(const BytePlan& p, int64_t position) {
  const Window& g = p.window;
  Place at;
  at.ow = position % g.out[2], position /= g.out[2];
  at.oh = position % g.out[1], position /= g.out[1];
  at.od = position % g.out[0];
  at.n = position / g.out[0];
  return at;
}

// The window of one position as a row: taps in row-major order, the group's channels of each.
void copy_window(const BytePlan& p, const uint8_t* x, const Place& at, int64_t group, uint8_t* to) {
  const Window& g = p.window;
  const auto channels = static_cast<size_t>(p.channels);
  const uint8_t* image = x + at.n * p.x_batch + group * p.channels;
  const int64_t first = at.ow * g.stride[2] - g.pad[2];
  const bool joined = g.dilation[2] == 1 && p.groups == 1 && first >= 0 && first + g.kernel[2] <= g.in[2];
  for (int64_t kd = 0; kd < g.kernel[0]; ++kd)
    for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
      const int64_t id = at.od * g.stride[0] + kd * g.dilation[0] - g.pad[0], ih = at.oh * g.stride[1] + kh * g.dilation[1] - g.pad[1];
      const bool inside = id >= 0 && id < g.in[0] && ih >= 0 && ih < g.in[1];
      const uint8_t* line = inside ? image + id * g.x[0] + ih * g.x[1] : nullptr;
      if (joined && inside) {
        std::memcpy(to, line + first * g.x[2], channels * static_cast<size_t>(g.kernel[2]));
        to += p.channels * g.kernel[2];
        continue;
      }
      for (int64_t kw = 0; kw < g.kernel[2]; ++kw, to += p.channels) {
        const int64_t iw = first + kw * g.dilation[2];
        if (inside && iw >= 0 && iw < g.in[2]) std::memcpy(to, line + iw * g.x[2], channels);
        else std::memset(to, p.padding, channels);
      }
    }
}

void copy_rows(const BytePlan& p, const uint8_t* x, int64_t first, int64_t count, int64_t group, uint8_t* to) {
  for (int64_t i = 0; i < count; ++i, to += p.a_stride) {
    copy_window(p, x, place_of(p, first + i), group, to);
    // What fills the last four meets weights of 0.
    for (int64_t k = p.layout.depth; k < p.layout.groups() * 4; ++k) to[k] = 0;
    if (p.flips)
      for (int64_t k = 0; k < p.layout.depth; ++k) to[k] = static_cast<uint8_t>(to[k] ^ 0x80);
  }
}

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
      const Tile run_tile = kTiles.of[narrow][vectors - 1][rows - 1];
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
    alignas(64) int32_t start[kPanel];
    alignas(64) float scale[kPanel];
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t first = unit / p.parts * p.block, part = unit % p.parts;
      const int64_t count = p.positions - first < p.block ? p.positions - first : p.block;
      int64_t present = -1;
      for (int64_t i = all * part / p.parts; i < all * (part + 1) / p.parts; ++i) {
        const int64_t group = i / panels, panel = i % panels, column = panel * kPanel;
        const char* of_group = packed + group * p.group_bytes;
        const int columns = static_cast<int>(filters - column < kPanel ? filters - column : kPanel);
        for (int j = 0; j < kPanel; ++j) {
          const int64_t f = group * filters + column + j;
          start[j] = j < columns ? instr.in[kStart]->as<int32_t>()[f] : 0;
          scale[j] = j < columns && instr.in[kScale] != nullptr ? instr.in[kScale]->as<float>()[f] : 0.0f;
        }
        const PanelCall call{p,     instr.out[0]->data, p.layout.panel(of_group, panel), start, scale, group * filters + column,
                             columns, p.layout.is_narrow(of_group, panel)};
        if (p.copies) {
          auto* rows = reinterpret_cast<uint8_t*>(me.scratch);
          if (present != group) copy_rows(p, x, first, count, group, rows);
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
