// Steps on 16-bit floats: a block is widened, the float32 step runs, the result is rounded.
#include "ops/elementwise.h"
#include "simd/half.h"

namespace graphopt::elementwise {
namespace {

constexpr int64_t kPiece = 256;

template <class H> void widen_block(const char* from, int64_t n, float* to) {
  const H* p = reinterpret_cast<const H*>(from);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(p + i));
  for (; i < n; ++i) to[i] = to_float(p[i]);
}
template <class H> void narrow_block(const float* from, int64_t n, char* to) {
  H* p = reinterpret_cast<H*>(to);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(p + i, load(from + i));
  for (; i < n; ++i) from_float(from[i], p[i]);
}

// kBytes: the result is of bytes (comparisons).
template <class H, bool kBytes>
void shell(char* out, const char* a, const char* b, const char* c, int64_t n, const Step& s) {
  alignas(64) float wide[4][kPiece];
  const char* sources[3] = {a, b, c};
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t m = n - i < kPiece ? n - i : kPiece;
    for (int k = 0; k < s.sources; ++k) widen_block<H>(sources[k] + i * 2, m, wide[k]);
    const char* x = reinterpret_cast<char*>(wide[0]);
    const char* y = reinterpret_cast<char*>(wide[1]);
    const char* z = reinterpret_cast<char*>(wide[2]);
    if constexpr (kBytes) {
      s.inner(out + i, x, y, z, m, s);
    } else {
      s.inner(reinterpret_cast<char*>(wide[3]), x, y, z, m, s);
      narrow_block<H>(wide[3], m, out + i * 2);
    }
  }
}

bool gives_bytes(Op op) {
  return op == Op::kEqual || op == Op::kLess || op == Op::kLessEqual || op == Op::kIsNaN || op == Op::kIsInf;
}

}  // namespace

Function narrow_function(Op op, DType type) {
  if (float_function(op, 0) == nullptr) return nullptr;
  if (type == DType::kFloat16) return gives_bytes(op) ? shell<f16, true> : shell<f16, false>;
  if (type == DType::kBfloat16) return gives_bytes(op) ? shell<bf16, true> : shell<bf16, false>;
  return nullptr;
}

}  // namespace graphopt::elementwise
