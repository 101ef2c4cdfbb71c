// `gemm.u8s8`: the product of bytes with packed bytes, in 32 bits, with scales and zero points on either side.
//
//   (A - a_zero[row]) * (B - b_zero[column]) * a_scale[row] * b_scale[column] + bias, activation, residual    -> f32
//   (A - a_zero[row]) * (B - b_zero[column])                                                                  -> s32
//   the same, times scales / y_scale, rounded half to even, + y_zero, saturated                               -> u8, s8
//   what would be f32, divided by a number, rounded half to even, + a zero point, saturated (flag 8)           -> u8, s8
//
// Operands: A, packed B, bias [N], residual, a_scale, a_zero (one, or one a row), b_scale, b_zero (one, or one a column),
// y_scale, y_zero; all but A and B may be absent. Ints: K, N, activation, flags, whether B is unsigned; with flag 8 the
// zero point. Floats as `gemm`: alpha, the activation's parameters, beta; with flag 8 what is divided by.
//
// Loop order as `gemm`. Signed A becomes unsigned in a copy. Zero points are taken out of the sums in the end of a
// tile, by the sums of B's columns, which are packed, and of A's rows, where B has zero points.
#include "ops/quantized_gemm.h"

#include "ops/conv_bytes.h"
#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

enum Operand { kA, kB, kBias, kResidual, kScaleA, kZeroA, kScaleB, kZeroB, kScaleY, kZeroY };

struct ByteGemm {
  Extent extent;  // `b` are the strides of what rows have
  BytePanels layout;
  End end;
  int64_t copied_stride, block_rows, grain_rows, grain_panels;
  int64_t row_bytes;  // where in scratch the values of rows begin
  bool a_signed, b_unsigned, splits_rows;
  bool row_scales, row_zeros, column_scales, column_zeros;  // one each; else one for all
  bool quantizes;  // the end
  ByteRounding rounding;
};

// What a run knows once.
struct Call {
  const ByteGemm& g;
  Tensor* const* in;
  char* out;
  bool subtracts_columns;  // some zero point of B is not 0
  int32_t zero_b(int64_t n) const { return integer_at(in[kZeroB], g.column_zeros ? n : 0) - (g.b_unsigned ? 128 : 0); }
};

// Values of a block's rows, in scratch.
struct Rows {
  int32_t *zero, *sums;
  float* scale;
};

void fill_rows(const Call& call, const Rows& rows, int64_t first, int64_t begin, int64_t count, const uint8_t* a, int64_t stride) {
  const ByteGemm& g = call.g;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = first + (begin + i) * g.extent.rows.b;
    rows.zero[i] = integer_at(call.in[kZeroA], g.row_zeros ? at : 0) + (g.a_signed ? 128 : 0);
    rows.scale[i] = scale_at(call.in[kScaleA], g.row_scales ? at : 0);
    rows.sums[i] = 0;
    if (!call.subtracts_columns) continue;
    int32_t sum = 0;
    for (int64_t k = 0; k < g.layout.depth; ++k) sum += a[i * stride + k];
    rows.sums[i] = sum;
  }
}

// 32-bit results of a tile to C, as they are or requantized.
void put_integers(const Call& call, const Rows& rows, const int32_t* raw, int64_t c, int64_t row, int count, int64_t column) {
  const ByteGemm& g = call.g;
  const int64_t left = g.layout.panels.columns - column, columns = left < kPanel ? left : kPanel;
  if (g.end.dtype == DType::kInt32) {
    for (int i = 0; i < count; ++i)
      std::memcpy(call.out + (c + (row + i) * g.extent.rows.c + column) * 4, raw + i * kPanel, static_cast<size_t>(columns) * 4);
    return;
  }
  const ByteResult result = byte_result(g.end.dtype, integer_at(call.in[kZeroY], 0));
  const float y_scale = scale_at(call.in[kScaleY], 0);
  alignas(64) float scales[kPanel] = {};
  for (int64_t j = 0; j < columns; ++j) scales[j] = scale_at(call.in[kScaleB], g.column_scales ? column + j : 0);
  for (int i = 0; i < count; ++i) {
    char* to = call.out + c + (row + i) * g.extent.rows.c + column;
    for (int64_t j = 0; j < columns; j += kLanes) {
      const vb bytes = requantized(result, load_bits(raw + i * kPanel + j), rows.scale[i] * load(scales + j) / y_scale);
      if (columns - j >= kLanes) std::memcpy(to + j, &bytes, kLanes);
      else std::memcpy(to + j, &bytes, static_cast<size_t>(columns - j));
    }
  }
}

