// nonzero (x)              the indices of elements that are not zero: [rank, n], a column an element
// compress (x, condition)  ints: axis or nothing (then x is flat)
// unique (x)               ints: sorted, then axis or nothing; outputs values, first places, inverse, counts
//
// How many there are is counted by `shape`, and again while running: one thread, any strides.
#include <algorithm>
#include <vector>

#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

template <class T> bool is_zero(const T& x) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) return to_float(x) == 0;
  else return x == T{};
}

// Calls f(k, offset) for the elements in row-major order.
template <class F> void each_offset(const Tensor& t, const F& f) {
  Odometer<1> at;
  for (int d = 0; d < t.rank; ++d) at.add(t.dims[d], {t.strides[d]});
  const int64_t n = at.count();
  if (n == 0) return;
  at.seek(0);
  for (int64_t k = 0; k < n; ++k, at.next()) f(k, at.at[0]);
}

template <class F> void with_element_type(DType dtype, const F& f) {
  if (dtype == DType::kString) f(std::string());
  else with_number_type(dtype, f);
}

int64_t count_nonzero(const Tensor& x) {
  int64_t n = 0;
  with_element_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    each_offset(x, [&](int64_t, int64_t offset) { n += !is_zero(x.as<T>()[offset]); });
  });
  return n;
}

template <class T> void run_nonzero(const Instr& i, Worker& w) {
  const Tensor &x = *i.in[0], &out = *i.out[0];
  int64_t n = 0;
  each_offset(x, [&](int64_t k, int64_t offset) {
    if (is_zero(x.as<T>()[offset])) return;
    if (n == out.dims[1]) w.host->fail("more than %lld elements are not zero", static_cast<long long>(n));
    for (int d = x.rank - 1; d >= 0; --d) {
      out.as<int64_t>()[d * out.strides[0] + n * out.strides[1]] = k % x.dims[d];
      k /= x.dims[d];
    }
    ++n;
  });
}

Run prepare_nonzero(Bind& b) {
  Run run = nullptr;
  with_element_type(b.in[0]->dtype, [&](auto zero) { run = run_nonzero<decltype(zero)>; });
  if (run == nullptr || b.out[0]->rank != 2 || b.out[0]->dtype != DType::kInt64)
    b.host->fail("places in %s of element type %d", shape_text(*b.in[0]).text, static_cast<int>(b.in[0]->dtype));
  return run;
}

void shape_nonzero(Bind& b) {
  const int64_t dims[] = {b.in[0]->rank, count_nonzero(*b.in[0])};
  set_dims(*b.out[0], 2, dims);
}

struct Compress {
  CopyPlan slice;  // along an axis: all but the axis
  int axis;        // -1: the input is flat
};

void run_compress(const Instr& i, Worker& w) {
  const auto& p = i.as<Compress>();
  const Tensor &x = *i.in[0], &condition = *i.in[1], &out = *i.out[0];
  const int64_t size = size_of(x.dtype), length = condition.count();
  const int64_t most = out.dims[p.axis < 0 ? 0 : p.axis], step = out.strides[p.axis < 0 ? 0 : p.axis];
  int64_t n = 0;
  for (int64_t k = 0; k < length; ++k) {
    if (!element_at<bool>(condition, k)) continue;
    if (n == most) w.host->fail("more than %lld are chosen", static_cast<long long>(most));
    const int64_t from = p.axis < 0 ? offset_of(x, k) : k * x.strides[p.axis];
    copy_all(p.slice, x.data + from * size, out.data + n++ * step * size);
  }
}

