// A row of a normalization in vectors: its mean, its deviation, and what is made of them.
#pragma once
#include <cmath>

#include "ops/norm_rows.h"

namespace graphopt {

// Sum of f(vector) over a row. Four sums hide the latency of the addition.
template <class T, class F>
GRAPHOPT_INLINE float sum_over(const T* x, int64_t n, const F& f) {
  vf s[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) s[k] += f(load(x + i + k * kLanes));
  for (; i + kLanes <= n; i += kLanes) s[0] += f(load(x + i));
  if (const int rest = static_cast<int>(n - i)) s[1] += first_lanes(f(load_first(x + i, rest)), rest, vf{});
  return sum_of((s[0] + s[1]) + (s[2] + s[3]));
}

struct RowMoments {
  float mean, inverse;  // of the deviation, or of the root mean square where the mean is left out
};

template <class T>
GRAPHOPT_INLINE RowMoments moments_of(const T* x, int64_t n, bool centred, float epsilon) {
  const float mean = centred ? sum_over(x, n, [](vf v) { return v; }) / static_cast<float>(n) : 0;
  const vf m = broadcast(mean);
  const float square = sum_over(x, n, [m](vf v) { return (v - m) * (v - m); }) / static_cast<float>(n);
  return {mean, 1.0f / std::sqrt(square + epsilon)};
}

template <class T>
GRAPHOPT_INLINE vf load_some(const T* p, int n) {
  return n == kLanes ? load(p) : load_first(p, n % kLanes);
}

// put(i, vector, lanes that count) of (x - mean) * inverse * scale + bias, from element i on.
template <bool kScale, bool kBias, class T, class Put>
GRAPHOPT_INLINE void normalized_as(const T* x, int64_t n, RowMoments of, const float* scale, const float* bias, const Put& put) {
  const vf m = broadcast(of.mean), r = broadcast(of.inverse);
  const auto value = [&](vf v, int64_t i, int lanes) {
    v = (v - m) * (kScale ? r * load_some(scale + i, lanes) : r);
    return kBias ? v + load_some(bias + i, lanes) : v;
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) put(i, value(load(x + i), i, kLanes), kLanes);
  if (const int rest = static_cast<int>(n - i)) put(i, value(load_first(x + i, rest), i, rest), rest);
}

template <class T, class Put>
GRAPHOPT_INLINE void normalized(const T* x, int64_t n, RowMoments of, const float* scale, const float* bias, const Put& put) {
  if (scale && bias) normalized_as<true, true>(x, n, of, scale, bias, put);
  else if (scale) normalized_as<true, false>(x, n, of, scale, bias, put);
  else if (bias) normalized_as<false, true>(x, n, of, scale, bias, put);
  else normalized_as<false, false>(x, n, of, scale, bias, put);
}

}  // namespace graphopt
