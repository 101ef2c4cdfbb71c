// gather (data, indices)           ints: axis
// gather_nd (data, indices)        ints: batch dims
// gather_elements (data, indices)  ints: axis
//
// Any strides, indices of int32 or int64. gather and gather_nd move rows: for a block of indices, offsets are computed
// (and checked) once, then rows move for each outer index. Rows of 768 floats: memcpy's speed.
#include "ops/gather_rows.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct Gather {
  RowMove row;
  Odometer<2> outer;    // dims before the axis: data, output; in bytes
  Odometer<2> indices;  // indices (in elements), output (in bytes)
  int64_t n_outer, n_indices, block;
  int64_t dim, step;    // of the axis; in bytes
  int axis;
};

void run_gather(const Instr& i, Worker& w) {
  const auto& p = i.as<Gather>();
  if (p.n_outer == 0 || p.n_indices == 0 || p.row.bytes == 0) return;
  const Tensor& indices = *i.in[1];
  const char* in = i.in[0]->data;
  char* out = i.out[0]->data;
  const int64_t blocks = (p.n_indices + p.block - 1) / p.block;
  const int64_t grain = (32 << 10) / (p.block * p.row.bytes) + 1;
  w.parallel(blocks * p.n_outer, grain, [&](int64_t begin, int64_t end, Worker& worker) {
    int64_t from[kRowBlock], to[kRowBlock], n = 0, known = -1;
    Odometer<2> outer = p.outer, place = p.indices;
    outer.seek(begin % p.n_outer);
    for (int64_t job = begin; job < end; ++job, outer.next()) {
      const int64_t block = job / p.n_outer;
      if (block != known) {
        known = block;
        const int64_t first = block * p.block;
        n = p.n_indices - first < p.block ? p.n_indices - first : p.block;
        place.seek(first);
        for (int64_t k = 0; k < n; ++k, place.next()) {
          from[k] = index_within(*worker.host, index_at(indices, place.at[0]), p.dim, p.axis) * p.step;
          to[k] = place.at[1];
        }
      }
      p.row.move(p.row, in + outer.at[0], from, out + outer.at[1], to, n);
    }
  });
}

Run prepare_gather(Bind& b) {
  const Tensor &data = *b.in[0], &indices = *b.in[1], &out = *b.out[0];
  check_indices(b, indices);
  const int axis = axis_within(*b.host, b.ints[0], data.rank);
  const int64_t size = size_of(data.dtype);
  if (out.rank != data.rank - 1 + indices.rank || size != size_of(out.dtype))
    b.host->fail("%s gathered by %s is not %s", shape_text(data).text, shape_text(indices).text, shape_text(out).text);
  auto& p = b.make<Gather>();
  p.axis = axis;
  p.dim = data.dims[axis];
  p.step = data.strides[axis] * size;
  for (int d = 0; d < axis; ++d) p.outer.add(data.dims[d], {data.strides[d] * size, out.strides[d] * size});
  for (int d = 0; d < indices.rank; ++d)
    p.indices.add(indices.dims[d], {indices.strides[d], out.strides[axis + d] * size});
  const int inner = data.rank - axis - 1;
  p.row = row_move(data.dtype, inner, data.dims + axis + 1, data.strides + axis + 1, out.strides + axis + indices.rank);
  p.n_outer = p.outer.count();
  p.n_indices = p.indices.count();
  p.block = p.row.bytes > 0 ? (64 << 10) / p.row.bytes : 1;
  p.block = p.block < 1 ? 1 : p.block > kRowBlock ? kRowBlock : p.block;
  if (p.n_outer * p.n_indices * p.row.bytes != out.count() * size)
    b.host->fail("%s gathered by %s is not %s", shape_text(data).text, shape_text(indices).text, shape_text(out).text);
  return run_gather;
}

