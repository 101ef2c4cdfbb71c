// `matmul`: the product of two operands that are made at run time; numpy's rules for batches and vectors.
//
// Both may have any strides. B is copied into one panel at a time, transposed in blocks where it must be, or read in
// place where its rows are contiguous and few rows of A would pay for the copy. A is copied only if its rows are not
// contiguous. A few rows against a transposed B are dot products along K, against a wide B sums of its rows.
// 16-bit floats are widened by the copies and accumulate in 32 bits; other element types: gemm_plain.cpp.
#include "ops/gemm_matmul.h"
#include "ops/gemm_packed.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

constexpr int kDotRows = 4, kDotColumns = 4;
constexpr int kStreamedRows = 16;

struct Matmul {
  Extent extent;
  int64_t depth, columns;
  int64_t a_step, b_row, b_step;  // strides along K, K, N
  DType a_dtype, b_dtype;
  End end;
  int64_t copied_stride;  // of A; 0: used in place
  int64_t block_rows, panel_offset;
  int64_t group;  // panels that are packed at once
  int64_t grain_rows, grain_panels, grain_batches;
  bool b_in_place, splits_rows, splits_batches;
};

// Where one batch begins.
struct Operands {
  const char *a, *b;
  EndData data;
};

// Panels first..last, a group of them at a time where B lies in rows: more of a row is then read at once.
void pack_panels(const Matmul& m, const char* from, int64_t first, int64_t last, float* packed) {
  const Panels panels{m.columns};
  with_floats(m.b_dtype, from, [&](auto* b) {
    constexpr int64_t kRows = 64;
    const int64_t step = m.b_step == 1 ? kRows : m.depth;
    for (int64_t k = 0; k < m.depth; k += step)
      for (int64_t p = first; p < last; ++p) {
        const int64_t column = p * kPanel, width = panels.width(p), left = m.columns - column;
        copy_block(b + column * m.b_step + k * m.b_row, m.b_row, m.b_step, m.depth - k < step ? m.depth - k : step,
                   left < width ? left : width, width, packed + (p - first) * kPanel * m.depth + k * width, width);
      }
  });
}

void run_block(const Matmul& m, const Operands& at, int64_t first, int64_t last, int64_t panel, int64_t end_panel, char* scratch) {
  PanelEnds ends(m.end, at.data);
  const Panels panels{m.columns};
  float* copied = reinterpret_cast<float*>(scratch);
  float* packed = reinterpret_cast<float*>(scratch + m.panel_offset);
  const int64_t a_row = m.extent.rows.a;
  for (int64_t begin = first; begin < last; begin += m.block_rows) {
    const int64_t rows = last - begin < m.block_rows ? last - begin : m.block_rows;
    const float* from = reinterpret_cast<const float*>(at.a) + begin * a_row;
    int64_t stride = a_row;
    if (m.copied_stride != 0) {
      with_floats(m.a_dtype, at.a, [&](auto* a) {
        copy_block(a + begin * a_row, a_row, m.a_step, rows, m.depth, m.depth, copied, m.copied_stride);
      });
      from = copied;
      stride = m.copied_stride;
    }
    for (int64_t p = panel; p < end_panel; ++p) {
      const int64_t column = p * kPanel, width = panels.width(p), left = m.columns - column;
      const float* w = packed;
      int64_t w_stride = width;
      if (m.b_in_place && left >= width) {
        w = reinterpret_cast<const float*>(at.b) + column;
        w_stride = m.b_row;
      } else {
        if ((p - panel) % m.group == 0) pack_panels(m, at.b, p, end_panel < p + m.group ? end_panel : p + m.group, packed);
        w += (p - panel) % m.group * kPanel * m.depth;
      }
      ends.begin(column);
      for_row_tiles(rows, [&](int64_t row, int size) {
        const Tile<float> tile = kTiles<float>.of[ends.vectors() - 1][size - 1];
        ends.run(begin + row, size, [&](float* c, int64_t c_stride, const TileEnd& end) {
          tile(m.depth, from + row * stride, stride, w, w_stride, row == 0 && w != packed, c, c_stride, end);
        });
      });
    }
  }
}

template <int rows>
void dot_columns(const Matmul& m, const float* a, const float* b, int columns, float* sums) {
  const int64_t a_stride = m.extent.rows.a, whole = m.depth / kLanes * kLanes;
  const int tail = static_cast<int>(m.depth - whole);
  for (int j = 0; j < columns; j += kDotColumns) {
    vf acc[rows][kDotColumns] = {};
    const float* at[kDotColumns];
    for (int c = 0; c < kDotColumns; ++c) at[c] = b + (j + c < columns ? j + c : columns - 1) * m.b_step;
    for (int64_t k = 0; k < whole; k += kLanes)
#pragma GCC unroll 4
      for (int c = 0; c < kDotColumns; ++c) {
        const vf y = load(at[c] + k);
#pragma GCC unroll 4
        for (int i = 0; i < rows; ++i) acc[i][c] += load(a + i * a_stride + k) * y;
      }
    if (tail > 0)
      for (int c = 0; c < kDotColumns; ++c)
        for (int i = 0; i < rows; ++i) acc[i][c] += load_first(a + i * a_stride + whole, tail) * load_first(at[c] + whole, tail);
    for (int i = 0; i < rows; ++i)
      for (int c = 0; c < kDotColumns; ++c) sums[i * kPanel + j + c] = sum_of(acc[i][c]);
  }
}