void run_block(const Call& call, int64_t batch, int64_t first, int64_t last, int64_t panel, int64_t end_panel, char* scratch) {
  const ByteGemm& g = call.g;
  const Loop at = g.extent.batches.at(batch);
  EndData data;
  data.c = call.out + at.c * size_of(g.end.dtype);
  data.c_stride = g.extent.rows.c;
  if (g.end.has_bias) data.bias = call.in[kBias]->data;
  if (g.end.has_residual) data.residual = call.in[kResidual]->data + at.residual * size_of(g.end.residual_dtype);
  if (g.column_scales) data.scale = call.in[kScaleB]->as<float>();
  else data.factor = scale_at(call.in[kScaleB], 0);
  if (g.quantizes) data.rounding = &g.rounding;
  PanelEnds ends(g.end, data);
  const bool floats = g.end.dtype == DType::kFloat || g.quantizes;
  const char* packed = call.in[kB]->data;
  auto* values = reinterpret_cast<int32_t*>(scratch + g.row_bytes);
  const Rows rows{values, values + g.block_rows, reinterpret_cast<float*>(values + 2 * g.block_rows)};
  for (int64_t begin = first; begin < last; begin += g.block_rows) {
    const int64_t count = last - begin < g.block_rows ? last - begin : g.block_rows;
    const uint8_t* a = call.in[kA]->as<uint8_t>() + at.a + begin * g.extent.rows.a;
    int64_t stride = g.extent.rows.a;
    if (g.copied_stride != 0) {
      auto* to = reinterpret_cast<uint8_t*>(scratch);
      const int flip = g.a_signed ? 0x80 : 0;
      for (int64_t i = 0; i < count; ++i)
        for (int64_t k = 0; k < g.layout.depth; ++k) to[i * g.copied_stride + k] = static_cast<uint8_t>(a[i * stride + k] ^ flip);
      a = to;
      stride = g.copied_stride;
    }
    fill_rows(call, rows, at.b, begin, count, a, stride);
    for (int64_t p = panel; p < end_panel; ++p) {
      const int64_t column = p * kPanel;
      alignas(64) int32_t corrected[kPanel], zeros[kPanel], starts[kPanel], raw[kTileRows * kPanel];
      const int32_t* sums = g.layout.sums(packed) + column;
      const int vectors = static_cast<int>(g.layout.panels.width(p)) / kLanes;
      if (call.subtracts_columns) {
        for (int j = 0; j < kPanel; ++j) {
          zeros[j] = column + j < g.layout.panels.columns ? call.zero_b(column + j) : 0;
          corrected[j] = j < vectors * kLanes ? sums[j] - static_cast<int32_t>(g.layout.depth) * zeros[j] : 0;
        }
        sums = corrected;
      }
      if (!g.row_zeros && count > 0)
        for (int j = 0; j < vectors; ++j) store_bits(starts + j * kLanes, -rows.zero[0] * load_bits(sums + j * kLanes));
      const bool narrow = g.layout.is_narrow(packed, p);
      if (floats) ends.begin(column);
      for_row_tiles(count, [&](int64_t row, int size) {
        const ByteTile tile = byte_tile(size, vectors, narrow);
        const ByteEnd bytes{g.row_zeros ? nullptr : starts, sums, call.subtracts_columns ? zeros : nullptr, rows.zero + row, rows.sums + row, rows.scale + row, floats ? nullptr : raw};
        const auto run = [&](float* c, int64_t c_stride, const TileEnd& end) {
          tile(g.layout.depth, a + row * stride, stride, g.layout.panel(packed, p), row == 0, bytes, c, c_stride, end);
        };
        if (floats) return ends.run(begin + row, size, run);
        run(nullptr, 0, TileEnd{});
        put_integers(call, Rows{rows.zero + row, rows.sums + row, rows.scale + row}, raw, at.c, begin + row, size, column);
      });
    }
  }
}

void run(const Instr& i, Worker& worker) {
  const auto& g = i.as<ByteGemm>();
  Call call{g, i.in, i.out[0]->data, false};
  const int64_t rows = g.extent.rows.size, panels = g.layout.panels.count();
  for (int64_t n = 0; n < (g.column_zeros ? g.layout.panels.columns : 1); ++n) call.subtracts_columns |= call.zero_b(n) != 0;
  for (int64_t batch = 0; batch < g.extent.batches.count(); ++batch) {
    if (g.splits_rows) {
      worker.parallel(rows, g.grain_rows, [&](int64_t begin, int64_t end, Worker& w) { run_block(call, batch, begin, end, 0, panels, w.scratch); });
    } else {
      worker.parallel(panels, g.grain_panels, [&](int64_t begin, int64_t end, Worker& w) { run_block(call, batch, 0, rows, begin, end, w.scratch); });
    }
  }
}

