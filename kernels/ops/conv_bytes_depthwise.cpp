// `conv.bytes.depthwise`: each channel of 8-bit images with a filter of its own, channels-last; sums are exact.
//
// Ints and results as `conv.bytes`; in: x, what the packer of that name makes of weights, starts and scales.
// Loops: rows of the result in parallel, positions, blocks of as many channels as a vector has bytes, taps by fours,
// whose bytes are interleaved for dot products. Where the window steps by one, positions that lie within the image are
// one line of bytes, and a block may reach over several of them. Taps outside the image read a line of zero points.
// On one core of a Zen 4: 1.0 cycle a result of 3 x 3 at 48 x 48 x 16, 1.8 of 5 x 5 at 16 x 16 x 120.
#include "ops/conv_bytes.h"
#include "ops/conv_bytes_depthwise.h"
#include "ops/registry.h"
#include "ops/window.h"
#include "simd/dot.h"

namespace graphopt {
namespace {

constexpr int64_t kMostTaps = 512;

struct Plan {
  Window window;
  ByteResult result;
  DepthwiseBlocks blocks;
  int64_t batch, x_batch, y_batch, y_channel, grain;
  int64_t first, last;  // positions of a row whose taps all lie within it
  bool runs_on;         // from a position to the next
  uint8_t padding;
};

struct Taps {
  const uint8_t* at[kMostTaps];
};

// The first `count` bytes, the others are zero.
template <bool whole>
GRAPHOPT_INLINE vi bytes_of(const uint8_t* p, int count) {
  if (whole) return load_bits(p);
#if defined(__AVX512BW__)
  return (vi)_mm512_maskz_loadu_epi8((uint64_t{1} << count) - 1, p);
#else
  vi v{};
  std::memcpy(&v, p, static_cast<size_t>(count));
  return v;
#endif
}

// Four lines of bytes to vectors of four bytes a lane, in the order of the packed weights.
GRAPHOPT_INLINE void interleave(const vi (&line)[4], vi (&to)[4]) {
#if defined(__AVX512BW__)
  const __m512i a = (__m512i)line[0], b = (__m512i)line[1], c = (__m512i)line[2], d = (__m512i)line[3];
  const __m512i ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
  const __m512i ab_high = _mm512_unpackhi_epi8(a, b), cd_high = _mm512_unpackhi_epi8(c, d);
  to[0] = (vi)_mm512_unpacklo_epi16(ab, cd), to[1] = (vi)_mm512_unpackhi_epi16(ab, cd);
  to[2] = (vi)_mm512_unpacklo_epi16(ab_high, cd_high), to[3] = (vi)_mm512_unpackhi_epi16(ab_high, cd_high);
#elif defined(__AVX2__)
  const __m256i a = (__m256i)line[0], b = (__m256i)line[1], c = (__m256i)line[2], d = (__m256i)line[3];
  const __m256i ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
  const __m256i ab_high = _mm256_unpackhi_epi8(a, b), cd_high = _mm256_unpackhi_epi8(c, d);
  to[0] = (vi)_mm256_unpacklo_epi16(ab, cd), to[1] = (vi)_mm256_unpackhi_epi16(ab, cd);
  to[2] = (vi)_mm256_unpacklo_epi16(ab_high, cd_high), to[3] = (vi)_mm256_unpackhi_epi16(ab_high, cd_high);
#else
  uint8_t from[4][kVectorBytes], made[4][kVectorBytes];
  for (int t = 0; t < 4; ++t) store_bits(from[t], line[t]);
  for (int k = 0; k < 4; ++k)
    for (int lane = 0; lane < kLanes; ++lane)
      for (int t = 0; t < 4; ++t) made[k][4 * lane + t] = from[t][16 * (lane / 4) + 4 * k + lane % 4];
  for (int k = 0; k < 4; ++k) to[k] = load_bits(made[k]);
#endif
}

// Results one by one: of 32 bits, or of channels that are no neighbours in the result.
void scatter(const Plan& p, const vi (&sums)[4], const char* scales, int count, char* y) {
  alignas(64) int32_t sum[4][kLanes];
  for (int k = 0; k < 4; ++k) store_bits(sum[k], sums[k]);
  for (int c = 0; c < count; ++c) {
    const int k = c % 16 / 4, lane = c / 16 * 4 + c % 4;
    char* to = y + c * p.y_channel * p.result.size();
    float scale;
    std::memcpy(&scale, scales + (k * kLanes + lane) * 4, 4);
    if (p.result.dtype == DType::kInt32) {
      std::memcpy(to, &sum[k][lane], 4);
    } else if (p.result.dtype == DType::kFloat) {
      const float v = static_cast<float>(sum[k][lane]) * scale;
      std::memcpy(to, &v, 4);
    } else {
      *to = static_cast<char>(requantized(p.result, broadcast_bits(sum[k][lane]), broadcast(scale))[0]);
    }
  }
}

// The results of a block: `count` bytes from `at` behind each tap. taps_known: how many there are, 0: the plan says it.
template <int taps_known, bool whole, bool narrow, bool flips>
GRAPHOPT_INLINE void run_block(const Plan& p, const Taps& taps, int64_t at, int count, const char* block, char* y) {
  constexpr int64_t kPart = kBlockVectors * kVectorBytes;
  const int64_t all = taps_known > 0 ? taps_known : p.blocks.taps;
  const int32_t flip = flips ? static_cast<int32_t>(0x80808080) : 0;
  vi sums[4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) sums[k] = load_bits(block + k * kVectorBytes);
  const char* weights = block + 2 * kPart;
#pragma GCC unroll 8
  for (int64_t t = 0; t < all; t += 4, weights += kPart) {
    vi line[4], four[4];
    line[0] = bytes_of<whole>(taps.at[t] + at, count) ^ flip;
    if (all - t == 1) {
      line[1] = line[2] = line[3] = line[0];  // their weights are 0
    } else {
#pragma GCC unroll 3
      for (int j = 1; j < 4; ++j) line[j] = bytes_of<whole>(taps.at[t + j] + at, count) ^ flip;
    }
    interleave(line, four);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) sums[k] = dot_bytes<narrow>(sums[k], four[k], load_bits(weights + k * kVectorBytes));
  }
  const char* scales = block + kPart;
  if (p.result.size() != 1 || p.y_channel != 1) return scatter(p, sums, scales, count, y);
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) sums[k] = rounded_sums(p.result, sums[k], (vf)load_bits(scales + k * kVectorBytes));
  const vi codes = packed_codes(p.result, sums);
  if (whole) return store_bits(y, codes);
#if defined(__AVX512BW__)
  _mm512_mask_storeu_epi8(y, (uint64_t{1} << count) - 1, (__m512i)codes);
#else
  std::memcpy(y, &codes, static_cast<size_t>(count));
#endif
}

