// slice (data, starts, ends, axes?, steps?)   any strides; bounds are read when it runs
// split (data, sizes?)  ints: axis            any strides; without sizes the parts are equal, the last one smaller
//
// Views do the same without an instruction where bounds are expressions; these are for bounds that are data.
#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

struct AxisSlice {
  int axis;
  int64_t first, length, step;
};

int64_t clamped(int64_t x, int64_t least, int64_t most) { return x < least ? least : x > most ? most : x; }

// As numpy cuts bounds.
AxisSlice slice_of(const Host& host, const Instr& i, int64_t k) {
  const Tensor& data = *i.in[0];
  const Tensor* axes = i.in[3];
  const Tensor* steps = i.in[4];
  AxisSlice s;
  s.axis = axis_within(host, axes != nullptr ? integer_at(*axes, k) : k, data.rank);
  s.step = steps != nullptr ? integer_at(*steps, k) : 1;
  if (s.step == 0) host.fail("the step along axis %d is 0", s.axis);
  const int64_t dim = data.dims[s.axis];
  const int64_t least = s.step > 0 ? 0 : -1, most = s.step > 0 ? dim : dim - 1;
  const auto bound = [&](int64_t x, int64_t lowest) { return clamped(x < 0 ? x + dim : x, lowest, most); };
  s.first = bound(integer_at(*i.in[1], k), 0);
  const int64_t end = bound(integer_at(*i.in[2], k), least);
  const int64_t distance = s.step > 0 ? end - s.first : s.first - end;
  const uint64_t step = s.step > 0 ? static_cast<uint64_t>(s.step) : 0 - static_cast<uint64_t>(s.step);
  s.length = dim == 0 || distance <= 0 ? 0 : static_cast<int64_t>((static_cast<uint64_t>(distance) - 1) / step + 1);
  return s;
}

void run_slice(const Instr& i, Worker& w) {
  const Tensor &data = *i.in[0], &out = *i.out[0];
  int64_t dims[kMaxRank], from[kMaxRank], offset = 0;
  for (int d = 0; d < data.rank; ++d) {
    dims[d] = data.dims[d];
    from[d] = data.strides[d];
  }
  const int64_t n = i.in[1]->count();
  for (int64_t k = 0; k < n; ++k) {
    const AxisSlice s = slice_of(*w.host, i, k);
    dims[s.axis] = s.length;
    if (s.length > 0) offset += s.first * data.strides[s.axis];
    // A step that is larger than memory is never taken.
    from[s.axis] = s.length > 1 ? s.step * data.strides[s.axis] : 0;
  }
  for (int d = 0; d < data.rank; ++d)
    if (dims[d] != out.dims[d])
      w.host->fail("a slice of %s has %lld elements along axis %d, expected %s", shape_text(data).text,
                   static_cast<long long>(dims[d]), d, shape_text(out).text);
  const CopyPlan plan = plan_copy(out.dtype, out.rank, out.dims, from, out.strides);
  copy_parallel(plan, data.data + offset * size_of(data.dtype), out.data, w);
}

// Inputs that are left out at the end.
struct SliceInputs {
  Tensor* in[5];
};

void run_slice_of(const Instr& i, Worker& w) {
  const auto& p = i.as<SliceInputs>();
  run_slice(Instr{nullptr, p.in, i.out, nullptr}, w);
}

SliceInputs slice_inputs(const Bind& b) {
  SliceInputs p{};
  for (int k = 0; k < 5; ++k) p.in[k] = b.has(k) ? b.in[k] : nullptr;
  return p;
}

Run prepare_slice(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  if (in.rank != out.rank || size_of(in.dtype) != size_of(out.dtype))
    b.host->fail("a slice of %s is not %s", shape_text(in).text, shape_text(out).text);
  b.make<SliceInputs>() = slice_inputs(b);
  return run_slice_of;
}

void shape_slice(Bind& b) {
  const SliceInputs p = slice_inputs(b);
  const Instr i{nullptr, p.in, b.out, nullptr};
  const Tensor &data = *b.in[0], &starts = *b.in[1];
  const int64_t n = starts.count();
  for (int k = 2; k < 5; ++k)
    if (p.in[k] != nullptr && p.in[k]->count() != n)
      b.host->fail("%lld starts and %lld ends, axes or steps", static_cast<long long>(n),
                   static_cast<long long>(p.in[k]->count()));
  set_dims(*b.out[0], data.rank, data.dims);
  for (int64_t k = 0; k < n; ++k) {
    const AxisSlice s = slice_of(*b.host, i, k);
    b.out[0]->dims[s.axis] = s.length;
  }
}

struct Split {
  int64_t n, axis;
  CopyPlan* plans;
};

void run_split(const Instr& i, Worker& w) {
  const auto& p = i.as<Split>();
  const Tensor& data = *i.in[0];
  const int64_t step = data.strides[p.axis] * size_of(data.dtype);
  const char* in = data.data;
  for (int64_t k = 0; k < p.n; ++k) {
    copy_parallel(p.plans[k], in, i.out[k]->data, w);
    in += step * i.out[k]->dims[p.axis];
  }
}

Run prepare_split(Bind& b) {
  const Tensor& in = *b.in[0];
  auto& p = b.make<Split>();
  p = {b.n_out, axis_within(*b.host, b.ints[0], in.rank), b.array<CopyPlan>(b.n_out)};
  int64_t total = 0;
  for (int k = 0; k < b.n_out; ++k) {
    if (b.out[k] == nullptr) b.host->fail("part %d of a split is left out", k);
    const Tensor& out = *b.out[k];
    bool fits = out.rank == in.rank && size_of(in.dtype) == size_of(out.dtype);
    for (int d = 0; fits && d < in.rank; ++d) fits = d == p.axis || in.dims[d] == out.dims[d];
    if (!fits) b.host->fail("%s is no part of %s", shape_text(out).text, shape_text(in).text);
    p.plans[k] = plan_copy(in, out);
    total += out.dims[p.axis];
  }
  if (total != in.dims[p.axis])
    b.host->fail("axis %lld of %s is split into %lld", static_cast<long long>(p.axis), shape_text(in).text,
                 static_cast<long long>(total));
  return run_split;
}

void shape_split(Bind& b) {
  const Tensor& in = *b.in[0];
  const int axis = axis_within(*b.host, b.ints[0], in.rank);
  if (b.has(1) && b.in[1]->count() != b.n_out)
    b.host->fail("%lld sizes for %d parts", static_cast<long long>(b.in[1]->count()), b.n_out);
  const int64_t dim = in.dims[axis], each = (dim + b.n_out - 1) / b.n_out;
  int64_t left = dim;
  for (int k = 0; k < b.n_out; ++k) {
    if (b.out[k] == nullptr) b.host->fail("part %d of a split is left out", k);
    const int64_t size = b.has(1) ? integer_at(*b.in[1], k) : each < left ? each : left;
    if (size < 0 || size > left)
      b.host->fail("part %d of a split has size %lld, of %lld that are left", k, static_cast<long long>(size),
                   static_cast<long long>(left));
    set_dims(*b.out[k], in.rank, in.dims);
    b.out[k]->dims[axis] = size;
    left -= size;
  }
}

const RegisterKernel slice{"slice", prepare_slice, shape_slice};
const RegisterKernel split{"split", prepare_split, shape_split};

}  // namespace
}  // namespace graphopt