void shape_gather(Bind& b) {
  const Tensor &data = *b.in[0], &indices = *b.in[1];
  Tensor& out = *b.out[0];
  const int axis = axis_within(*b.host, b.ints[0], data.rank);
  set_rank(b, out, data.rank - 1 + indices.rank);
  for (int d = 0; d < axis; ++d) out.dims[d] = data.dims[d];
  for (int d = 0; d < indices.rank; ++d) out.dims[axis + d] = indices.dims[d];
  for (int d = axis + 1; d < data.rank; ++d) out.dims[indices.rank + d - 1] = data.dims[d];
}

struct GatherNd {
  RowMove row;
  Odometer<3> tuples;  // indices (in elements), data (batch dims; in bytes), output (in bytes)
  int64_t n, width, between;  // tuples, numbers in one, stride between its numbers
  int batch;
};

void run_gather_nd(const Instr& i, Worker& w) {
  const auto& p = i.as<GatherNd>();
  if (p.row.bytes == 0) return;
  const Tensor &data = *i.in[0], &indices = *i.in[1];
  const int64_t size = size_of(data.dtype);
  w.parallel(p.n, (32 << 10) / p.row.bytes + 1, [&](int64_t begin, int64_t end, Worker& worker) {
    int64_t from[kRowBlock], to[kRowBlock];
    Odometer<3> tuple = p.tuples;
    tuple.seek(begin);
    for (int64_t first = begin; first < end; first += kRowBlock) {
      const int64_t n = end - first < kRowBlock ? end - first : kRowBlock;
      for (int64_t k = 0; k < n; ++k, tuple.next()) {
        from[k] = tuple.at[1];
        to[k] = tuple.at[2];
        for (int64_t j = 0; j < p.width; ++j) {
          const int axis = p.batch + static_cast<int>(j);
          const int64_t index = index_at(indices, tuple.at[0] + j * p.between);
          from[k] += index_within(*worker.host, index, data.dims[axis], axis) * data.strides[axis] * size;
        }
      }
      p.row.move(p.row, data.data, from, i.out[0]->data, to, n);
    }
  });
}

void shape_gather_nd(Bind& b) {
  const Tensor &data = *b.in[0], &indices = *b.in[1];
  const int64_t batch = b.ints[0];
  if (indices.rank < 1 || batch < 0 || batch >= indices.rank || batch > data.rank)
    b.host->fail("%lld batch dims of %s", static_cast<long long>(batch), shape_text(indices).text);
  const int64_t width = indices.dims[indices.rank - 1];
  if (batch + width > data.rank)
    b.host->fail("%s has not the %lld dims of an index", shape_text(data).text, static_cast<long long>(width));
  Tensor& out = *b.out[0];
  set_rank(b, out, indices.rank - 1 + data.rank - batch - width);
  for (int d = 0; d < indices.rank - 1; ++d) out.dims[d] = indices.dims[d];
  for (int64_t d = batch + width, to = indices.rank - 1; d < data.rank; ++d, ++to) out.dims[to] = data.dims[d];
}

Run prepare_gather_nd(Bind& b) {
  const Tensor &data = *b.in[0], &indices = *b.in[1], &out = *b.out[0];
  check_indices(b, indices);
  Tensor wanted = out;
  Tensor* const results[] = {&wanted};
  Bind check = b;
  check.out = results;
  shape_gather_nd(check);
  bool fits = wanted.rank == out.rank && size_of(data.dtype) == size_of(out.dtype);
  for (int d = 0; fits && d < out.rank; ++d) fits = wanted.dims[d] == out.dims[d];
  const int batch = static_cast<int>(b.ints[0]);
  for (int d = 0; fits && d < batch; ++d) fits = data.dims[d] == indices.dims[d];
  if (!fits)
    b.host->fail("%s gathered by %s is not %s", shape_text(data).text, shape_text(indices).text, shape_text(out).text);
  auto& p = b.make<GatherNd>();
  const int64_t size = size_of(data.dtype);
  const int last = indices.rank - 1;
  p.batch = batch;
  p.width = indices.dims[last];
  p.between = indices.strides[last];
  for (int d = 0; d < last; ++d)
    p.tuples.add(indices.dims[d], {indices.strides[d], d < batch ? data.strides[d] * size : 0, out.strides[d] * size});
  p.n = p.tuples.count();
  const int first = batch + static_cast<int>(p.width);
  p.row = row_move(data.dtype, data.rank - first, data.dims + first, data.strides + first, out.strides + last);
  return run_gather_nd;
}

