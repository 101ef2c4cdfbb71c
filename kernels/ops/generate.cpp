// range (start, limit, delta)       start + i * delta, floats computed in double
// eye_like (x)                      ints: diagonal
// trilu (x, diagonal?)              ints: upper
// shape_of (x)  ints: begin, end    size_of (x)
// reverse_sequence (x, lengths)     ints: batch axis, time axis
//
// Any strides.
#include <cmath>
#include <cstring>

#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

template <class T> double as_double(T x) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) return static_cast<double>(to_float(x));
  else return static_cast<double>(x);
}

template <class T> void run_range(const Instr& i, Worker& w) {
  const T start = element_at<T>(*i.in[0], 0), delta = element_at<T>(*i.in[2], 0);
  const Tensor& out = *i.out[0];
  const int64_t step = out.strides[0];
  w.parallel(out.dims[0], 8192, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t k = begin; k < end; ++k) {
      if constexpr (std::is_integral_v<T>) {
        const uint64_t distance = static_cast<uint64_t>(k) * static_cast<uint64_t>(delta);
        out.as<T>()[k * step] = static_cast<T>(static_cast<uint64_t>(start) + distance);
      } else {
        out.as<T>()[k * step] = number_as<T>(as_double(start) + static_cast<double>(k) * as_double(delta));
      }
    }
  });
}

Run prepare_range(Bind& b) {
  if (b.out[0]->rank != 1) b.host->fail("a range of shape %s", shape_text(*b.out[0]).text);
  Run run = nullptr;
  with_number_type(b.out[0]->dtype, [&](auto zero) { run = run_range<decltype(zero)>; });
  if (run == nullptr) b.host->fail("a range of element type %d", static_cast<int>(b.out[0]->dtype));
  return run;
}

void shape_range(Bind& b) {
  int64_t n = 0;
  with_number_type(b.in[0]->dtype, [&](auto zero) {
    using T = decltype(zero);
    const T start = element_at<T>(*b.in[0], 0), limit = element_at<T>(*b.in[1], 0), delta = element_at<T>(*b.in[2], 0);
    if (as_double(delta) == 0) b.host->fail("a range with steps of 0");
    if constexpr (std::is_integral_v<T>) {
      const bool up = delta > 0;
      if (up ? limit <= start : limit >= start) return;
      const uint64_t distance = up ? static_cast<uint64_t>(limit) - static_cast<uint64_t>(start)
                                   : static_cast<uint64_t>(start) - static_cast<uint64_t>(limit);
      const uint64_t step = up ? static_cast<uint64_t>(delta) : 0 - static_cast<uint64_t>(delta);
      n = static_cast<int64_t>((distance - 1) / step + 1);
    } else {
      const double steps = std::ceil((as_double(limit) - as_double(start)) / as_double(delta));
      if (!(steps < 0x1p62)) b.host->fail("a range of %g elements", steps);
      n = steps > 0 ? static_cast<int64_t>(steps) : 0;
    }
  });
  set_dims(*b.out[0], 1, &n);
}

struct Diagonal {
  CopyPlan plan;
  int64_t k;
  bool upper;
};

template <class T> void run_eye_like(const Instr& i, Worker& w) {
  const auto& p = i.as<Diagonal>();
  const Tensor& out = *i.out[0];
  const T zero = number_as<T>(0);
  copy_parallel(p.plan, reinterpret_cast<const char*>(&zero), out.data, w);
  for (int64_t row = 0; row < out.dims[0]; ++row) {
    const int64_t column = row + p.k;
    if (column < 0 || column >= out.dims[1]) continue;
    out.as<T>()[row * out.strides[0] + column * out.strides[1]] = number_as<T>(1);
  }
}

Run prepare_eye_like(Bind& b) {
  const Tensor& out = *b.out[0];
  if (out.rank != 2) b.host->fail("an identity of shape %s", shape_text(out).text);
  const int64_t still[kMaxRank] = {};
  b.make<Diagonal>() = {plan_copy(out.dtype, 2, out.dims, still, out.strides), b.ints[0], false};
  Run run = nullptr;
  with_number_type(out.dtype, [&](auto zero) { run = run_eye_like<decltype(zero)>; });
  if (run == nullptr) b.host->fail("an identity of element type %d", static_cast<int>(out.dtype));
  return run;
}

void shape_as_input(Bind& b) { set_dims(*b.out[0], b.in[0]->rank, b.in[0]->dims); }

struct Trilu {
  Odometer<2> matrices;  // data, output; in elements
  int64_t n;
  bool upper, has_diagonal;
};

template <class E> void run_trilu(const Instr& i, Worker& w) {
  const auto& p = i.as<Trilu>();
  const Tensor &in = *i.in[0], &out = *i.out[0];
  const int64_t k = p.has_diagonal ? integer_at(*i.in[1], 0) : 0;
  const int r = out.rank - 2, c = out.rank - 1;
  const int64_t rows = out.dims[r], columns = out.dims[c];
  if (rows == 0 || columns == 0) return;
  const bool rows_are_dense = std::is_trivially_copyable_v<E> && in.strides[c] == 1 && out.strides[c] == 1;
  w.parallel(p.n * rows, 8192 / columns + 1, [&](int64_t begin, int64_t end, Worker&) {
    Odometer<2> matrix = p.matrices;
    matrix.seek(begin / rows);
    int64_t row = begin % rows;
    for (int64_t j = begin; j < end; ++j) {
      const E* x = in.as<E>() + matrix.at[0] + row * in.strides[r];
      E* y = out.as<E>() + matrix.at[1] + row * out.strides[r];
      // The first column of the upper part, or of what the lower part leaves out.
      int64_t edge = p.upper ? row + k : row + k + 1;
      edge = edge < 0 ? 0 : edge > columns ? columns : edge;
      const int64_t from = p.upper ? edge : 0, to = p.upper ? columns : edge;
      if (rows_are_dense) {
        std::memset(static_cast<void*>(y), 0, static_cast<size_t>(from) * sizeof(E));
        std::memcpy(static_cast<void*>(y + from), static_cast<const void*>(x + from),
                    static_cast<size_t>(to - from) * sizeof(E));
        std::memset(static_cast<void*>(y + to), 0, static_cast<size_t>(columns - to) * sizeof(E));
      } else {
        for (int64_t q = 0; q < columns; ++q) y[q * out.strides[c]] = q >= from && q < to ? x[q * in.strides[c]] : E{};
      }
      if (++row == rows) {
        row = 0;
        matrix.next();
      }
    }
  });
}

