// One level of Strassen's product for very large matrices: 7 products of halves instead of 8.
//
// Sums of quarters are formed while A and B are copied into the order that tiles read (rows and panels), and each tile
// is added to the one or two quarters of C that it belongs to while it is in L1: no further memory is touched.
// Loop order of a product: blocks of rows that stay in L2, panels, tiles.
//
// Plain product's time over this one's at n^3: 1024: 0.99, 1536: 1.04, 2048: 1.12, 3072: 1.14, 4096: 1.13. Errors are
// 2e-6 to 4e-6 of the largest result, whatever the size of a single one is: kStrassenSize keeps it to the largest.
#include "ops/gemm_matmul.h"
#include "ops/gemm_packed.h"

namespace graphopt {
namespace {

struct Strassen {
  int64_t rows, depth, columns;  // of a quarter
  int64_t a_row, b_row, c_row, s_row;
};

// A quarter of a matrix, and its sign in a sum; `of` < 0: none.
struct Part {
  int of;
  float sign;
};

struct Product {
  Part a[2], b[2], c[2];  // quarters in the order 11, 12, 21, 22
};

constexpr Part kNone{-1, 0};
constexpr Product kProducts[7] = {
    {{{0, 1}, {3, 1}}, {{0, 1}, {3, 1}}, {{0, 1}, {3, 1}}},
    {{{2, 1}, {3, 1}}, {{0, 1}, kNone}, {{2, 1}, {3, -1}}},
    {{{0, 1}, kNone}, {{1, 1}, {3, -1}}, {{1, 1}, {3, 1}}},
    {{{3, 1}, kNone}, {{2, 1}, {0, -1}}, {{0, 1}, {2, 1}}},
    {{{0, 1}, {1, 1}}, {{3, 1}, kNone}, {{0, -1}, {1, 1}}},
    {{{2, 1}, {0, -1}}, {{0, 1}, {1, 1}}, {{3, 1}, kNone}},
    {{{1, 1}, {3, -1}}, {{2, 1}, {3, 1}}, {{0, 1}, kNone}},
};

const float* quarter(const float* m, Part part, int64_t rows, int64_t columns, int64_t row) {
  return m + (part.of / 2) * rows * row + (part.of % 2) * columns;
}

// to = first + sign * second, a row of n.
void add_row(const float* first, const float* second, float sign, int64_t n, float* to) {
  if (second == nullptr) {
    std::memcpy(to, first, static_cast<size_t>(n) * sizeof(float));
  } else {
    for (int64_t k = 0; k < n; ++k) to[k] = first[k] + sign * second[k];
  }
}

void sum_rows(const Strassen& s, const float* a, const Product& p, int64_t begin, int64_t end, float* to) {
  const float* first = quarter(a, p.a[0], s.rows, s.depth, s.a_row);
  const float* second = p.a[1].of < 0 ? nullptr : quarter(a, p.a[1], s.rows, s.depth, s.a_row);
  for (int64_t i = begin; i < end; ++i)
    add_row(first + i * s.a_row, second == nullptr ? nullptr : second + i * s.a_row, p.a[1].sign, s.depth, to + i * s.s_row);
}

// Rows [begin, end) of all panels: B is read along its rows.
void sum_panels(const Strassen& s, const float* b, const Product& p, int64_t begin, int64_t end, float* to) {
  const float* first = quarter(b, p.b[0], s.depth, s.columns, s.b_row);
  const float* second = p.b[1].of < 0 ? nullptr : quarter(b, p.b[1], s.depth, s.columns, s.b_row);
  for (int64_t k = begin; k < end; ++k)
    for (int64_t n = 0; n < s.columns; n += kPanel) {
      const int64_t at = k * s.b_row + n;
      add_row(first + at, second == nullptr ? nullptr : second + at, p.b[1].sign, kPanel, to + n * s.depth + k * kPanel);
    }
}

void add_tile(const float* tile, int rows, float sign, bool is_first, float* c, int64_t c_row) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < kPanel; j += kLanes) {
      const vf v = load(tile + i * kPanel + j) * sign;
      store(c + i * c_row + j, is_first ? v : load(c + i * c_row + j) + v);
    }
}