struct GatherElements {
  Odometer<3> lines;  // all dims but the last: indices, data (but the axis), output; in elements
  int64_t n, step, along;  // lines; strides of data's axis and last dim
  int axis;
};

// One line: all indices are checked before any is used, so that both loops are vectors where strides are 1.
template <class E, class I>
void gather_line(const GatherElements& p, const Host& host, const I* index, int64_t index_step, const E* x, E* y,
                 int64_t y_step, int64_t n, int64_t dim) {
  I least = 0, most = -1;
  for (int64_t j = 0; j < n; ++j) {
    const I k = index[j * index_step];
    least = k < least ? k : least;
    most = k > most ? k : most;
  }
  if (least < -dim || most >= dim)
    for (int64_t j = 0; j < n; ++j) index_within(host, index[j * index_step], dim, p.axis);
  const auto counted = [dim](int64_t k) { return k + (k < 0 ? dim : 0); };
  if (index_step == 1 && y_step == 1 && p.step == 1 && p.along == 0) {
    for (int64_t j = 0; j < n; ++j) y[j] = x[counted(index[j])];
  } else {
    for (int64_t j = 0; j < n; ++j) y[j * y_step] = x[counted(index[j * index_step]) * p.step + j * p.along];
  }
}

template <class E, class I> void run_gather_elements(const Instr& i, Worker& w) {
  const auto& p = i.as<GatherElements>();
  const Tensor &data = *i.in[0], &indices = *i.in[1], &out = *i.out[0];
  const int last = out.rank - 1;
  const int64_t width = out.dims[last];
  if (width == 0) return;
  w.parallel(p.n, 8192 / width + 1, [&](int64_t begin, int64_t end, Worker& worker) {
    Odometer<3> line = p.lines;
    line.seek(begin);
    for (int64_t k = begin; k < end; ++k, line.next())
      gather_line(p, *worker.host, indices.as<I>() + line.at[0], indices.strides[last], data.as<E>() + line.at[1],
                  out.as<E>() + line.at[2], out.strides[last], width, data.dims[p.axis]);
  });
}

Run prepare_gather_elements(Bind& b) {
  const Tensor &data = *b.in[0], &indices = *b.in[1], &out = *b.out[0];
  check_indices(b, indices);
  auto& p = b.make<GatherElements>();
  p.axis = axis_within(*b.host, b.ints[0], data.rank);
  bool fits = data.rank == indices.rank && out.rank == data.rank && size_of(data.dtype) == size_of(out.dtype);
  for (int d = 0; fits && d < data.rank; ++d)
    fits = out.dims[d] == indices.dims[d] && (d == p.axis || indices.dims[d] <= data.dims[d]);
  if (!fits)
    b.host->fail("%s gathered by %s is not %s", shape_text(data).text, shape_text(indices).text, shape_text(out).text);
  for (int d = 0; d + 1 < out.rank; ++d)
    p.lines.add(out.dims[d], {indices.strides[d], d == p.axis ? 0 : data.strides[d], out.strides[d]});
  p.n = p.lines.count();
  p.step = data.strides[p.axis];
  p.along = p.axis == out.rank - 1 ? 0 : data.strides[out.rank - 1];
  Run run = nullptr;
  with_cell_type(data.dtype, [&](auto cell) {
    using E = decltype(cell);
    run = indices.dtype == DType::kInt32 ? run_gather_elements<E, int32_t> : run_gather_elements<E, int64_t>;
  });
  return run;
}

void shape_gather_elements(Bind& b) { set_dims(*b.out[0], b.in[1]->rank, b.in[1]->dims); }

const RegisterKernel gather{"gather", prepare_gather, shape_gather};
const RegisterKernel gather_nd{"gather_nd", prepare_gather_nd, shape_gather_nd};
const RegisterKernel gather_elements{"gather_elements", prepare_gather_elements, shape_gather_elements};

}  // namespace
}  // namespace graphopt
