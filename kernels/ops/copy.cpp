// copy    out = in, any strides of both (broadcasts are strides of 0).
// fill    out = one element: its bytes are the instruction's bytes (a string: its text). Dims known only when it runs:
//         the ints, or the contents of an input.
// values  out = the instruction's floats, or without any its integers, as numbers of any type.
//
// Kinds and speeds: copy_plan.h.
#include <cstring>
#include <string>

#include "ops/copy_plan.h"
#include "ops/copy_elements.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

void run_copy(const Instr& i, Worker& w) {
  const char* in = i.in[0]->data;
  char* out = i.out[0]->data;
  const auto& plan = i.as<CopyPlan>();
  if (in + plan.from == out + plan.to && plan.jobs > 0) {
    // A producer may have written here already: then there is nothing to move.
    bool same = plan.a.from == plan.a.to && plan.b.from == plan.b.to;
    for (int d = 0; d < plan.n_outer; ++d) same = same && plan.outer[d].from == plan.outer[d].to;
    if (same) return;
  }
  copy_parallel(plan, in, out, w);
}

Run prepare_copy(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  bool same = in.rank == out.rank && size_of(in.dtype) == size_of(out.dtype);
  for (int d = 0; same && d < in.rank; ++d) same = in.dims[d] == out.dims[d];
  if (!same) b.host->fail("copy of %s to %s", shape_text(in).text, shape_text(out).text);
  b.make<CopyPlan>() = plan_copy(in, out);
  return run_copy;
}

void shape_copy(Bind& b) { set_dims(*b.out[0], b.in[0]->rank, b.in[0]->dims); }

struct Fill {
  CopyPlan plan;
  const char* element;
  int64_t n_bytes;
};

void run_fill(const Instr& i, Worker& w) {
  const auto& p = i.as<Fill>();
  copy_parallel(p.plan, p.element, i.out[0]->data, w);
}

void run_fill_strings(const Instr& i, Worker& w) {
  const auto& p = i.as<Fill>();
  const std::string text(p.element, static_cast<size_t>(p.n_bytes));
  copy_parallel(p.plan, reinterpret_cast<const char*>(&text), i.out[0]->data, w);
}

Run prepare_fill(Bind& b) {
  const Tensor& out = *b.out[0];
  const bool strings = out.dtype == DType::kString;
  if (!strings && b.n_bytes != size_of(out.dtype))
    b.host->fail("fill with %lld bytes, an element has %lld", static_cast<long long>(b.n_bytes),
                 static_cast<long long>(size_of(out.dtype)));
  auto& p = b.make<Fill>();
  char* element = b.array<char>(b.n_bytes);
  std::memcpy(element, b.bytes, static_cast<size_t>(b.n_bytes));
  const int64_t still[kMaxRank] = {};
  p = {plan_copy(out.dtype, out.rank, out.dims, still, out.strides), element, b.n_bytes};
  return strings ? run_fill_strings : run_fill;
}

void shape_fill(Bind& b) {
  Tensor& out = *b.out[0];
  set_rank(b, out, b.has(0) ? b.in[0]->count() : b.n_ints);
  for (int d = 0; d < out.rank; ++d) {
    out.dims[d] = b.has(0) ? integer_at(*b.in[0], d) : b.ints[d];
    if (out.dims[d] < 0) b.host->fail("dim %d is %lld", d, static_cast<long long>(out.dims[d]));
  }
}

struct Values {
  int64_t n;
  int64_t* whole;
  double* broken;  // null: the numbers are whole
};

template <class T> void run_values(const Instr& i, Worker&) {
  const auto& p = i.as<Values>();
  const Tensor& out = *i.out[0];
  for (int64_t k = 0; k < p.n; ++k)
    element_at<T>(out, k) = p.broken != nullptr ? number_as<T>(p.broken[k]) : number_as<T>(p.whole[k]);
}

Run prepare_values(Bind& b) {
  const Tensor& out = *b.out[0];
  const int n = b.n_floats > 0 ? b.n_floats : b.n_ints;
  if (out.count() != n) b.host->fail("values: %d numbers for %s", n, shape_text(out).text);
  auto& p = b.make<Values>();
  p = {n, b.array<int64_t>(b.n_ints), b.n_floats > 0 ? b.array<double>(n) : nullptr};
  for (int k = 0; k < b.n_ints; ++k) p.whole[k] = b.ints[k];
  for (int k = 0; k < b.n_floats; ++k) p.broken[k] = b.floats[k];
  Run run = nullptr;
  with_number_type(out.dtype, [&](auto zero) { run = run_values<decltype(zero)>; });
  if (run == nullptr) b.host->fail("values of element type %d", static_cast<int>(out.dtype));
  return run;
}

const RegisterKernel copy{"copy", prepare_copy, shape_copy};
const RegisterKernel fill{"fill", prepare_fill, shape_fill};
const RegisterKernel values{"values", prepare_values};

}  // namespace
}  // namespace graphopt