Run prepare_trilu(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  bool fits = in.rank == out.rank && in.rank >= 2 && size_of(in.dtype) == size_of(out.dtype);
  for (int d = 0; fits && d < in.rank; ++d) fits = in.dims[d] == out.dims[d];
  if (!fits) b.host->fail("the triangle of %s is not %s", shape_text(in).text, shape_text(out).text);
  auto& p = b.make<Trilu>();
  for (int d = 0; d + 2 < in.rank; ++d) p.matrices.add(in.dims[d], {in.strides[d], out.strides[d]});
  p.n = p.matrices.count();
  p.upper = b.ints[0] != 0;
  p.has_diagonal = b.has(1);
  Run run = nullptr;
  with_cell_type(in.dtype, [&](auto cell) { run = run_trilu<decltype(cell)>; });
  return run;
}

void run_shape_of(const Instr& i, Worker&) {
  const int64_t begin = i.as<int64_t>();
  for (int64_t k = 0; k < i.out[0]->dims[0]; ++k) element_at<int64_t>(*i.out[0], k) = i.in[0]->dims[begin + k];
}

int64_t bound(int64_t x, int64_t rank) { return x < 0 ? (x + rank < 0 ? 0 : x + rank) : x > rank ? rank : x; }

void shape_shape_of(Bind& b) {
  const int64_t rank = b.in[0]->rank, begin = bound(b.ints[0], rank), end = bound(b.ints[1], rank);
  const int64_t n = end > begin ? end - begin : 0;
  set_dims(*b.out[0], 1, &n);
}

Run prepare_shape_of(Bind& b) {
  b.make<int64_t>() = bound(b.ints[0], b.in[0]->rank);
  return run_shape_of;
}

void run_size_of(const Instr& i, Worker&) { *i.out[0]->as<int64_t>() = i.in[0]->count(); }
Run prepare_size_of(Bind&) { return run_size_of; }
void shape_size_of(Bind& b) { b.out[0]->rank = 0; }

struct Reverse {
  CopyPlan rest;       // one step of one sequence
  int batch, time;
  int rank;
};

void run_reverse_sequence(const Instr& i, Worker& w) {
  const auto& p = i.as<Reverse>();
  const Tensor &in = *i.in[0], &out = *i.out[0];
  const int64_t size = size_of(in.dtype), steps = in.dims[p.time];
  for (int64_t s = 0; s < in.dims[p.batch]; ++s) {
    const int64_t length = integer_at(*i.in[1], s);
    if (length < 0 || length > steps)
      w.host->fail("sequence %lld has length %lld of %lld", static_cast<long long>(s), static_cast<long long>(length),
                   static_cast<long long>(steps));
    w.parallel(steps, (32 << 10) / (p.rest.bytes + 1) + 1, [&](int64_t begin, int64_t end, Worker&) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t from = t < length ? length - 1 - t : t;
        copy_all(p.rest, in.data + (s * in.strides[p.batch] + from * in.strides[p.time]) * size,
                 out.data + (s * out.strides[p.batch] + t * out.strides[p.time]) * size);
      }
    });
  }
}

Run prepare_reverse_sequence(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  auto& p = b.make<Reverse>();
  p.batch = axis_within(*b.host, b.ints[0], in.rank);
  p.time = axis_within(*b.host, b.ints[1], in.rank);
  bool fits = in.rank == out.rank && p.batch != p.time && b.in[1]->count() == in.dims[p.batch];
  int64_t dims[kMaxRank], from[kMaxRank], to[kMaxRank];
  int rank = 0;
  for (int d = 0; fits && d < in.rank; ++d) {
    fits = in.dims[d] == out.dims[d];
    if (d == p.batch || d == p.time) continue;
    dims[rank] = in.dims[d];
    from[rank] = in.strides[d];
    to[rank++] = out.strides[d];
  }
  if (!fits)
    b.host->fail("%s is reversed by %s to %s", shape_text(in).text, shape_text(*b.in[1]).text, shape_text(out).text);
  p.rest = plan_copy(in.dtype, rank, dims, from, to);
  return run_reverse_sequence;
}

const RegisterKernel range{"range", prepare_range, shape_range};
const RegisterKernel eye_like{"eye_like", prepare_eye_like, shape_as_input};
const RegisterKernel trilu{"trilu", prepare_trilu, shape_as_input};
const RegisterKernel shape_kernel{"shape_of", prepare_shape_of, shape_shape_of};
const RegisterKernel size_kernel{"size_of", prepare_size_of, shape_size_of};
const RegisterKernel reverse_sequence{"reverse_sequence", prepare_reverse_sequence, shape_as_input};

}  // namespace
}  // namespace graphopt
