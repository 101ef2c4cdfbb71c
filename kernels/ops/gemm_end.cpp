#include "ops/gemm_end.h"

namespace graphopt {
namespace {

float value_at(const char* p, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kFloat16: return to_float(reinterpret_cast<const f16*>(p)[i]);
    case DType::kBfloat16: return to_float(reinterpret_cast<const bf16*>(p)[i]);
    default: return reinterpret_cast<const float*>(p)[i];
  }
}

template <class T>
void put_row(char* c, int64_t at, const float* from, int columns) {
  T* to = reinterpret_cast<T*>(c) + at;
  int j = 0;
  for (; j + kLanes <= columns; j += kLanes) store(to + j, load(from + j));
  if (j < columns) store_first(to + j, load(from + j), columns - j);
}

void clip_rows(float* c, int rows, float low, float high) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < kPanel; j += kLanes)
      store(c + i * kPanel + j, min(broadcast(high), max(broadcast(low), load(c + i * kPanel + j))));
}

}  // namespace

void add_residual(float* c, int64_t c_stride, int rows, int columns, const float* residual, int64_t residual_stride) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; j += kLanes)
      store(c + i * c_stride + j, load(c + i * c_stride + j) + load(residual + i * residual_stride + j));
}

End make_end(const Bind& b, int64_t columns, int64_t activation, int64_t flags) {
  End end;
  end.columns = columns;
  if (b.n_floats > 0) end.alpha = static_cast<float>(b.floats[0]);
  if (b.n_floats > 1) end.p = static_cast<float>(b.floats[1]);
  if (b.n_floats > 2) end.q = static_cast<float>(b.floats[2]);
  if (b.n_floats > 3) end.beta = static_cast<float>(b.floats[3]);
  if (activation < 0 || activation >= static_cast<int64_t>(Activation::kCount))
    b.host->fail("there is no activation %lld", static_cast<long long>(activation));
  const auto kind = static_cast<Activation>(activation);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (kind == Activation::kRelu) end.clips = true, end.low = 0, end.high = kInfinity;
  if (kind == Activation::kClip) end.clips = true, end.low = end.p, end.high = end.q;
  end.pass = activation_pass(kind);
  end.residual_first = (flags & kResidualFirst) != 0;
  end.dtype = b.out[0]->dtype;
  end.has_bias = b.has(2);
  if (end.has_bias) end.bias_dtype = b.in[2]->dtype;
  if (b.has(3)) {
    const Tensor& r = *b.in[3];
    end.has_residual = true;
    end.residual_dtype = r.dtype;
    end.residual_column = r.rank > 0 && r.dims[r.rank - 1] != 1 ? r.strides[r.rank - 1] : 0;
  }
  return end;
}

PanelEnds::PanelEnds(const End& end, const EndData& data) : end_(end), data_(data) {
  for (int j = 0; j < kPanel; ++j) bias_[j] = 0, scale_[j] = end.alpha * data.factor;
}

void PanelEnds::begin(int64_t column) {
  first_ = column;
  columns_ = static_cast<int>(end_.columns - column < kPanel ? end_.columns - column : kPanel);
  vectors_ = columns_ > kLanes ? 2 : 1;
  const bool whole = columns_ == vectors_ * kLanes;
  const bool plain_residual = data_.residual == nullptr || (end_.residual_column == 1 && end_.residual_dtype == DType::kFloat && end_.beta == 1);
  plain_ = whole && plain_residual && (end_.dtype == DType::kFloat || data_.rounding != nullptr);
  tile_ = TileEnd{scale_, bias_, nullptr, end_.residual_row, !end_.residual_first, plain_ && end_.clips, end_.low, end_.high};
  if (data_.scale != nullptr && whole && end_.alpha == 1)
    tile_.scale = data_.scale + column;
  else if (data_.scale != nullptr)
    for (int j = 0; j < columns_; ++j) scale_[j] = end_.alpha * data_.scale[column + j];
  if (data_.bias == nullptr) return;
  if (whole && end_.bias_dtype == DType::kFloat) {
    tile_.bias = reinterpret_cast<const float*>(data_.bias) + column;
  } else {
    for (int j = 0; j < columns_; ++j) bias_[j] = value_at(data_.bias, end_.bias_dtype, column + j);
  }
}