// n bytes from `at` behind each tap, the first of which is of channel 0.
template <int taps_known, bool narrow, bool flips>
__attribute__((noinline)) void run_line(const Plan& p, const char* packed, const Taps& taps, int64_t at, int64_t n, char* y) {
  const int64_t size = p.blocks.block_bytes(), step = kVectorBytes * p.y_channel * p.result.size();
  const char *blocks = packed + 64, *end = blocks + p.blocks.count() * size, *block = blocks;
  for (; n >= kVectorBytes; n -= kVectorBytes, at += kVectorBytes, y += step) {
    run_block<taps_known, true, narrow, flips>(p, taps, at, kVectorBytes, block, y);
    block = block + size == end ? blocks : block + size;
  }
  if (n > 0) run_block<taps_known, false, narrow, flips>(p, taps, at, static_cast<int>(n), block, y);
}

// The taps of position `ow`: in `lines`, which are those of the row's kernel rows, or in the padding.
void find_taps(const Plan& p, const uint8_t* const* lines, const uint8_t* padding, int64_t ow, Taps& taps) {
  const Window& g = p.window;
  const uint8_t** to = taps.at;
  for (int64_t row = 0; row < g.kernel[0] * g.kernel[1]; ++row)
    for (int64_t kw = 0; kw < g.kernel[2]; ++kw) {
      const int64_t iw = ow * g.stride[2] + kw * g.dilation[2] - g.pad[2];
      *to++ = lines[row] != nullptr && iw >= 0 && iw < g.in[2] ? lines[row] + iw * g.x[2] : padding;
    }
  for (int64_t t = p.blocks.taps; t % 4 != 0; ++t) *to++ = padding;
}

void find_lines(const Plan& p, const uint8_t* image, int64_t od, int64_t oh, const uint8_t** lines) {
  const Window& g = p.window;
  for (int64_t kd = 0; kd < g.kernel[0]; ++kd)
    for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
      const int64_t id = od * g.stride[0] + kd * g.dilation[0] - g.pad[0], ih = oh * g.stride[1] + kh * g.dilation[1] - g.pad[1];
      const bool inside = id >= 0 && id < g.in[0] && ih >= 0 && ih < g.in[1];
      *lines++ = inside ? image + id * g.x[0] + ih * g.x[1] : nullptr;
    }
}

template <int taps_known, bool narrow, bool flips>
void run_rows(const Plan& p, const Instr& instr, const uint8_t* padding, int64_t begin, int64_t end) {
  const Window& g = p.window;
  const char* packed = instr.in[1]->data;
  const int64_t channels = p.blocks.channels, step = g.y[2] * p.result.size();
  const uint8_t* lines[kMostTaps];
  Taps taps;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t oh = row % g.out[1], od = row / g.out[1] % g.out[0], n = row / g.out[1] / g.out[0];
    char* y = instr.out[0]->data + (n * p.y_batch + od * g.y[0] + oh * g.y[1]) * p.result.size();
    find_lines(p, instr.in[0]->as<uint8_t>() + n * p.x_batch, od, oh, lines);
    for (int64_t ow = 0; ow < g.out[2]; ++ow) {
      find_taps(p, lines, padding, ow, taps);
      if (ow != p.first) {
        run_line<taps_known, narrow, flips>(p, packed, taps, 0, channels, y + ow * step);
        continue;
      }
      const int64_t count = p.last - p.first;
      if (p.runs_on) run_line<taps_known, narrow, flips>(p, packed, taps, 0, count * channels, y + ow * step);
      else
        for (int64_t i = 0; i < count; ++i) run_line<taps_known, narrow, flips>(p, packed, taps, i * g.stride[2] * channels, channels, y + (ow + i) * step);
      ow = p.last - 1;
    }
  }
}

