// GridSample of any number of spatial axes: x at the places that a grid names, between its elements.
//
// A place has taps along each axis; their combinations are offsets and weights. Those of a tile of places are found
// once and used for all channels: the inner loop sums gathered elements, places innermost. Tiles in parallel.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/float_types.h"
#include "ops/registry.h"
#include "ops/copy_elements.h"

namespace graphopt {
namespace {

// ints: mode, padding, whether -1 and 1 are the centers of the outermost elements (else their outer edges)
// in: x [N, C, spatial...], grid [N, places..., axes], innermost axis first
enum class Mode : int64_t { kNearest = 0, kLinear = 1, kCubic = 2 };  // logarithms of the taps
enum class Padding : int64_t { kZeros = 0, kBorder = 1, kReflection = 2 };

constexpr int kMostAxes = kMaxRank - 2, kMostTaps = 4, kTile = 64;
constexpr int64_t kMostCombinations = 64;  // cubic over three axes
constexpr double kCubicA = -0.75;
constexpr double kFar = 1e9;  // beyond, and for what is no number: outside of any tensor

struct GridParams {
  Padding padding;
  Mode mode;
  bool aligns;
  int axes, taps, tap_bits;
  int64_t places, tiles, combinations;  // of one image
  int64_t channels, x_image, x_channel, grid_image, y_image;
  int64_t sizes[kMostAxes], strides[kMostAxes];
  bool is_empty;  // no element to sample
  int64_t weights_bytes;  // in scratch, before the offsets
};

template <class C> struct Taps {
  int64_t index[kMostTaps];  // -1: outside
  C weight[kMostTaps];
};

// A place on an axis, in elements.
template <class C> C in_elements(C at, int64_t size, bool aligns) {
  const C n = static_cast<C>(size);
  return aligns ? (at + 1) / 2 * (n - 1) : ((at + 1) * n - 1) / 2;
}

template <class C> C reflected(C at, C low, C high) {
  const C range = high - low;
  if (!(range > 0)) return low;
  if (at >= low && at <= high) return at;
  const C beyond = at < low ? low - at : at - high;
  const C turns = std::floor(beyond / range);
  const C rest = beyond - turns * range;
  const bool is_even = std::fmod(turns, C{2}) == 0;
  return (at < low) == is_even ? low + rest : high - rest;
}

template <class C> void cubic_weights(C t, C* weight) {
  const C a = static_cast<C>(kCubicA);
  const auto inner = [a](C d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
  const auto outer = [a](C d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
  weight[0] = outer(t + 1), weight[1] = inner(t), weight[2] = inner(1 - t), weight[3] = outer(2 - t);
}

template <class C> Taps<C> taps_of(const GridParams& p, int axis, C at) {
  const int64_t size = p.sizes[axis];
  const C last = static_cast<C>(size - 1);
  const C low = p.aligns ? C{0} : C{-0.5}, high = p.aligns ? last : last + C{0.5};
  at = in_elements(at, size, p.aligns);
  if (p.mode == Mode::kNearest) at = std::nearbyint(at);
  // A cubic's taps are moved to the border one by one, as PyTorch and onnxruntime do: the place keeps its fraction.
  if (p.padding == Padding::kBorder && p.mode != Mode::kCubic) at = std::min(std::max(at, C{0}), last);
  if (p.padding == Padding::kReflection) at = reflected(at, low, high);
  if (!(std::abs(at) < static_cast<C>(kFar))) at = static_cast<C>(-kFar);
  Taps<C> taps{};
  const C floor = std::floor(at), t = at - floor;
  int64_t first = static_cast<int64_t>(floor);
  taps.weight[0] = 1;
  if (p.mode == Mode::kLinear) taps.weight[0] = 1 - t, taps.weight[1] = t;
  if (p.mode == Mode::kCubic) cubic_weights(t, taps.weight), first -= 1;
  for (int k = 0; k < p.taps; ++k) {
    int64_t i = first + k;
    if (p.padding == Padding::kReflection) i = static_cast<int64_t>(reflected(static_cast<C>(i), low, high));
    if (p.padding != Padding::kZeros) i = std::clamp<int64_t>(i, 0, size - 1);
    taps.index[k] = i >= 0 && i < size ? i : -1;
  }
  return taps;
}

// Offsets and weights of all combinations of taps of one place; outside: offset 0 and an infinite weight.
template <class C> void combine(const GridParams& p, const Taps<C>* taps, int at, int64_t* offsets, C* weights) {
  for (int64_t c = 0; c < p.combinations; ++c) {
    int64_t offset = 0, rest = c;
    C weight = 1;
    bool is_inside = true;
    for (int a = p.axes - 1; a >= 0; --a) {
      const int64_t k = rest & (p.taps - 1);
      rest >>= p.tap_bits;
      is_inside = is_inside && taps[a].index[k] >= 0;
      offset += taps[a].index[k] * p.strides[a];
      weight *= taps[a].weight[k];
    }
    offsets[c * kTile + at] = is_inside ? offset : 0;
    weights[c * kTile + at] = is_inside ? weight : std::numeric_limits<C>::infinity();
  }
}

template <class T, bool kHasOutside>
void sum_tile(const GridParams& p, const T* x, const int64_t* offsets, const Compute<T>* weights, int n, T* y) {
  using C = Compute<T>;
  C sums[kTile] = {};
  for (int64_t c = 0; c < p.combinations; ++c) {
    const int64_t* offset = offsets + c * kTile;
    const C* weight = weights + c * kTile;
    for (int i = 0; i < n; ++i) {
      const C product = weight[i] * value_of(x[offset[i]]);
      sums[i] += kHasOutside && weight[i] == std::numeric_limits<C>::infinity() ? C{0} : product;
    }
  }
  for (int i = 0; i < n; ++i) y[i] = element_of<T>(sums[i]);
}

template <class T> void run_grid_sample(const Instr& instr, Worker& worker) {
  using C = Compute<T>;
  const GridParams& p = instr.as<GridParams>();
  const Tensor &x = *instr.in[0], &grid = *instr.in[1], &y = *instr.out[0];
  const auto sum = p.padding == Padding::kZeros ? sum_tile<T, true> : sum_tile<T, false>;
  worker.parallel(x.dims[0] * p.tiles, 1, [&](int64_t begin, int64_t end, Worker& me) {
    C* weights = reinterpret_cast<C*>(me.scratch);
    int64_t* offsets = reinterpret_cast<int64_t*>(me.scratch + p.weights_bytes);
    for (int64_t job = begin; job < end; ++job) {
      const int64_t image = job / p.tiles, first = job % p.tiles * kTile;
      const int n = static_cast<int>(std::min<int64_t>(kTile, p.places - first));
      const T* places = grid.as<T>() + image * p.grid_image + first * p.axes;
      T* out = y.as<T>() + image * p.y_image + first;
      if (p.is_empty) {
        for (int64_t c = 0; c < p.channels; ++c) std::fill_n(out + c * p.places, n, element_of<T>(C{0}));
        continue;
      }
      for (int i = 0; i < n; ++i) {
        Taps<C> taps[kMostAxes];
        for (int a = 0; a < p.axes; ++a) taps[a] = taps_of<C>(p, a, value_of(places[i * p.axes + p.axes - 1 - a]));
        combine(p, taps, i, offsets, weights);
      }
      const T* in = x.as<T>() + image * p.x_image;
      for (int64_t c = 0; c < p.channels; ++c) sum(p, in + c * p.x_channel, offsets, weights, n, out + c * p.places);
    }
  });
}

void check(const Bind& b) {
  const Tensor &x = *b.in[0], &grid = *b.in[1];
  if (x.rank < 3 || grid.rank != x.rank || grid.dims[grid.rank - 1] != x.rank - 2 || grid.dims[0] != x.dims[0])
    b.host->fail("x of shape %s can't be sampled at a grid of shape %s", shape_text(x).text, shape_text(grid).text);
}

void shape_grid_sample(Bind& b) {
  check(b);
  const Tensor &x = *b.in[0], &grid = *b.in[1];
  Tensor& y = *b.out[0];
  y.rank = x.rank;
  y.dims[0] = x.dims[0], y.dims[1] = x.dims[1];
  for (int a = 2; a < x.rank; ++a) y.dims[a] = grid.dims[a - 1];
}

Run prepare_grid_sample(Bind& b) {
  check(b);
  const Tensor &x = *b.in[0], &grid = *b.in[1];
  GridParams& p = b.make<GridParams>();
  p.mode = static_cast<Mode>(b.ints[0]), p.padding = static_cast<Padding>(b.ints[1]), p.aligns = b.ints[2] != 0;
  p.axes = x.rank - 2;
  p.tap_bits = static_cast<int>(p.mode);
  p.taps = 1 << p.tap_bits;
  p.combinations = 1;
  for (int a = 0; a < p.axes; ++a) {
    p.sizes[a] = x.dims[a + 2], p.strides[a] = x.strides[a + 2];
    p.is_empty = p.is_empty || x.dims[a + 2] == 0;
    p.combinations *= p.taps;
  }
  if (p.combinations > kMostCombinations) b.host->fail("an interpolation over %d axes", p.axes);
  p.places = grid.product(1, grid.rank - 1);
  p.tiles = (p.places + kTile - 1) / kTile;
  p.channels = x.dims[1];
  p.x_image = x.strides[0], p.x_channel = x.strides[1];
  p.grid_image = p.places * p.axes, p.y_image = p.channels * p.places;
  const int64_t elements = p.combinations * kTile;
  p.weights_bytes = elements * (x.dtype == DType::kDouble ? 8 : 4);
  b.need_scratch(p.weights_bytes + elements * static_cast<int64_t>(sizeof(int64_t)));
  const Run run = GRAPHOPT_FOR_FLOATS(x.dtype, run_grid_sample);
  if (run == nullptr || grid.dtype != x.dtype) b.host->fail("GridSample of element type %d", static_cast<int>(x.dtype));
  return run;
}

const RegisterKernel grid_sample{"grid_sample", prepare_grid_sample, shape_grid_sample};

}  // namespace
}  // namespace graphopt