void PanelEnds::add_any_residual(int64_t row, int rows) {
  for (int i = 0; i < rows; ++i) {
    const int64_t start = (row + i) * end_.residual_row + first_ * end_.residual_column;
    for (int j = 0; j < columns_; ++j)
      buffer_[i * kPanel + j] += end_.beta * value_at(data_.residual, end_.residual_dtype, start + j * end_.residual_column);
  }
}

void PanelEnds::put(int64_t row, int rows) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < vectors_ * kLanes; j += kLanes) {
      float* at = buffer_ + i * kPanel + j;
      store(at, load(at) * load(tile_.scale + j) + load(tile_.bias + j));
    }
  finish(row, rows);
}

void PanelEnds::put_bytes(int64_t row, int rows) {
  const ByteRounding rounding = *data_.rounding;
  for (int i = 0; i < rows; ++i)
    quantize_line(rounding, buffer_ + i * kPanel, columns_, reinterpret_cast<uint8_t*>(data_.c) + (row + i) * data_.c_stride + first_);
}

void PanelEnds::finish(int64_t row, int rows) {
  if (data_.residual != nullptr && end_.residual_first) add_any_residual(row, rows);
  if (end_.clips) clip_rows(buffer_, rows, end_.low, end_.high);
  if (end_.pass != nullptr) end_.pass({buffer_, kPanel, buffer_, kPanel, rows, vectors_ * kLanes}, end_.p, end_.q);
  if (data_.residual != nullptr && !end_.residual_first) add_any_residual(row, rows);
  if (data_.rounding != nullptr) return put_bytes(row, rows);
  for (int i = 0; i < rows; ++i) {
    const int64_t at = (row + i) * data_.c_stride + first_;
    switch (end_.dtype) {
      case DType::kFloat16: put_row<f16>(data_.c, at, buffer_ + i * kPanel, columns_); break;
      case DType::kBfloat16: put_row<bf16>(data_.c, at, buffer_ + i * kPanel, columns_); break;
      default: put_row<float>(data_.c, at, buffer_ + i * kPanel, columns_);
    }
  }
}

void leading_strides(const Bind& b, const Tensor& t, int n, const Tensor& c, int total, int64_t* strides) {
  if (n > total) b.host->fail("an operand of a product has %d leading dims, its result %d", n, total);
  for (int i = 0; i < total; ++i) {
    const int j = i - (total - n);
    strides[i] = j < 0 || t.dims[j] == 1 ? 0 : t.strides[j];
    if (j >= 0 && t.dims[j] != 1 && t.dims[j] != c.dims[i])
      b.host->fail("dim %d of an operand of a product is %lld, of its result %lld", j, static_cast<long long>(t.dims[j]),
                   static_cast<long long>(c.dims[i]));
  }
}

Extent make_extent(const Bind& b, const Tensor& c, const int64_t* a_strides, const int64_t* b_strides, bool by_rows) {
  int64_t residual[kMaxRank] = {};
  const int leading = c.rank - 1;
  if (b.has(3)) {
    const Tensor& r = *b.in[3];
    leading_strides(b, r, r.rank > 0 ? r.rank - 1 : 0, c, leading, residual);
    if (r.rank > 0 && r.dims[r.rank - 1] != 1 && r.dims[r.rank - 1] != c.dims[c.rank - 1])
      b.host->fail("%lld columns are added to a product of %lld", static_cast<long long>(r.dims[r.rank - 1]),
                   static_cast<long long>(c.dims[c.rank - 1]));
  }
  Extent extent;
  Loops& loops = extent.batches;
  for (int i = 0; i < leading; ++i) {
    if (c.dims[i] == 1) continue;
    const Loop inner{c.dims[i], a_strides[i], b_strides == nullptr ? 0 : b_strides[i], c.strides[i], residual[i]};
    Loop* outer = loops.n > 0 ? &loops.of[loops.n - 1] : nullptr;
    if (outer != nullptr && outer->a == inner.a * inner.size && outer->b == inner.b * inner.size &&
        outer->c == inner.c * inner.size && outer->residual == inner.residual * inner.size) {
      const int64_t size = outer->size * inner.size;
      *outer = inner;
      outer->size = size;
    } else {
      loops.of[loops.n++] = inner;
    }
  }
  extent.rows = Loop{1, 0, 0, 0, 0};
  if (loops.n > 0 && (by_rows || loops.of[loops.n - 1].b == 0)) extent.rows = loops.of[--loops.n];
  return extent;
}

}  // namespace graphopt