Run prepare_compress(Bind& b) {
  const Tensor &x = *b.in[0], &out = *b.out[0];
  auto& p = b.make<Compress>();
  p.axis = b.n_ints > 0 ? axis_within(*b.host, b.ints[0], x.rank) : -1;
  int64_t dims[kMaxRank], from[kMaxRank], to[kMaxRank];
  int rank = 0;
  bool fits = out.rank == (p.axis < 0 ? 1 : x.rank) && b.in[1]->dtype == DType::kBool;
  for (int d = 0; fits && p.axis >= 0 && d < x.rank; ++d) {
    if (d == p.axis) continue;
    fits = x.dims[d] == out.dims[d];
    dims[rank] = x.dims[d];
    from[rank] = x.strides[d];
    to[rank++] = out.strides[d];
  }
  fits = fits && b.in[1]->count() <= (p.axis < 0 ? x.count() : x.dims[p.axis]);
  if (!fits)
    b.host->fail("%s of %s is not %s", shape_text(*b.in[1]).text, shape_text(x).text, shape_text(out).text);
  p.slice = plan_copy(x.dtype, rank, dims, from, to);
  return run_compress;
}

void shape_compress(Bind& b) {
  const Tensor& x = *b.in[0];
  const int64_t n = count_nonzero(*b.in[1]);
  if (b.n_ints == 0) return set_dims(*b.out[0], 1, &n);
  set_dims(*b.out[0], x.rank, x.dims);
  b.out[0]->dims[axis_within(*b.host, b.ints[0], x.rank)] = n;
}

// NaNs come last and count as equal.
template <class T> int compared(const T& x, const T& y) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
    return compared(to_float(x), to_float(y));
  } else {
    if constexpr (std::is_floating_point_v<T>) {
      if (x != x || y != y) return (x != x) - (y != y);
    }
    return x < y ? -1 : y < x;
  }
}

// The things that are compared: elements, or slices along an axis.
struct Things {
  int64_t n = 0;
  int64_t step = 0;    // between slices
  Odometer<1> inside;  // the elements of a slice
  int64_t n_inside = 1;
  bool flat = true;
};

Things things_of(const Tensor& x, int axis) {
  Things t;
  t.flat = axis < 0;
  t.n = t.flat ? x.count() : x.dims[axis];
  if (t.flat) return t;
  t.step = x.strides[axis];
  for (int d = 0; d < x.rank; ++d)
    if (d != axis) t.inside.add(x.dims[d], {x.strides[d]});
  t.n_inside = t.inside.count();
  return t;
}

template <class T> int compared(const Things& t, const Tensor& x, int64_t a, int64_t b) {
  if (t.flat) return compared(element_at<T>(x, a), element_at<T>(x, b));
  if (t.n_inside == 0) return 0;
  Odometer<1> at = t.inside;
  at.seek(0);
  for (int64_t k = 0; k < t.n_inside; ++k, at.next()) {
    const int order = compared(x.as<T>()[a * t.step + at.at[0]], x.as<T>()[b * t.step + at.at[0]]);
    if (order != 0) return order;
  }
  return 0;
}

// Sorts the things; order[k] is the k-th, group[k] the number of its kind. Returns how many kinds there are.
template <class T> int64_t sort_things(const Things& t, const Tensor& x, int64_t* order, int64_t* group) {
  for (int64_t k = 0; k < t.n; ++k) order[k] = k;
  std::sort(order, order + t.n, [&](int64_t a, int64_t b) {
    const int c = compared<T>(t, x, a, b);
    return c != 0 ? c < 0 : a < b;
  });
  int64_t kinds = 0;
  for (int64_t k = 0; k < t.n; ++k) group[k] = (kinds += k == 0 || compared<T>(t, x, order[k - 1], order[k]) != 0) - 1;
  return kinds;
}

struct Unique {
  Things things;
  CopyPlan slice;
  int axis;
  bool sorted;
};

