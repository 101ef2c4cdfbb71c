// What follows a matrix product: bias, residual, activation; parameters and checks that all forms of it share.
#pragma once
#include <cmath>
#include <limits>

#include "engine/abi.h"
#include "ops/gemm_tile.h"
#include "simd/rounding.h"

namespace graphopt {

// Numbers are written by graphopt/lowering/operators/linear.py. Parameters p, q in brackets.
enum class Activation : int32_t {
  kNone = 0, kRelu = 1, kClip = 2 /* low, high */, kLeakyRelu = 3 /* alpha */, kSigmoid = 4, kTanh = 5, kGelu = 6,
  kGeluTanh = 7, kSilu = 8 /* alpha: x * sigmoid(alpha * x) */, kHardSigmoid = 9 /* alpha, beta */, kHardSwish = 10,
  kElu = 11 /* alpha */, kSoftplus = 12, kMish = 13, kCount = 14,
};

// A finished tile that is in L1, and where its activation goes, which may be where it is; `columns` is a multiple of
// kLanes.
struct TilePass {
  const float* from;
  int64_t from_stride;
  float* to;
  int64_t to_stride;
  int rows, columns;
};
using ActivationPass = void (*)(const TilePass& tile, float p, float q);
ActivationPass activation_pass(Activation activation);  // null for those that TileEnd's clip does

// c += residual, for a tile.
void add_residual(float* c, int64_t c_stride, int rows, int columns, const float* residual, int64_t residual_stride);

// One collapsed loop over leading dims.
struct Loop {
  int64_t size, a, b, c, residual;  // strides in elements
};

struct Loops {
  int n = 0;
  Loop of[kMaxRank];
  int64_t count() const {
    int64_t all = 1;
    for (int i = 0; i < n; ++i) all *= of[i].size;
    return all;
  }
  // Where iteration `index` begins.
  Loop at(int64_t index) const {
    Loop start{0, 0, 0, 0, 0};
    for (int i = n - 1; i >= 0; --i) {
      const int64_t step = index % of[i].size;
      index /= of[i].size;
      start.a += step * of[i].a, start.b += step * of[i].b, start.c += step * of[i].c;
      start.residual += step * of[i].residual;
    }
    return start;
  }
};

// What all products know of their result; floats are [alpha, p, q, beta]: beta times the residual.
struct End {
  int64_t columns = 0;
  float alpha = 1, p = 0, q = 0, beta = 1;
  bool clips = false, residual_first = false, has_bias = false, has_residual = false;
  float low = 0, high = 0;
  int64_t residual_row = 0, residual_column = 0;
  DType dtype = DType::kFloat, residual_dtype = DType::kFloat, bias_dtype = DType::kFloat;
  ActivationPass pass = nullptr;
};

constexpr int64_t kResidualFirst = 1, kTransposeA = 2, kTransposeB = 4;  // flags

End make_end(const Bind& b, int64_t columns, int64_t activation, int64_t flags);

// Bias, scale and residual of one run, at some batch.
struct EndData {
  const char* bias = nullptr;      // a value a column
  const float* scale = nullptr;    // a value a column, times alpha; null: 1
  float factor = 1;                // for all columns
  const char* residual = nullptr;
  char* c = nullptr;
  int64_t c_stride = 0;
  const ByteRounding* rounding = nullptr;  // not null: results become bytes
};

// Asks for what the end of a tile will add, before the tile is computed.
inline void ask_for_rows(const float* p, int64_t stride, int rows) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < kPanel; j += 16) __builtin_prefetch(p + i * stride + j);
}

// The end of the panels of one run: knows which tiles may be written straight to C.
class PanelEnds {
 public:
  PanelEnds(const End& end, const EndData& data);
  // Goes to the panel that begins with this column.
  void begin(int64_t column);
  // Vectors of the panel.
  int vectors() const { return vectors_; }
  // Has f(c, c_stride, TileEnd) compute a tile whose first row is `row`, and writes it to C.
  template <class F>
  void run(int64_t row, int rows, const F& f) {
    if (!plain_) {
      f(buffer_, int64_t{kPanel}, tile_);
      return finish(row, rows);
    }
    const float* residual = nullptr;
    if (data_.residual != nullptr) residual = reinterpret_cast<const float*>(data_.residual) + row * end_.residual_row + first_;
    tile_.residual = end_.pass == nullptr || end_.residual_first ? residual : nullptr;
    if (residual != nullptr) ask_for_rows(residual, end_.residual_row, rows);
    float* c = buffer_;
    int64_t c_stride = kPanel;
    if (data_.rounding == nullptr) c = reinterpret_cast<float*>(data_.c) + row * data_.c_stride + first_, c_stride = data_.c_stride;
    if (end_.pass == nullptr) {
      f(c, c_stride, tile_);
    } else {
      // By way of L1: C is then written once and never read, and nothing waits for its lines.
      f(buffer_, int64_t{kPanel}, tile_);
      end_.pass({buffer_, kPanel, c, c_stride, rows, columns_}, end_.p, end_.q);
      if (residual != nullptr && !end_.residual_first) add_residual(c, c_stride, rows, columns_, residual, end_.residual_row);
    }
    if (data_.rounding != nullptr) put_bytes(row, rows);
  }
  // Rows of kPanel sums for `put`.
  float* sums() { return buffer_; }
  void put(int64_t row, int rows);

 private:
  // From the buffer to C: tails of columns, other element types, residuals of any stride.
  void finish(int64_t row, int rows);
  void add_any_residual(int64_t row, int rows);
  void put_bytes(int64_t row, int rows);

  alignas(64) float bias_[kPanel];
  alignas(64) float scale_[kPanel];
  alignas(64) float buffer_[kTileRows * kPanel];
  TileEnd tile_;
  const End& end_;
  const EndData data_;
  int64_t first_ = 0;
  int columns_ = 0, vectors_ = 0;
  bool plain_ = false;  // whole tiles, which the kernels end themselves
};

// All dims of C but the columns, as loops that are merged where strides allow; the innermost that B does not share
// are the rows. A residual is broadcast to C.
struct Extent {
  Loops batches;
  Loop rows;
};
// a and b have a stride for each dim of C but the last, 0 where they are broadcast; no b: it has no leading dims.
// A b that lies along the rows (`by_rows`) holds values of rows.
Extent make_extent(const Bind& b, const Tensor& c, const int64_t* a_strides, const int64_t* b_strides, bool by_rows = false);
// Strides of the first `n` dims of t, which are the last of `total` dims of C's leading ones.
void leading_strides(const Bind& b, const Tensor& t, int n, const Tensor& c, int total, int64_t* strides);

}  // namespace graphopt
