// Where each position of a resized axis reads, and with which weights.
#pragma once
#include "engine/abi.h"

namespace graphopt {

enum class Interpolation : int64_t { kNearest = 0, kLinear = 1, kCubic = 2 };
enum class Coordinates : int64_t {
  kHalfPixel = 0, kHalfPixelSymmetric = 1, kPytorchHalfPixel = 2, kAlignCorners = 3, kAsymmetric = 4,
  kTfHalfPixelForNn = 5, kTfCropAndResize = 6,
};
// kSimple: what operators without the attribute did.
enum class Rounding : int64_t { kRoundPreferFloor = 0, kRoundPreferCeil = 1, kFloor = 2, kCeil = 3, kSimple = 4 };
enum class AspectRatio : int64_t { kStretch = 0, kNotLarger = 1, kNotSmaller = 2 };

struct ResizeSpec {
  Interpolation mode;
  Coordinates coordinates;
  Rounding rounding;
  bool exclude_outside, antialias;
  float cubic_a;
};

struct ResizedAxis {
  int64_t in, out;
  float scale, roi_begin, roi_end;
  float length;  // of the result before it is rounded down
  int64_t taps;
  int32_t* index;    // [out][taps], inside the input
  double* weight;    // the same
  bool* is_outside;  // of tf_crop_and_resize: the position takes the extrapolation value
};

// Fills the tables of an axis whose sizes, scale and roi are set.
void fill_axis(Bind& b, const ResizeSpec& spec, ResizedAxis& axis);

}  // namespace graphopt
