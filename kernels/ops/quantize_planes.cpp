// `quantize.planes`: floats [N, C, spatial..] without gaps to bytes with channels innermost, C at most 4.
//
//   y = saturate(round(x / scale) + zero), halves to even
//
// ints: zero    floats: scale
// What an image goes through on its way to the first convolution: positions by pieces, each channel of a piece to bytes,
// then 16 positions at a time the bytes of all channels are interleaved by shuffles.
#include "engine/abi.h"
#include "ops/registry.h"
#include "simd/rounding.h"

namespace graphopt {
namespace {

constexpr int64_t kMostChannels = 4, kPiece = 512;

struct Params {
  int64_t channels, positions, pieces;  // positions of an image
  ByteRounding rounding;
};

typedef uint8_t v16 __attribute__((vector_size(16)));

GRAPHOPT_INLINE v16 line16(const uint8_t* p) {
  v16 v;
  std::memcpy(&v, p, 16);
  return v;
}

// 16 positions of `channels` lines, kPiece bytes apart, to neighbours.
template <int channels>
GRAPHOPT_INLINE void interleave(const uint8_t* lines, uint8_t* to) {
  const v16 a = line16(lines);
  v16 made[channels];
  if constexpr (channels == 1) {
    made[0] = a;
  } else if constexpr (channels == 2) {
    const v16 b = line16(lines + kPiece);
    made[0] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    made[1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  } else if constexpr (channels == 3) {
    const v16 b = line16(lines + kPiece), c = line16(lines + 2 * kPiece);
    // The places of c are filled afterwards.
    const v16 first = __builtin_shufflevector(a, b, 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
    const v16 second = __builtin_shufflevector(a, b, 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
    const v16 third = __builtin_shufflevector(a, b, 0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
    made[0] = __builtin_shufflevector(first, c, 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15);
    made[1] = __builtin_shufflevector(second, c, 0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15);
    made[2] = __builtin_shufflevector(third, c, 26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31);
  } else {
    const v16 b = line16(lines + kPiece), c = line16(lines + 2 * kPiece), d = line16(lines + 3 * kPiece);
    typedef uint16_t v8 __attribute__((vector_size(16)));
    const v8 ab = (v8)__builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const v8 cd = (v8)__builtin_shufflevector(c, d, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const v8 ab_high = (v8)__builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const v8 cd_high = (v8)__builtin_shufflevector(c, d, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    made[0] = (v16)__builtin_shufflevector(ab, cd, 0, 8, 1, 9, 2, 10, 3, 11);
    made[1] = (v16)__builtin_shufflevector(ab, cd, 4, 12, 5, 13, 6, 14, 7, 15);
    made[2] = (v16)__builtin_shufflevector(ab_high, cd_high, 0, 8, 1, 9, 2, 10, 3, 11);
    made[3] = (v16)__builtin_shufflevector(ab_high, cd_high, 4, 12, 5, 13, 6, 14, 7, 15);
  }
  std::memcpy(to, made, sizeof made);
}

template <int channels>
void run(const Instr& i, Worker& worker) {
  const auto& p = i.as<Params>();
  const int64_t images = i.in[0]->dims[0];
  worker.parallel(images * p.pieces, 16, [&](int64_t begin, int64_t end, Worker&) {
    alignas(64) uint8_t lines[channels * kPiece] = {};
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t image = unit / p.pieces, first = unit % p.pieces * kPiece;
      const int64_t n = p.positions - first < kPiece ? p.positions - first : kPiece;
      const float* x = i.in[0]->as<float>() + image * channels * p.positions + first;
      uint8_t* y = i.out[0]->as<uint8_t>() + (image * p.positions + first) * channels;
      for (int c = 0; c < channels; ++c) quantize_line(p.rounding, x + c * p.positions, n, lines + c * kPiece);
      int64_t k = 0;
      for (; k + 16 <= n; k += 16) interleave<channels>(lines + k, y + k * channels);
      if (k == n) continue;
      uint8_t last[16 * channels];
      interleave<channels>(lines + k, last);
      std::memcpy(y + k * channels, last, static_cast<size_t>((n - k) * channels));
    }
  });
}

// Whether elements lie without gaps, dims in row-major order but for `inner`, which is innermost; -1: none is.
bool lies(const Tensor& t, int inner) {
  int64_t step = 1;
  const auto follows = [&](int axis) {
    const bool fits = t.dims[axis] == 1 || t.strides[axis] == step;
    step *= t.dims[axis];
    return fits;
  };
  bool found = inner < 0 || follows(inner);
  for (int axis = t.rank - 1; axis >= 0; --axis)
    if (axis != inner) found &= follows(axis);
  return found || step == 0;
}

Run prepare(Bind& b) {
  if (b.n_in != 1 || b.n_ints != 1 || b.n_floats != 1) b.host->fail("quantize.planes takes an operand, an integer and a number");
  const Tensor &x = *b.in[0], &y = *b.out[0];
  const bool bytes = y.dtype == DType::kUint8 || y.dtype == DType::kInt8;
  if (x.dtype != DType::kFloat || !bytes) b.host->fail("quantize.planes of element type %d to %d", static_cast<int>(x.dtype), static_cast<int>(y.dtype));
  if (x.rank < 2 || y.rank != x.rank || x.count() != y.count() || x.dims[1] != y.dims[1] || !lies(x, -1) || !lies(y, 1))
    b.host->fail("quantize.planes of %lld elements that do not lie as they should", static_cast<long long>(x.count()));
  auto& p = b.make<Params>();
  p.channels = x.dims[1], p.positions = x.product(2, x.rank), p.pieces = (p.positions + kPiece - 1) / kPiece;
  p.rounding = byte_rounding(static_cast<float>(b.floats[0]), static_cast<int32_t>(b.ints[0]), y.dtype == DType::kInt8);
  switch (p.channels) {
    case 1: return run<1>;
    case 2: return run<2>;
    case 3: return run<3>;
    case 4: return run<4>;
    default: b.host->fail("quantize.planes of %lld channels: 1 to %lld are", static_cast<long long>(p.channels), static_cast<long long>(kMostChannels));
  }
}

void shape(Bind& b) {
  b.out[0]->rank = b.in[0]->rank;
  for (int i = 0; i < b.in[0]->rank; ++i) b.out[0]->dims[i] = b.in[0]->dims[i];
}

const RegisterKernel planes{"quantize.planes", prepare, shape};

}  // namespace
}  // namespace graphopt
