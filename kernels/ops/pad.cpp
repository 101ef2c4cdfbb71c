// pad (data, pads?, value?, axes?)  ints: mode (0 constant, 1 reflect, 2 edge, 3 wrap), then all begins and all ends
//                                   if they are known; else the inputs are read when it runs.
//
// Any strides. Negative pads crop first. Constant: one copy of what stays and one fill for each side of each axis, so
// every element is written once. Other modes: row by row, each axis with its own map of indices.
#include <algorithm>
#include <cstring>

#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

enum Mode { kConstant, kReflect, kEdge, kWrap };

struct Pad {
  int64_t mode;
  const int64_t* pads;  // begins, ends; null: an input
  const Tensor *amounts, *value, *axes;
};

// What is left of the input, and the room around it.
struct Frame {
  int64_t before[kMaxRank], after[kMaxRank], kept[kMaxRank];
  int64_t offset = 0;  // of the first element that stays
};

Pad pad_of(Bind& b) {
  Pad p{b.ints[0], nullptr, b.has(1) ? b.in[1] : nullptr, b.has(2) ? b.in[2] : nullptr, b.has(3) ? b.in[3] : nullptr};
  const int rank = b.in[0]->rank;
  if (b.n_ints > 1 || p.amounts == nullptr) {
    if (b.n_ints != 1 + 2 * rank) b.host->fail("%d pads for rank %d", b.n_ints - 1, rank);
    p.pads = b.ints + 1;
  }
  return p;
}

void read_pads(const Host& host, const Pad& p, const Tensor& in, int64_t* begin, int64_t* end) {
  for (int d = 0; d < in.rank; ++d) {
    begin[d] = p.pads != nullptr ? p.pads[d] : 0;
    end[d] = p.pads != nullptr ? p.pads[in.rank + d] : 0;
  }
  if (p.pads != nullptr) return;
  const int64_t n = p.axes != nullptr ? p.axes->count() : in.rank;
  if (p.amounts->count() != 2 * n)
    host.fail("%lld pads for %lld axes", static_cast<long long>(p.amounts->count()), static_cast<long long>(n));
  for (int64_t k = 0; k < n; ++k) {
    const int d = axis_within(host, p.axes != nullptr ? integer_at(*p.axes, k) : k, in.rank);
    begin[d] = integer_at(*p.amounts, k);
    end[d] = integer_at(*p.amounts, n + k);
  }
}

Frame frame_of(const Host& host, const Pad& p, const Tensor& in, const Tensor& out) {
  int64_t begin[kMaxRank], end[kMaxRank];
  read_pads(host, p, in, begin, end);
  Frame f;
  for (int d = 0; d < in.rank; ++d) {
    const int64_t cut = begin[d] < 0 ? -begin[d] : 0;
    f.before[d] = begin[d] > 0 ? begin[d] : 0;
    f.after[d] = end[d] > 0 ? end[d] : 0;
    f.kept[d] = in.dims[d] - cut + (end[d] < 0 ? end[d] : 0);
    if (out.dims[d] != in.dims[d] + begin[d] + end[d])
      host.fail("%s padded by %lld and %lld along axis %d is not %s", shape_text(in).text,
                static_cast<long long>(begin[d]), static_cast<long long>(end[d]), d, shape_text(out).text);
    if (f.kept[d] < 0) {
      // All is cropped, and more: what is left over is room.
      f.before[d] = out.dims[d];
      f.after[d] = f.kept[d] = 0;
    } else {
      f.offset += cut * in.strides[d];
    }
    if (f.kept[d] == 0 && out.dims[d] > 0 && p.mode != kConstant)
      host.fail("axis %d of %s has nothing to pad with", d, shape_text(in).text);
  }
  return f;
}

void run_constant(const Instr& i, Worker& w) {
  const auto& p = i.as<Pad>();
  const Tensor &in = *i.in[0], &out = *i.out[0];
  const Frame f = frame_of(*w.host, p, in, out);
  const int64_t size = size_of(out.dtype), still[kMaxRank] = {};
  const std::string no_text;
  const char zero[16] = {};
  const char* element = p.value != nullptr ? p.value->data
                        : out.dtype == DType::kString ? reinterpret_cast<const char*>(&no_text) : zero;
  CopyPlan plans[2 * kMaxRank + 1];
  CopyTask tasks[2 * kMaxRank + 1];
  int64_t n = 0, dims[kMaxRank], inside = 0;
  for (int d = 0; d < out.rank; ++d) dims[d] = out.dims[d];
  // The sides of an axis lie within what stays of the axes before it.
  for (int d = 0; d < out.rank; ++d) {
    for (int side = 0; side < 2; ++side) {
      dims[d] = side == 0 ? f.before[d] : f.after[d];
      if (dims[d] == 0) continue;
      const int64_t at = inside + (side == 0 ? 0 : f.before[d] + f.kept[d]) * out.strides[d];
      plans[n] = plan_copy(out.dtype, out.rank, dims, still, out.strides);
      tasks[n++] = {element, out.data + at * size};
    }
    dims[d] = f.kept[d];
    inside += f.before[d] * out.strides[d];
  }
  plans[n] = plan_copy(out.dtype, out.rank, dims, in.strides, out.strides);
  tasks[n++] = {in.data + f.offset * size, out.data + inside * size};
  copy_parallel(plans, tasks, n, w);
}

