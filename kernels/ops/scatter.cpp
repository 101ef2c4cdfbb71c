// scatter_elements (data, indices, updates)      ints: axis, reduction
// scatter_nd (data, indices, updates)            ints: reduction      (0 none, 1 add, 2 mul, 3 max, 4 min)
// tensor_scatter (past, update, positions?)      ints: axis, circular
//
// The output is a copy of the data (or shares its memory) and is then written one update after another, in order: where
// two go to one place the last one stands, as in numpy, on any number of threads.
#include "ops/gather_rows.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

enum Reduction { kNone, kAdd, kMul, kMax, kMin };

template <int kReduction, class T> GRAPHOPT_INLINE T reduced(T x, T y) {
  if constexpr (kReduction == kNone) {
    return y;
  } else if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
    T z;
    from_float(reduced<kReduction>(to_float(x), to_float(y)), z);
    return z;
  } else if constexpr (kReduction == kMax) {
    return y > x || y != y ? y : x;
  } else if constexpr (kReduction == kMin) {
    return y < x || y != y ? y : x;
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    // Integers wrap around.
    const auto a = static_cast<uint64_t>(x), b = static_cast<uint64_t>(y);
    return static_cast<T>(kReduction == kAdd ? a + b : a * b);
  } else {
    return static_cast<T>(kReduction == kAdd ? x + y : x * y);
  }
}

// Calls f with an element and the number of the reduction.
template <class F> void with_reduction(Bind& b, DType dtype, int64_t reduction, const F& f) {
  bool found = reduction == kNone;
  if (reduction == kNone) with_cell_type(dtype, [&](auto cell) { f(cell, std::integral_constant<int, kNone>()); });
  else
    with_number_type(dtype, [&](auto zero) {
      found = true;
      if (reduction == kAdd) f(zero, std::integral_constant<int, kAdd>());
      else if (reduction == kMul) f(zero, std::integral_constant<int, kMul>());
      else if (reduction == kMax) f(zero, std::integral_constant<int, kMax>());
      else if (reduction == kMin) f(zero, std::integral_constant<int, kMin>());
      else found = false;
    });
  if (!found)
    b.host->fail("reduction %lld of element type %d", static_cast<long long>(reduction), static_cast<int>(dtype));
}

void check_output(Bind& b) {
  const Tensor &data = *b.in[0], &out = *b.out[0];
  bool fits = data.rank == out.rank && data.dtype == out.dtype;
  for (int d = 0; fits && d < data.rank; ++d) fits = data.dims[d] == out.dims[d];
  if (!fits) b.host->fail("%s is scattered into %s", shape_text(data).text, shape_text(out).text);
}

void start_from(const CopyPlan& plan, const Instr& i, Worker& w) {
  if (i.in[0]->data != i.out[0]->data) copy_parallel(plan, i.in[0]->data, i.out[0]->data, w);
}

struct ScatterElements {
  CopyPlan plan;
  Odometer<3> lines;  // all dims but the last: indices, updates, output (but the axis); in elements
  int64_t n, step, along;
  int axis;
};

template <class T, int kReduction> void run_scatter_elements(const Instr& i, Worker& w) {
  const auto& p = i.as<ScatterElements>();
  start_from(p.plan, i, w);
  const Tensor &indices = *i.in[1], &updates = *i.in[2], &out = *i.out[0];
  const int last = out.rank - 1;
  const int64_t width = indices.dims[last], dim = out.dims[p.axis];
  if (width == 0 || p.n == 0) return;
  Odometer<3> line = p.lines;
  line.seek(0);
  for (int64_t k = 0; k < p.n; ++k, line.next()) {
    const T* x = updates.as<T>() + line.at[1];
    T* y = out.as<T>() + line.at[2];
    for (int64_t j = 0; j < width; ++j) {
      const int64_t index = index_at(indices, line.at[0] + j * indices.strides[last]);
      T& at = y[index_within(*w.host, index, dim, p.axis) * p.step + j * p.along];
      at = reduced<kReduction>(at, x[j * updates.strides[last]]);
    }
  }
}

