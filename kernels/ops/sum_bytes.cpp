// `sum.bytes`: two tensors of bytes added as the numbers that they stand for, and quantized again.
//
//   y = saturate(round(relu?((a - a_zero) * a_scale + (b - b_zero) * b_scale) / y_scale) + y_zero)
//
// in: a, b; out: y, each u8 or s8, of the same dims in the same order of memory, without gaps
// ints: zero points of a, b, y, whether negative sums become 0    floats: scales of a, b, y
//
// One pass; every step is rounded as the operators do that it stands for: no product joins the sum.
#include <initializer_list>

#include "ops/conv_bytes.h"
#include "ops/registry.h"
#include "simd/rounding.h"

namespace graphopt {
namespace {

struct Params {
  int64_t n;
  float scale[2];
  int32_t zero[2];
  bool relu;
  ByteRounding rounding;
};

constexpr int64_t kGrain = 64 << 10;

// A number that stays rounded: it is not multiplied and added in one step.
GRAPHOPT_INLINE vf rounded(vf v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

template <class X>
GRAPHOPT_INLINE vf number(const X* x, int count, int32_t zero, float scale) {
  return rounded(__builtin_convertvector(wide_bytes(x, count) - zero, vf) * scale);
}

template <class A, class B, bool divides>
void run(const Instr& i, Worker& worker) {
  const Params p = i.as<Params>();
  worker.parallel(p.n, kGrain, [&](int64_t begin, int64_t end, Worker&) {
    const A* a = i.in[0]->as<A>();
    const B* b = i.in[1]->as<B>();
    uint8_t* y = i.out[0]->as<uint8_t>();
    const vf least = broadcast(p.relu ? 0.0f : -__builtin_inff());
    const auto put = [&](int64_t k, int count) __attribute__((always_inline)) {
      const vf sum = number(a + k, count, p.zero[0], p.scale[0]) + number(b + k, count, p.zero[1], p.scale[1]);
      store_bytes(y + k, byte_codes<divides>(p.rounding, max(sum, least)), count);
    };
    int64_t k = begin;
    for (; k + 4 * kLanes <= end; k += 4 * kLanes)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) put(k + j * kLanes, kLanes);
    for (; k + kLanes <= end; k += kLanes) put(k, kLanes);
    if (k < end) put(k, static_cast<int>(end - k));
  });
}

// Whether all elements lie without gaps, in the order of strides that `like` has.
bool lies_like(const Tensor& t, const Tensor& like) {
  bool same = t.rank == like.rank;
  for (int i = 0; same && i < t.rank; ++i) same = t.dims[i] == like.dims[i] && (t.dims[i] == 1 || t.strides[i] == like.strides[i]);
  return same;
}

bool has_no_gaps(const Tensor& t) {
  int64_t span = 1;
  for (int i = 0; i < t.rank; ++i) span += (t.dims[i] - 1) * t.strides[i];
  return span == t.count();
}

template <class A, class B>
Run chosen(bool divides) {
  return divides ? run<A, B, true> : run<A, B, false>;
}

Run prepare(Bind& b) {
  if (b.n_in != 2 || b.n_ints != 4 || b.n_floats != 3) b.host->fail("sum.bytes takes 2 operands, 4 integers and 3 numbers");
  const Tensor &x = *b.in[0], &z = *b.in[1], &y = *b.out[0];
  auto& p = b.make<Params>();
  p.n = x.count();
  for (const Tensor* t : {&x, &z, &y})
    if (t->dtype != DType::kUint8 && t->dtype != DType::kInt8) b.host->fail("sum.bytes of element type %d", static_cast<int>(t->dtype));
  if (x.count() != z.count() || x.count() != y.count() || (p.n > 0 && (!has_no_gaps(x) || !lies_like(z, x) || !lies_like(y, x))))
    b.host->fail("sum.bytes of %lld and %lld elements that do not lie alike", static_cast<long long>(x.count()), static_cast<long long>(z.count()));
  for (int k = 0; k < 2; ++k) p.scale[k] = static_cast<float>(b.floats[k]), p.zero[k] = static_cast<int32_t>(b.ints[k]);
  p.relu = b.ints[3] != 0;
  p.rounding = byte_rounding(static_cast<float>(b.floats[2]), static_cast<int32_t>(b.ints[2]), y.dtype == DType::kInt8);
  const bool divides = p.rounding.divides, left = x.dtype == DType::kInt8, right = z.dtype == DType::kInt8;
  if (left) return right ? chosen<int8_t, int8_t>(divides) : chosen<int8_t, uint8_t>(divides);
  return right ? chosen<uint8_t, int8_t>(divides) : chosen<uint8_t, uint8_t>(divides);
}

void shape(Bind& b) {
  b.out[0]->rank = b.in[0]->rank;
  for (int i = 0; i < b.in[0]->rank; ++i) b.out[0]->dims[i] = b.in[0]->dims[i];
}

const RegisterKernel sum_bytes{"sum.bytes", prepare, shape};

}  // namespace
}  // namespace graphopt