void run_dots(const Matmul& m, const Operands& at, int64_t first, int64_t last, int64_t panel, int64_t end_panel, char*) {
  PanelEnds ends(m.end, at.data);
  const float* a = reinterpret_cast<const float*>(at.a);
  for (int64_t p = panel; p < end_panel; ++p) {
    const int64_t column = p * kPanel;
    const int columns = static_cast<int>(m.columns - column < kPanel ? m.columns - column : kPanel);
    const float* b = reinterpret_cast<const float*>(at.b) + column * m.b_step;
    ends.begin(column);
    for (int64_t row = first; row < last; row += kDotRows) {
      const int rows = static_cast<int>(last - row < kDotRows ? last - row : kDotRows);
      const float* from = a + row * m.extent.rows.a;
      switch (rows) {
        case 1: dot_columns<1>(m, from, b, columns, ends.sums()); break;
        case 2: dot_columns<2>(m, from, b, columns, ends.sums()); break;
        case 3: dot_columns<3>(m, from, b, columns, ends.sums()); break;
        default: dot_columns<4>(m, from, b, columns, ends.sums()); break;
      }
      ends.put(row, rows);
    }
  }
}

// sums += four rows of B (or one) times as many columns of A.
template <int rows, int depth>
__attribute__((noinline)) void add_rows(const float* a, int64_t a_stride, const float* b, int64_t b_row, int64_t columns,
                                        float* sums, int64_t stride) {
  for (int64_t j = 0; j < columns; j += kLanes) {
    vf w[depth];
#pragma GCC unroll 4
    for (int k = 0; k < depth; ++k)
      w[k] = j + kLanes <= columns ? load(b + k * b_row + j) : load_first(b + k * b_row + j, static_cast<int>(columns - j));
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      vf acc = load(sums + i * stride + j);
#pragma GCC unroll 4
      for (int k = 0; k < depth; ++k) acc += broadcast(a[i * a_stride + k]) * w[k];
      store(sums + i * stride + j, acc);
    }
  }
}

template <int depth>
void add_all_rows(int rows, const float* a, int64_t a_stride, const float* b, int64_t b_row, int64_t columns, float* sums,
                  int64_t stride) {
  int i = 0;
  for (; i + 4 <= rows; i += 4) add_rows<4, depth>(a + i * a_stride, a_stride, b, b_row, columns, sums + i * stride, stride);
  a += i * a_stride;
  sums += i * stride;
  switch (rows - i) {
    case 1: return add_rows<1, depth>(a, a_stride, b, b_row, columns, sums, stride);
    case 2: return add_rows<2, depth>(a, a_stride, b, b_row, columns, sums, stride);
    case 3: return add_rows<3, depth>(a, a_stride, b, b_row, columns, sums, stride);
    default: return;
  }
}

// Few rows against a wide B: along its rows, so that memory is streamed; the sums stay in L1.
void run_streamed(const Matmul& m, const Operands& at, int64_t first, int64_t last, int64_t panel, int64_t end_panel, char*) {
  PanelEnds ends(m.end, at.data);
  const float* a = reinterpret_cast<const float*>(at.a) + first * m.extent.rows.a;
  const int rows = static_cast<int>(last - first);
  constexpr int64_t kSums = kStreamedRows * 256;
  const int64_t fit = kSums / rows / kPanel, panels = fit < 32 ? fit : 32, stride = panels * kPanel;
  for (int64_t p = panel; p < end_panel; p += panels) {
    const int64_t end = p + panels < end_panel ? p + panels : end_panel, column = p * kPanel;
    const int64_t columns = (end * kPanel < m.columns ? end * kPanel : m.columns) - column;
    const float* b = reinterpret_cast<const float*>(at.b) + column;
    alignas(64) float sums[kSums];
    std::memset(sums, 0, static_cast<size_t>(rows * stride) * sizeof(float));
    int64_t k = 0;
    for (; k + 4 <= m.depth; k += 4) add_all_rows<4>(rows, a + k, m.extent.rows.a, b + k * m.b_row, m.b_row, columns, sums, stride);
    for (; k < m.depth; ++k) add_all_rows<1>(rows, a + k, m.extent.rows.a, b + k * m.b_row, m.b_row, columns, sums, stride);
    for (int64_t q = p; q < end; ++q) {
      ends.begin(q * kPanel);
      for_row_tiles(rows, [&](int64_t row, int size) {
        for (int i = 0; i < size; ++i)
          std::memcpy(ends.sums() + i * kPanel, sums + (row + i) * stride + (q - p) * kPanel, kPanel * sizeof(float));
        ends.put(first + row, size);
      });
    }
  }
}