Run prepare_scatter_elements(Bind& b) {
  const Tensor &data = *b.in[0], &indices = *b.in[1], &updates = *b.in[2], &out = *b.out[0];
  check_indices(b, indices);
  check_output(b);
  auto& p = b.make<ScatterElements>();
  p.axis = axis_within(*b.host, b.ints[0], data.rank);
  bool fits = indices.rank == data.rank && updates.rank == data.rank;
  for (int d = 0; fits && d < data.rank; ++d)
    fits = indices.dims[d] == updates.dims[d] && (d == p.axis || indices.dims[d] <= data.dims[d]);
  if (!fits)
    b.host->fail("%s, indices %s, updates %s", shape_text(data).text, shape_text(indices).text, shape_text(updates).text);
  p.plan = plan_copy(data, out);
  for (int d = 0; d + 1 < out.rank; ++d)
    p.lines.add(indices.dims[d], {indices.strides[d], updates.strides[d], d == p.axis ? 0 : out.strides[d]});
  p.n = p.lines.count();
  p.step = out.strides[p.axis];
  p.along = p.axis == out.rank - 1 ? 0 : out.strides[out.rank - 1];
  Run run = nullptr;
  with_reduction(b, data.dtype, b.ints[1], [&](auto zero, auto reduction) {
    run = run_scatter_elements<decltype(zero), decltype(reduction)::value>;
  });
  return run;
}

struct ScatterNd {
  CopyPlan plan;
  RowMove row;         // without reduction
  Odometer<2> tuples;  // indices, updates; in elements
  Odometer<2> inner;   // a row with reduction: updates, output
  int64_t n, n_inner, width, between;
};

// Where the row of a tuple begins in the output, in elements.
int64_t row_of(const ScatterNd& p, const Tensor& indices, const Tensor& out, int64_t offset, const Host& host) {
  int64_t at = 0;
  for (int j = 0; j < p.width; ++j)
    at += index_within(host, index_at(indices, offset + j * p.between), out.dims[j], j) * out.strides[j];
  return at;
}

void run_scatter_rows(const Instr& i, Worker& w) {
  const auto& p = i.as<ScatterNd>();
  start_from(p.plan, i, w);
  if (p.row.bytes == 0) return;
  const Tensor& out = *i.out[0];
  const int64_t size = size_of(out.dtype);
  Odometer<2> tuple = p.tuples;
  if (p.n > 0) tuple.seek(0);
  for (int64_t k = 0; k < p.n; ++k, tuple.next()) {
    const int64_t from = tuple.at[1] * size, to = row_of(p, *i.in[1], out, tuple.at[0], *w.host) * size;
    p.row.move(p.row, i.in[2]->data, &from, out.data, &to, 1);
  }
}

template <class T, int kReduction> void run_scatter_nd(const Instr& i, Worker& w) {
  const auto& p = i.as<ScatterNd>();
  start_from(p.plan, i, w);
  if (p.n_inner == 0) return;
  const Tensor& out = *i.out[0];
  Odometer<2> tuple = p.tuples, inner = p.inner;
  if (p.n > 0) tuple.seek(0);
  for (int64_t k = 0; k < p.n; ++k, tuple.next()) {
    const T* x = i.in[2]->as<T>() + tuple.at[1];
    T* y = out.as<T>() + row_of(p, *i.in[1], out, tuple.at[0], *w.host);
    inner.seek(0);
    for (int64_t j = 0; j < p.n_inner; ++j, inner.next())
      y[inner.at[1]] = reduced<kReduction>(y[inner.at[1]], x[inner.at[0]]);
  }
}

