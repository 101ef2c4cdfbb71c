// Product with packed weights: C[.., M, N] = end(A[.., M, K] * B[K, N]).
//
// Loop order: panels of B outside, so that each is read from memory once; tiles of rows inside; all of K in one go.
// Measured on a core of 115 GF: 105-112 GF from 10 rows on.
#pragma once
#include "ops/gemm_end.h"
#include "ops/gemm_pack.h"

namespace graphopt {

// Operands: A, packed B, bias [N], residual, scales of columns [N] (all but A and B may be absent); ints [K, N, activation, flags]; floats [alpha, p, q, beta].
struct PackedGemm {
  Extent extent;
  int64_t depth, a_step;  // stride of A along K
  Panels panels;
  End end;
  DType a_dtype;
  // A is copied in blocks of rows where it does not lie as tiles want it.
  int64_t copied_stride;  // 0: used in place
  int64_t block_rows;
  int64_t grain_rows, grain_panels, grain_batches;
  bool splits_rows, splits_batches, has_scales;
};

constexpr int64_t kPieceOfWork = 400000;  // multiply-adds that are worth another thread

inline int64_t grain_of(int64_t work) {
  const int64_t grain = work > 0 ? kPieceOfWork / work : kPieceOfWork;
  return grain < 1 ? 1 : grain;
}

// Whether rows that lie 4 KiB apart push each other out of L1, and N is large enough to pay for a copy.
inline bool evicts_itself(int64_t stride, int64_t rows, int64_t columns) {
  return rows > 8 && columns >= 4 * kPanel && stride * 4 % 4096 == 0;
}

inline int64_t copied_stride(int64_t depth) {
  const int64_t stride = (depth + 15) / 16 * 16;
  return stride * 4 % 4096 == 0 ? stride + 16 : stride;
}

template <class Weight>
int64_t packed_bytes(int64_t depth, Panels panels) {
  return depth * panels.padded() * static_cast<int64_t>(sizeof(Weight));
}

inline void check_rows(const Bind& b, const Tensor& t, const char* what) {
  const int last = t.rank - 1;
  if (t.rank > 0 && t.dims[last] > 1 && t.strides[last] != 1 && t.count() > 0) b.host->fail("the rows of %s have stride %lld", what, static_cast<long long>(t.strides[last]));
}

inline PackedGemm& prepare_packed(Bind& b) {
  const Tensor &a = *b.in[0], &c = *b.out[0];
  if (b.n_ints != 4) b.host->fail("a product takes 4 numbers, not %d", b.n_ints);
  auto& g = b.make<PackedGemm>();
  g.depth = b.ints[0];
  g.panels = Panels{b.ints[1]};
  const int64_t columns = b.ints[1];
  if (a.rank < 1 || c.rank != a.rank || a.dims[a.rank - 1] != g.depth || c.dims[c.rank - 1] != columns)
    b.host->fail("[.., %lld] times [%lld, %lld] gives [.., %lld]", static_cast<long long>(a.rank < 1 ? -1 : a.dims[a.rank - 1]),
                 static_cast<long long>(g.depth), static_cast<long long>(columns), static_cast<long long>(c.rank < 1 ? -1 : c.dims[c.rank - 1]));
  if (!is_float(a.dtype) || !is_float(c.dtype)) b.host->fail("a product of element type %d", static_cast<int>(a.dtype));
  check_rows(b, c, "the result");
  if (b.has(2)) check_rows(b, *b.in[2], "the bias");
  if (b.has(2) && (b.in[2]->rank != 1 || b.in[2]->dims[0] != columns)) b.host->fail("a bias for %lld columns", static_cast<long long>(columns));
  g.has_scales = b.has(4);
  if (g.has_scales && (b.in[4]->dtype != DType::kFloat || b.in[4]->count() != columns || !b.in[4]->is_dense()))
    b.host->fail("scales for %lld columns", static_cast<long long>(columns));
  int64_t a_strides[kMaxRank];
  leading_strides(b, a, a.rank - 1, c, c.rank - 1, a_strides);
  g.extent = make_extent(b, c, a_strides, nullptr);
  g.end = make_end(b, columns, b.ints[2], b.ints[3]);
  g.end.residual_row = g.extent.rows.residual;
  g.a_dtype = a.dtype;
  g.a_step = a.dims[a.rank - 1] > 1 ? a.strides[a.rank - 1] : 1;
  const int64_t rows = g.extent.rows.size;
  g.block_rows = rows > 0 ? rows : 1;
  // A few rows leave panels to split: each thread then keeps its part of the weights in its own cache.
  g.splits_batches = g.extent.batches.count() >= 2 * b.threads;
  g.splits_rows = g.panels.count() < 2 * b.threads || rows * g.depth * 4 > (int64_t{1} << 20);
  g.grain_batches = grain_of(rows * g.depth * columns);
  g.grain_rows = grain_of(g.depth * columns);
  if (g.grain_rows < kTileRows) g.grain_rows = kTileRows;
  g.grain_panels = grain_of(rows * g.depth * kPanel);
  return g;
}

// The rows [first, last) of the panels [panel, end_panel) of one batch.
using PackedBlock = void (*)(const PackedGemm& g, const char* a, const char* packed, const EndData& data, int64_t first,
                             int64_t last, int64_t panel, int64_t end_panel, char* scratch);

template <class Weight>
void run_packed_block(const PackedGemm& g, const char* a, const char* packed, const EndData& data, int64_t first,
                      int64_t last, int64_t panel, int64_t end_panel, char* scratch) {
  const auto* weights = reinterpret_cast<const Weight*>(packed);
  PanelEnds ends(g.end, data);
  const int64_t a_row = g.extent.rows.a;
  for (int64_t begin = first; begin < last; begin += g.block_rows) {
    const int64_t rows = last - begin < g.block_rows ? last - begin : g.block_rows;
    const float* from = reinterpret_cast<const float*>(a) + begin * a_row;
    int64_t stride = a_row;
    if (g.copied_stride != 0) {
      float* to = reinterpret_cast<float*>(scratch);
      with_floats(g.a_dtype, a, [&](auto* typed) {
        copy_block(typed + begin * a_row, a_row, g.a_step, rows, g.depth, g.depth, to, g.copied_stride);
      });
      from = to;
      stride = g.copied_stride;
    }
    for (int64_t p = panel; p < end_panel; ++p) {
      const Weight* w = weights + p * kPanel * g.depth;
      ends.begin(p * kPanel);
      for_row_tiles(rows, [&](int64_t row, int size) {
        const Tile<Weight> tile = kTiles<Weight>.of[ends.vectors() - 1][size - 1];
        ends.run(begin + row, size, [&](float* c, int64_t c_stride, const TileEnd& end) {
          tile(g.depth, from + row * stride, stride, w, g.panels.width(p), row == 0, c, c_stride, end);
        });
      });
    }
  }
}

template <PackedBlock block>
void run_packed(const Instr& i, Worker& worker) {
  const auto& g = i.as<PackedGemm>();
  const int64_t panels = g.panels.count(), rows = g.extent.rows.size, batches = g.extent.batches.count();
  const auto run = [&](int64_t batch, int64_t first, int64_t last, int64_t panel, int64_t end_panel, Worker& w) {
    const Loop at = g.extent.batches.at(batch);
    EndData data;
    data.c = i.out[0]->data + at.c * size_of(g.end.dtype);
    data.c_stride = g.extent.rows.c;
    if (g.end.has_bias) data.bias = i.in[2]->data;
    if (g.end.has_residual) data.residual = i.in[3]->data + at.residual * size_of(g.end.residual_dtype);
    if (g.has_scales) data.scale = i.in[4]->as<float>();
    block(g, i.in[0]->data + at.a * size_of(g.a_dtype), i.in[1]->data, data, first, last, panel, end_panel, w.scratch);
  };
  if (g.splits_batches) {
    worker.parallel(batches, g.grain_batches, [&](int64_t begin, int64_t end, Worker& w) {
      for (int64_t batch = begin; batch < end; ++batch) run(batch, 0, rows, 0, panels, w);
    });
    return;
  }
  for (int64_t batch = 0; batch < batches; ++batch) {
    if (g.splits_rows) {
      worker.parallel(rows, g.grain_rows, [&](int64_t begin, int64_t end, Worker& w) { run(batch, begin, end, 0, panels, w); });
    } else {
      worker.parallel(panels, g.grain_panels, [&](int64_t begin, int64_t end, Worker& w) { run(batch, 0, rows, begin, end, w); });
    }
  }
}

inline void check_packed(const Bind& b, const PackedGemm& g, int64_t bytes) {
  if (b.in[1]->count() < bytes)
    b.host->fail("%lld bytes of weights for %lld x %lld", static_cast<long long>(b.in[1]->count()), static_cast<long long>(g.depth),
                 static_cast<long long>(g.panels.columns));
}

// A has to be copied in blocks of rows, `bytes` for an element.
inline void copy_rows(Bind& b, PackedGemm& g, int64_t stride, int64_t bytes) {
  const int64_t rows = g.extent.rows.size;
  g.copied_stride = stride;
  const int64_t fit = (int64_t{512} << 10) / (stride * bytes + 1) / kTileRows * kTileRows;
  g.block_rows = fit < 2 * kTileRows ? 2 * kTileRows : fit;
  if (g.block_rows > rows) g.block_rows = rows > 0 ? rows : 1;
  b.need_scratch(g.block_rows * stride * bytes + 64);
}

template <class Weight>
Run prepare_packed_as(Bind& b) {
  PackedGemm& g = prepare_packed(b);
  check_packed(b, g, packed_bytes<Weight>(g.depth, g.panels));
  if (g.a_step != 1 || g.a_dtype != DType::kFloat || evicts_itself(g.extent.rows.a, g.extent.rows.size, g.panels.columns))
    copy_rows(b, g, copied_stride(g.depth), 4);
  return run_packed<run_packed_block<Weight>>;
}

inline void shape_packed(Bind& b) {
  Tensor& c = *b.out[0];
  c.rank = b.in[0]->rank;
  for (int i = 0; i < c.rank; ++i) c.dims[i] = b.in[0]->dims[i];
  if (c.rank > 0) c.dims[c.rank - 1] = b.ints[1];
}

}  // namespace graphopt
