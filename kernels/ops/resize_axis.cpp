// Tables of a resized axis. Coordinates are computed in float32, as other runtimes do: ties fall the same way.
#include "ops/resize.h"

#include <cmath>

namespace graphopt {
namespace {

float source_of(const ResizeSpec& spec, const ResizedAxis& a, int64_t o) {
  const auto x = static_cast<float>(o), in = static_cast<float>(a.in), out = static_cast<float>(a.out);
  switch (spec.coordinates) {
    case Coordinates::kHalfPixel: return (x + 0.5f) / a.scale - 0.5f;
    case Coordinates::kHalfPixelSymmetric: {
      const float adjustment = out / (a.scale * in), offset = in / 2 * (1 - adjustment);
      return offset + (x + 0.5f) / a.scale - 0.5f;
    }
    case Coordinates::kPytorchHalfPixel: return a.out > 1 ? (x + 0.5f) / a.scale - 0.5f : 0.0f;
    case Coordinates::kAlignCorners: return a.length == 1 ? 0.0f : x * (in - 1) / (a.length - 1);
    case Coordinates::kAsymmetric: return x / a.scale;
    case Coordinates::kTfHalfPixelForNn: return (x + 0.5f) / a.scale;
    case Coordinates::kTfCropAndResize:
      return a.out > 1 ? a.roi_begin * (in - 1) + x * (a.roi_end - a.roi_begin) * (in - 1) / (out - 1)
                       : 0.5f * (a.roi_begin + a.roi_end) * (in - 1);
  }
  return x;
}

int64_t nearest(Rounding rounding, float x, bool shrinks) {
  switch (rounding) {
    case Rounding::kRoundPreferFloor: return static_cast<int64_t>(std::ceil(x - 0.5f));
    case Rounding::kRoundPreferCeil: return static_cast<int64_t>(std::floor(x + 0.5f));
    case Rounding::kFloor: return static_cast<int64_t>(std::floor(x));
    case Rounding::kCeil: return static_cast<int64_t>(std::ceil(x));
    case Rounding::kSimple: return static_cast<int64_t>(shrinks ? std::ceil(x) : std::floor(x));
  }
  return 0;
}

double cubic(double a, double x) {
  x = std::abs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

// The weight of a neighbour at this distance from the source.
double weight_of(const ResizeSpec& spec, double distance) {
  if (spec.mode == Interpolation::kCubic) return cubic(spec.cubic_a, distance);
  distance = std::abs(distance);
  return distance < 1 ? 1 - distance : 0;
}

}  // namespace

void fill_axis(Bind& b, const ResizeSpec& spec, ResizedAxis& a) {
  const double shrink = spec.antialias && a.scale < 1 ? a.scale : 1;
  const int64_t reach = spec.mode == Interpolation::kCubic ? 2 : 1;
  // Neighbours from floor(source) + first on.
  const auto first = static_cast<int64_t>(std::floor(-static_cast<double>(reach) / shrink)) + 1;
  a.taps = spec.mode == Interpolation::kNearest ? 1 : 2 - 2 * first;
  a.index = b.array<int32_t>(a.out * a.taps);
  a.weight = b.array<double>(a.out * a.taps);
  a.is_outside = b.array<bool>(a.out);
  for (int64_t o = 0; o < a.out; ++o) {
    const float x = source_of(spec, a, o);
    a.is_outside[o] = spec.coordinates == Coordinates::kTfCropAndResize && (x < 0 || x > static_cast<float>(a.in - 1));
    int32_t* index = a.index + o * a.taps;
    double* weight = a.weight + o * a.taps;
    auto inside = [&](int64_t i) { return i < 0 ? 0 : i >= a.in ? a.in - 1 : i; };
    if (spec.mode == Interpolation::kNearest) {
      index[0] = static_cast<int32_t>(inside(nearest(spec.rounding, x, a.scale < 1)));
      weight[0] = 1;
      continue;
    }
    const auto base = static_cast<int64_t>(std::floor(x));
    double sum = 0;
    for (int64_t t = 0; t < a.taps; ++t) {
      const int64_t i = base + first + t;
      weight[t] = weight_of(spec, (static_cast<double>(i) - static_cast<double>(x)) * shrink);
      if (spec.exclude_outside && (i < 0 || i >= a.in)) weight[t] = 0;
      sum += weight[t];
      index[t] = static_cast<int32_t>(inside(i));
    }
    if (spec.antialias || spec.exclude_outside)
      for (int64_t t = 0; t < a.taps; ++t) weight[t] /= sum;
  }
}

}  // namespace graphopt
