// Activations of recurrent cells: vectors of floats, scalars of doubles.
#include <cmath>

#include "ops/recurrent.h"
#include "simd/math.h"

namespace graphopt {
namespace {

template <class F> void for_vectors(float* v, int64_t n, const F& f) {
  for (int64_t i = 0; i < n; i += kLanes) store(v + i, f(load(v + i)));
}

double squash_one(const SquashSpec& s, double x) {
  switch (s.kind) {
    case Squash::kSigmoid: return 1 / (1 + std::exp(-x));
    case Squash::kTanh: return std::tanh(x);
    case Squash::kRelu: return x > 0 ? x : 0;
    case Squash::kAffine: return s.alpha * x + s.beta;
    case Squash::kLeakyRelu: return x < 0 ? s.alpha * x : x;
    case Squash::kThresholdedRelu: return x > s.alpha ? x : 0;
    case Squash::kScaledTanh: return s.alpha * std::tanh(s.beta * x);
    case Squash::kHardSigmoid: return std::fmin(std::fmax(s.alpha * x + s.beta, 0.0), 1.0);
    case Squash::kElu: return x < 0 ? s.alpha * std::expm1(x) : x;
    case Squash::kSoftsign: return x / (1 + std::abs(x));
    case Squash::kSoftplus: return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
  }
  return x;
}

}  // namespace

void squash(const SquashSpec& s, float* v, int64_t n) {
  const auto alpha = static_cast<float>(s.alpha), beta = static_cast<float>(s.beta);
  const vf zero{}, one = broadcast(1.0f);
  switch (s.kind) {
    case Squash::kSigmoid: return for_vectors(v, n, [](vf x) { return sigmoid(x); });
    case Squash::kTanh: return for_vectors(v, n, [](vf x) { return tanh(x); });
    case Squash::kRelu: return for_vectors(v, n, [&](vf x) { return max(zero, x); });
    case Squash::kAffine: return for_vectors(v, n, [&](vf x) { return x * alpha + beta; });
    case Squash::kLeakyRelu: return for_vectors(v, n, [&](vf x) { return x < zero ? x * alpha : x; });
    case Squash::kThresholdedRelu: return for_vectors(v, n, [&](vf x) { return x > broadcast(alpha) ? x : zero; });
    case Squash::kScaledTanh: return for_vectors(v, n, [&](vf x) { return tanh(x * beta) * alpha; });
    case Squash::kHardSigmoid: return for_vectors(v, n, [&](vf x) { return min(one, max(zero, x * alpha + beta)); });
    case Squash::kElu: return for_vectors(v, n, [&](vf x) { return x < zero ? expm1(x) * alpha : x; });
    case Squash::kSoftsign: return for_vectors(v, n, [&](vf x) { return x / (abs(x) + 1.0f); });
    case Squash::kSoftplus: return for_vectors(v, n, [](vf x) { return softplus(x); });
  }
}

void squash(const SquashSpec& s, double* v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) v[i] = squash_one(s, v[i]);
}

}  // namespace graphopt