Run prepare_scatter_nd(Bind& b) {
  const Tensor &data = *b.in[0], &indices = *b.in[1], &updates = *b.in[2], &out = *b.out[0];
  check_indices(b, indices);
  check_output(b);
  const int last = indices.rank - 1;
  const int width = indices.rank < 1 ? -1 : static_cast<int>(indices.dims[last]);
  bool fits = width >= 0 && width <= data.rank && updates.rank == last + data.rank - width;
  for (int d = 0; fits && d < updates.rank; ++d)
    fits = updates.dims[d] == (d < last ? indices.dims[d] : data.dims[width + d - last]);
  if (!fits)
    b.host->fail("%s, indices %s, updates %s", shape_text(data).text, shape_text(indices).text, shape_text(updates).text);
  auto& p = b.make<ScatterNd>();
  p.plan = plan_copy(data, out);
  p.width = width;
  p.between = indices.strides[last];
  for (int d = 0; d < last; ++d) p.tuples.add(indices.dims[d], {indices.strides[d], updates.strides[d]});
  p.n = p.tuples.count();
  for (int d = width; d < data.rank; ++d) p.inner.add(data.dims[d], {updates.strides[last + d - width], out.strides[d]});
  p.n_inner = p.inner.count();
  p.row = row_move(out.dtype, data.rank - width, data.dims + width, updates.strides + last, out.strides + width);
  if (b.ints[0] == kNone) return run_scatter_rows;
  Run run = nullptr;
  with_reduction(b, data.dtype, b.ints[0], [&](auto zero, auto reduction) {
    run = run_scatter_nd<decltype(zero), decltype(reduction)::value>;
  });
  return run;
}

struct TensorScatter {
  CopyPlan plan;
  RowMove row;
  int64_t axis;
  bool circular, has_positions;
};

// The update of batch b stands at positions[b], positions[b] + 1, ... of the axis.
void run_tensor_scatter(const Instr& i, Worker& w) {
  const auto& p = i.as<TensorScatter>();
  start_from(p.plan, i, w);
  const Tensor &update = *i.in[1], &out = *i.out[0];
  if (p.row.bytes == 0) return;
  const int axis = static_cast<int>(p.axis);
  const int64_t size = size_of(out.dtype), dim = out.dims[axis], steps = update.dims[axis];
  const Tensor* positions = p.has_positions ? i.in[2] : nullptr;
  for (int64_t batch = 0; batch < out.dims[0]; ++batch) {
    const int64_t first = positions == nullptr ? 0 : integer_at(*positions, batch);
    for (int64_t k = 0; k < steps; ++k) {
      int64_t at = first + k;
      if (p.circular && dim > 0) at = (at % dim + dim) % dim;
      if (at < 0 || at >= dim)
        w.host->fail("position %lld is out of range for axis %d of %lld elements", static_cast<long long>(at), axis,
                     static_cast<long long>(dim));
      const int64_t from = (batch * update.strides[0] + k * update.strides[axis]) * size;
      const int64_t to = (batch * out.strides[0] + at * out.strides[axis]) * size;
      p.row.move(p.row, update.data, &from, out.data, &to, 1);
    }
  }
}

Run prepare_tensor_scatter(Bind& b) {
  const Tensor &past = *b.in[0], &update = *b.in[1], &out = *b.out[0];
  check_output(b);
  auto& p = b.make<TensorScatter>();
  p.axis = axis_within(*b.host, b.ints[0], past.rank);
  p.circular = b.ints[1] != 0;
  p.has_positions = b.has(2);
  bool fits = update.rank == past.rank && p.axis > 0 && update.dtype == past.dtype;
  for (int d = 0; fits && d < past.rank; ++d) fits = d == p.axis || update.dims[d] == past.dims[d];
  fits = fits && (!b.has(2) || b.in[2]->count() == past.dims[0]);
  if (!fits) b.host->fail("%s is updated by %s along axis %lld", shape_text(past).text, shape_text(update).text,
                          static_cast<long long>(p.axis));
  int64_t dims[kMaxRank], from[kMaxRank], to[kMaxRank];
  int rank = 0;
  for (int d = 1; d < past.rank; ++d) {
    if (d == p.axis) continue;
    dims[rank] = past.dims[d];
    from[rank] = update.strides[d];
    to[rank++] = out.strides[d];
  }
  p.plan = plan_copy(past, out);
  p.row = row_move(out.dtype, rank, dims, from, to);
  return run_tensor_scatter;
}

void shape_as_data(Bind& b) { set_dims(*b.out[0], b.in[0]->rank, b.in[0]->dims); }

const RegisterKernel scatter_elements{"scatter_elements", prepare_scatter_elements, shape_as_data};
const RegisterKernel scatter_nd{"scatter_nd", prepare_scatter_nd, shape_as_data};
const RegisterKernel tensor_scatter{"tensor_scatter", prepare_tensor_scatter, shape_as_data};

}  // namespace
}  // namespace graphopt