// Whether an operand has a value for each of n; it has one for all otherwise.
bool has_many(const Bind& b, Operand which, int64_t n, bool is_float) {
  const Tensor* t = b.in[which];
  if (t == nullptr) return false;
  const bool typed = is_float ? t->dtype == DType::kFloat : t->dtype == DType::kInt8 || t->dtype == DType::kUint8 || t->dtype == DType::kInt32;
  const int64_t count = t->count();
  if (!typed || !t->is_dense() || (count != 1 && count != n))
    b.host->fail("operand %d of a product of bytes: %lld values of element type %d, for %lld", static_cast<int>(which),
                 static_cast<long long>(count), static_cast<int>(t->dtype), static_cast<long long>(n));
  return count != 1;
}

Run prepare(Bind& b) {
  if (b.n_in != 10 || b.n_ints < 5) b.host->fail("a product of bytes takes 10 operands and 5 numbers");
  const Tensor &a = *b.in[kA], &c = *b.out[0];
  auto& g = b.make<ByteGemm>();
  const int64_t depth = b.ints[0], columns = b.ints[1];
  g.layout = BytePanels{depth, {columns}};
  if (a.rank < 1 || c.rank != a.rank || a.dims[a.rank - 1] != depth || c.dims[c.rank - 1] != columns)
    b.host->fail("[.., %lld] times [%lld, %lld] in a result of rank %d", static_cast<long long>(a.rank < 1 ? -1 : a.dims[a.rank - 1]),
                 static_cast<long long>(depth), static_cast<long long>(columns), c.rank);
  if (a.dtype != DType::kUint8 && a.dtype != DType::kInt8) b.host->fail("a product of bytes of element type %d", static_cast<int>(a.dtype));
  if (c.dtype != DType::kFloat && c.dtype != DType::kInt32 && c.dtype != DType::kUint8 && c.dtype != DType::kInt8)
    b.host->fail("a product of bytes in element type %d", static_cast<int>(c.dtype));
  if (b.in[kB]->count() < g.layout.bytes()) b.host->fail("%lld bytes of weights", static_cast<long long>(b.in[kB]->count()));
  check_rows(b, a, "the left side");
  check_rows(b, c, "the result");
  int64_t a_strides[kMaxRank], row_strides[kMaxRank], step = 1;
  leading_strides(b, a, a.rank - 1, c, c.rank - 1, a_strides);
  for (int i = c.rank - 2; i >= 0; --i) row_strides[i] = step, step *= c.dims[i];
  g.row_scales = has_many(b, kScaleA, step, true);
  g.row_zeros = has_many(b, kZeroA, step, false);
  g.column_scales = has_many(b, kScaleB, columns, true);
  g.column_zeros = has_many(b, kZeroB, columns, false);
  has_many(b, kScaleY, 1, true);
  has_many(b, kZeroY, 1, false);
  g.extent = make_extent(b, c, a_strides, row_strides, true);
  g.end = make_end(b, columns, b.ints[2], b.ints[3]);
  g.end.residual_row = g.extent.rows.residual;
  g.quantizes = (b.ints[3] & kQuantizesEnd) != 0;
  if (g.quantizes) {
    const bool is_byte = c.dtype == DType::kUint8 || c.dtype == DType::kInt8;
    if (!is_byte || b.n_ints != 6 || b.n_floats != 5) b.host->fail("a product is not quantized to element type %d", static_cast<int>(c.dtype));
    g.rounding = byte_rounding(static_cast<float>(b.floats[4]), static_cast<int32_t>(b.ints[5]), c.dtype == DType::kInt8);
  }
  g.a_signed = a.dtype == DType::kInt8;
  g.b_unsigned = b.ints[4] != 0;
  const int64_t rows = g.extent.rows.size;
  g.block_rows = rows > 0 ? rows : 1;
  if (g.a_signed || evicts_itself(g.extent.rows.a / 4, rows, columns)) {
    g.copied_stride = (depth + 63) / 64 * 64 + 64;
    const int64_t fit = (int64_t{256} << 10) / g.copied_stride / kTileRows * kTileRows;
    if (g.block_rows > fit) g.block_rows = fit < 2 * kTileRows ? 2 * kTileRows : fit;
    g.row_bytes = g.block_rows * g.copied_stride;
  }
  b.need_scratch(g.row_bytes + 12 * g.block_rows + 64);
  g.splits_rows = g.layout.panels.count() < 2 * b.threads || rows * depth > (int64_t{1} << 20);
  g.grain_rows = grain_of(depth * columns / 4);
  if (g.grain_rows < kTileRows) g.grain_rows = kTileRows;
  g.grain_panels = grain_of(rows * depth * kPanel / 4);
  return run;
}

const RegisterKernel gemm_bytes{"gemm.u8s8", prepare, shape_packed};

}  // namespace
}  // namespace graphopt