// Which of n elements stands at place i, which may be outside.
int64_t source_of(int64_t mode, int64_t i, int64_t n) {
  if (i >= 0 && i < n) return i;
  if (mode == kEdge || n == 1) return i < 0 ? 0 : n - 1;
  const int64_t period = mode == kWrap ? n : 2 * (n - 1);
  i %= period;
  if (i < 0) i += period;
  return i < n ? i : period - i;
}

template <class E> void run_mapped(const Instr& i, Worker& w) {
  const auto& p = i.as<Pad>();
  const Tensor &in = *i.in[0], &out = *i.out[0];
  const Frame f = frame_of(*w.host, p, in, out);
  const E* source = in.as<E>() + f.offset;
  if (out.rank == 0) {
    *out.as<E>() = *source;
    return;
  }
  const int last = out.rank - 1;
  const int64_t width = out.dims[last], kept = f.kept[last], left = f.before[last];
  const int64_t from = in.strides[last], to = out.strides[last];
  if (width == 0) return;
  const bool rows = from == 1 && to == 1;
  w.parallel(out.product(0, last), 8192 / width + 1, [&](int64_t begin, int64_t end, Worker&) {
    for (int64_t row = begin; row < end; ++row) {
      const E* x = source;
      E* y = out.as<E>();
      for (int64_t d = last - 1, rest = row; d >= 0; --d) {
        const int64_t at = rest % out.dims[d];
        rest /= out.dims[d];
        x += source_of(p.mode, at - f.before[d], f.kept[d]) * in.strides[d];
        y += at * out.strides[d];
      }
      for (int64_t k = 0; k < left; ++k) y[k * to] = x[source_of(p.mode, k - left, kept) * from];
      E* middle = y + left * to;
      if (rows && std::is_trivially_copyable_v<E>)
        std::memcpy(static_cast<void*>(middle), static_cast<const void*>(x), static_cast<size_t>(kept) * sizeof(E));
      else
        for (int64_t k = 0; k < kept; ++k) middle[k * to] = x[k * from];
      for (int64_t k = left + kept; k < width; ++k) y[k * to] = x[source_of(p.mode, k - left, kept) * from];
    }
  });
}

Run prepare_pad(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  if (in.rank != out.rank || size_of(in.dtype) != size_of(out.dtype))
    b.host->fail("%s can't be padded to %s", shape_text(in).text, shape_text(out).text);
  auto& p = b.make<Pad>();
  p = pad_of(b);
  if (p.pads != nullptr) {
    int64_t* kept = b.array<int64_t>(2 * in.rank);
    for (int k = 0; k < 2 * in.rank; ++k) kept[k] = p.pads[k];
    p.pads = kept;
  }
  if (p.mode == kConstant) return run_constant;
  Run run = nullptr;
  with_cell_type(out.dtype, [&](auto cell) { run = run_mapped<decltype(cell)>; });
  return run;
}

void shape_pad(Bind& b) {
  const Tensor& in = *b.in[0];
  const Pad p = pad_of(b);
  int64_t begin[kMaxRank], end[kMaxRank];
  read_pads(*b.host, p, in, begin, end);
  set_dims(*b.out[0], in.rank, in.dims);
  for (int d = 0; d < in.rank; ++d) {
    const bool are_sizes = std::max({begin[d], end[d], -kMostElements}) <= kMostElements &&
                           std::min({begin[d], end[d], kMostElements}) >= -kMostElements;
    if (are_sizes) b.out[0]->dims[d] += begin[d] + end[d];
    if (!are_sizes || b.out[0]->dims[d] < 0)
      b.host->fail("axis %d of %s is padded by %lld and %lld", d, shape_text(in).text, static_cast<long long>(begin[d]),
                   static_cast<long long>(end[d]));
  }
}

const RegisterKernel pad{"pad", prepare_pad, shape_pad};

}  // namespace
}  // namespace graphopt