// Panels [begin, end) of one product; `written` has a bit for each quarter of C that holds something.
void multiply(const Strassen& s, const float* sums, const float* panels, float* c, const Product& p, int written, int64_t begin, int64_t end) {
  alignas(64) float tile[kTileRows * kPanel], zeros[kPanel] = {}, ones[kPanel];
  for (float& one : ones) one = 1;
  const TileEnd plain{ones, zeros, nullptr, 0, false, false, 0, 0};
  const int64_t fit = (int64_t{512} << 10) / (s.s_row * 4) / kTileRows * kTileRows, block = fit < kTileRows ? kTileRows : fit;
  for (int64_t first = 0; first < s.rows; first += block) {
    const int64_t rows = s.rows - first < block ? s.rows - first : block;
    for (int64_t panel = begin; panel < end; ++panel)
      for_row_tiles(rows, [&](int64_t row, int size) {
        kTiles<float>.of[kPanelVectors - 1][size - 1](s.depth, sums + (first + row) * s.s_row, s.s_row, panels + panel * kPanel * s.depth,
                                                      kPanel, row == 0, tile, kPanel, plain);
        for (const Part part : p.c) {
          if (part.of < 0) continue;
          float* to = const_cast<float*>(quarter(c, part, s.rows, s.columns, s.c_row)) + (first + row) * s.c_row + panel * kPanel;
          add_tile(tile, size, part.sign, (written >> part.of & 1) == 0, to, s.c_row);
        }
      });
  }
}

void run(const Instr& i, Worker& worker) {
  const auto& s = i.as<Strassen>();
  const float *a = i.in[0]->as<float>(), *b = i.in[1]->as<float>();
  float* c = i.out[0]->as<float>();
  float* sums = reinterpret_cast<float*>(worker.scratch);
  float* panels = sums + s.rows * s.s_row;
  int written = 0;
  for (const Product& p : kProducts) {
    worker.parallel(s.rows, 64, [&](int64_t begin, int64_t end, Worker&) { sum_rows(s, a, p, begin, end, sums); });
    worker.parallel(s.depth, 64, [&](int64_t begin, int64_t end, Worker&) { sum_panels(s, b, p, begin, end, panels); });
    worker.parallel(s.columns / kPanel, 1, [&](int64_t begin, int64_t end, Worker&) { multiply(s, sums, panels, c, p, written, begin, end); });
    for (const Part part : p.c)
      if (part.of >= 0) written |= 1 << part.of;
  }
}

}  // namespace

Run prepare_strassen(Bind& b, const Factors& f) {
  const Extent& e = f.extent;
  const int64_t rows = e.rows.size;
  const bool plain = b.ints[0] == 0 && !b.has(2) && !b.has(3) && (b.n_floats < 1 || b.floats[0] == 1);
  const bool floats = f.a.dtype == DType::kFloat && f.c.dtype == DType::kFloat;
  const int64_t least = rows < f.depth ? rows : f.depth;
  if (!plain || !floats || e.batches.count() != 1 || f.a_step != 1 || f.b_step != 1 || rows % 2 != 0 || f.depth % 2 != 0 ||
      f.columns % (2 * kPanel) != 0 || (least < f.columns ? least : f.columns) < kStrassenSize)
    return nullptr;
  auto& s = b.make<Strassen>();
  s = Strassen{rows / 2, f.depth / 2, f.columns / 2, e.rows.a, f.b_row, e.rows.c, copied_stride(f.depth / 2)};
  b.need_scratch((s.rows * s.s_row + s.depth * s.columns) * 4 + 64);
  return run;
}

}  // namespace graphopt