template <int taps_known, bool flips>
void run(const Instr& instr, Worker& worker) {
  const auto& p = instr.as<Plan>();
  const Window& g = p.window;
  const bool narrow = instr.in[1]->data[0] != 0;
  worker.parallel(p.batch * g.out[0] * g.out[1], p.grain, [&](int64_t begin, int64_t end, Worker& me) {
    const auto* padding = reinterpret_cast<const uint8_t*>(me.scratch);
    std::memset(me.scratch, p.padding, static_cast<size_t>(g.in[2] * p.blocks.channels + 1));
    if (narrow && !kExactBytes) run_rows<taps_known, !kExactBytes, flips>(p, instr, padding, begin, end);
    else run_rows<taps_known, false, flips>(p, instr, padding, begin, end);
  });
}

Window read_byte_window(Bind& b) {
  const int r = b.in[0]->rank - 2;
  if (r >= 1 && r <= kWindowAxes && b.n_ints != 3 + window_ints(r) + 2)
    b.host->fail("conv.bytes.depthwise of %d axes needs %d integers", r, 5 + window_ints(r));
  return read_window(b, *b.in[0], b.ints + 3, static_cast<AutoPad>(b.ints[2]));
}

bool is_channels_last(const Tensor& t) {
  int64_t step = t.dims[1];
  bool found = t.dims[1] == 1 || t.strides[1] == 1;
  for (int i = t.rank - 1; i >= 1; --i) {
    const int axis = i == 1 ? 0 : i;
    found &= t.dims[axis] == 1 || t.strides[axis] == step;
    step *= t.dims[axis];
  }
  return found || step == 0;
}

// The positions of a row that read nothing outside of it.
void find_inside(Plan& p) {
  const Window& g = p.window;
  int64_t unused;
  g.inside(2, 0, &p.first, &unused);
  g.inside(2, g.kernel[2] - 1, &unused, &p.last);
  if (p.last <= p.first) p.first = p.last = -1;
  p.runs_on = g.stride[2] == 1 && p.blocks.repeats() && p.y_channel == 1 && (g.y[2] == p.blocks.channels || g.out[2] == 1);
}

Run prepare(Bind& b) {
  if (b.n_in != 2) b.host->fail("conv.bytes.depthwise takes 2 operands, not %d", b.n_in);
  const Tensor &x = *b.in[0], &y = *b.out[0];
  auto& p = b.make<Plan>();
  p.window = read_byte_window(b);
  const int64_t channels = x.dims[1];
  p.batch = x.dims[0], p.blocks = {channels, p.window.taps()};
  const int ends = 3 + window_ints(p.window.rank);
  if (x.dtype != DType::kUint8 && x.dtype != DType::kInt8) b.host->fail("conv.bytes.depthwise of element type %d", static_cast<int>(x.dtype));
  if (y.dtype != DType::kUint8 && y.dtype != DType::kInt8 && y.dtype != DType::kInt32 && y.dtype != DType::kFloat)
    b.host->fail("conv.bytes.depthwise in element type %d", static_cast<int>(y.dtype));
  if (b.ints[0] != channels || b.ints[1] != channels || p.window.taps() > kMostTaps || b.in[1]->count() != p.blocks.bytes())
    b.host->fail("conv.bytes.depthwise: %lld bytes of weights for %lld channels with %lld taps", static_cast<long long>(b.in[1]->count()),
                 static_cast<long long>(channels), static_cast<long long>(p.window.taps()));
  take_output(b, p.window, x, channels, false, y);
  if (!is_channels_last(x)) b.host->fail("conv.bytes.depthwise: channels are not innermost");
  p.window.x[2] = channels;
  for (int i = kWindowAxes - 2; i >= 0; --i) p.window.x[i] = p.window.x[i + 1] * p.window.in[i + 1];
  p.x_batch = p.window.x[0] * p.window.in[0];
  p.y_batch = y.strides[0], p.y_channel = channels == 1 ? 1 : y.strides[1];
  p.padding = static_cast<uint8_t>(b.ints[ends]);
  p.result = byte_result(y.dtype, b.ints[ends + 1]);
  find_inside(p);
  const int64_t work = p.window.out[2] * channels * p.window.taps();
  p.grain = work > 0 ? ceil_div(400000, work) : 1;
  b.need_scratch(p.window.in[2] * channels + 64);
  if (x.dtype == DType::kInt8) return run<0, true>;
  return p.blocks.taps == 9 ? run<9, false> : p.blocks.taps == 25 ? run<25, false> : run<0, false>;
}

void shape(Bind& b) { set_window_dims(read_byte_window(b), *b.in[0], b.ints[0], false, *b.out[0]); }

const RegisterKernel depthwise{"conv.bytes.depthwise", prepare, shape};

}  // namespace
}  // namespace graphopt