using Block = void (*)(const Matmul&, const Operands&, int64_t, int64_t, int64_t, int64_t, char*);

template <Block block>
void run(const Instr& i, Worker& worker) {
  const auto& m = i.as<Matmul>();
  const int64_t panels = Panels{m.columns}.count(), rows = m.extent.rows.size, batches = m.extent.batches.count();
  if (rows == 0) return;
  const auto one = [&](int64_t batch, int64_t first, int64_t last, int64_t panel, int64_t end_panel, Worker& w) {
    const Loop at = m.extent.batches.at(batch);
    Operands from{i.in[0]->data + at.a * size_of(m.a_dtype), i.in[1]->data + at.b * size_of(m.b_dtype), {}};
    from.data.c = i.out[0]->data + at.c * size_of(m.end.dtype);
    from.data.c_stride = m.extent.rows.c;
    if (m.end.has_bias) from.data.bias = i.in[2]->data;
    if (m.end.has_residual) from.data.residual = i.in[3]->data + at.residual * size_of(m.end.residual_dtype);
    block(m, from, first, last, panel, end_panel, w.scratch);
  };
  if (m.splits_batches) {
    worker.parallel(batches, m.grain_batches, [&](int64_t begin, int64_t end, Worker& w) {
      for (int64_t batch = begin; batch < end; ++batch) one(batch, 0, rows, 0, panels, w);
    });
    return;
  }
  for (int64_t batch = 0; batch < batches; ++batch) {
    if (m.splits_rows) {
      worker.parallel(rows, m.grain_rows, [&](int64_t begin, int64_t end, Worker& w) { one(batch, begin, end, 0, panels, w); });
    } else {
      worker.parallel(panels, m.grain_panels, [&](int64_t begin, int64_t end, Worker& w) { one(batch, 0, rows, begin, end, w); });
    }
  }
}

Run prepare(Bind& b) {
  const Factors f = make_factors(b);
  if (!is_float(f.a.dtype)) return prepare_plain(b, f);
  if (Run strassen = prepare_strassen(b, f)) return strassen;
  auto& m = b.make<Matmul>();
  m.extent = f.extent;
  m.depth = f.depth, m.columns = f.columns;
  m.a_step = f.a_step, m.b_row = f.b_row, m.b_step = f.b_step;
  m.a_dtype = f.a.dtype, m.b_dtype = f.b.dtype;
  m.end = make_end(b, f.columns, b.ints[0], b.ints[1]);
  const int64_t rows = m.extent.rows.size;
  m.end.residual_row = m.extent.rows.residual;
  m.block_rows = rows > 0 ? rows : 1;
  const bool floats = m.a_dtype == DType::kFloat && m.b_dtype == DType::kFloat;
  const bool streams = floats && rows <= kStreamedRows && m.a_step == 1 && m.b_step == 1 && m.columns >= 4 * kPanel;
  const bool dots = floats && rows <= (m.depth < 256 ? kDotRows : 3 * kDotRows) && m.a_step == 1 && m.b_row == 1 && m.b_step != 1;
  const bool tiles = !dots && !streams;
  if (tiles && (m.a_step != 1 || m.a_dtype != DType::kFloat || evicts_itself(m.extent.rows.a, rows, m.columns))) {
    m.copied_stride = copied_stride(m.depth);
    m.panel_offset = (m.block_rows * m.copied_stride * 4 + 63) / 64 * 64;
  }
  // A copy of a panel costs a few rows' time, and pays where the rows of B lie far apart.
  m.b_in_place = m.b_dtype == DType::kFloat && m.b_step == 1 && rows <= 2 * kTileRows;
  const int64_t fit = (int64_t{256} << 10) / (m.depth * kPanel * 4 + 1);
  m.group = m.b_step != 1 || m.b_in_place || fit < 1 ? 1 : fit < 8 ? fit : 8;
  if (m.group > Panels{m.columns}.count()) m.group = Panels{m.columns}.count();
  if (tiles) b.need_scratch(m.panel_offset + m.group * m.depth * kPanel * 4 + 64);
  m.splits_batches = m.extent.batches.count() >= 2 * b.threads;
  m.splits_rows = tiles && Panels{m.columns}.count() < 2 * b.threads;
  m.grain_batches = grain_of(rows * m.depth * m.columns);
  m.grain_rows = grain_of(m.depth * m.columns);
  if (m.grain_rows < kTileRows) m.grain_rows = kTileRows;
  m.grain_panels = grain_of(rows * m.depth * kPanel);
  return streams ? run<run_streamed> : dots ? run<run_dots> : run<run_block>;
}

const RegisterKernel matmul{"matmul", prepare, shape_matmul};

}  // namespace
}  // namespace graphopt