template <class T> void run_unique(const Instr& i, Worker& w) {
  const auto& p = i.as<Unique>();
  const Tensor &x = *i.in[0], &out = *i.out[0];
  const int64_t n = p.things.n, size = size_of(x.dtype);
  auto* order = reinterpret_cast<int64_t*>(w.scratch);
  int64_t *group = order + n, *first = group + n, *rank = first + n;
  const int64_t kinds = sort_things<T>(p.things, x, order, group);
  // `rank` says where a kind stands in the output: by value, or by its first place.
  for (int64_t k = n - 1; k >= 0; --k) first[group[k]] = order[k];
  for (int64_t g = 0; g < kinds; ++g) rank[g] = g;
  if (!p.sorted) {
    int64_t* kind_at = rank + n;
    for (int64_t k = 0; k < n; ++k) kind_at[k] = -1;
    for (int64_t g = 0; g < kinds; ++g) kind_at[first[g]] = g;
    int64_t next = 0;
    for (int64_t k = 0; k < n; ++k)
      if (kind_at[k] >= 0) rank[kind_at[k]] = next++;
  }
  const int axis = p.axis < 0 ? 0 : p.axis;
  for (int64_t g = 0; g < kinds; ++g) {
    const int64_t from = p.things.flat ? offset_of(x, first[g]) : first[g] * p.things.step;
    copy_all(p.slice, x.data + from * size, out.data + rank[g] * out.strides[axis] * size);
    if (i.out[1] != nullptr) element_at<int64_t>(*i.out[1], rank[g]) = first[g];
    if (i.out[3] != nullptr) element_at<int64_t>(*i.out[3], rank[g]) = 0;
  }
  for (int64_t k = 0; k < n; ++k) {
    if (i.out[2] != nullptr) element_at<int64_t>(*i.out[2], order[k]) = rank[group[k]];
    if (i.out[3] != nullptr) ++element_at<int64_t>(*i.out[3], rank[group[k]]);
  }
}

int unique_axis(Bind& b) { return b.n_ints > 1 ? axis_within(*b.host, b.ints[1], b.in[0]->rank) : -1; }

// Four outputs, those that nobody wants are null.
Run prepare_unique(Bind& b) {
  const Tensor &x = *b.in[0], &out = *b.out[0];
  auto& p = b.make<Unique>();
  p.axis = unique_axis(b);
  p.things = things_of(x, p.axis);
  p.sorted = b.ints[0] != 0;
  int64_t dims[kMaxRank], from[kMaxRank], to[kMaxRank];
  int rank = 0;
  for (int d = 0; p.axis >= 0 && d < x.rank; ++d) {
    if (d == p.axis) continue;
    dims[rank] = x.dims[d];
    from[rank] = x.strides[d];
    to[rank++] = out.strides[d];
  }
  p.slice = plan_copy(x.dtype, rank, dims, from, to);
  b.need_scratch(5 * p.things.n * static_cast<int64_t>(sizeof(int64_t)));
  Run run = nullptr;
  with_element_type(x.dtype, [&](auto zero) { run = run_unique<decltype(zero)>; });
  if (run == nullptr || b.n_out != 4) b.host->fail("unique values of element type %d", static_cast<int>(x.dtype));
  return run;
}

void shape_unique(Bind& b) {
  const Tensor& x = *b.in[0];
  const int axis = unique_axis(b);
  const Things things = things_of(x, axis);
  std::vector<int64_t> order(static_cast<size_t>(things.n)), group(static_cast<size_t>(things.n));
  int64_t kinds = 0;
  with_element_type(x.dtype, [&](auto zero) {
    kinds = sort_things<decltype(zero)>(things, x, order.data(), group.data());
  });
  if (axis < 0) {
    set_dims(*b.out[0], 1, &kinds);
  } else {
    set_dims(*b.out[0], x.rank, x.dims);
    b.out[0]->dims[axis] = kinds;
  }
  for (int k = 1; k < b.n_out; ++k)
    if (b.out[k] != nullptr) set_dims(*b.out[k], 1, k == 2 ? &things.n : &kinds);
}

const RegisterKernel nonzero{"nonzero", prepare_nonzero, shape_nonzero};
const RegisterKernel compress{"compress", prepare_compress, shape_compress};
const RegisterKernel unique{"unique", prepare_unique, shape_unique};

}  // namespace
}  // namespace graphopt
