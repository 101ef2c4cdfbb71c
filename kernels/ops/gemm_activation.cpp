// Activations as a pass over a finished tile of a matrix product: it is in L1, which costs 0-3 % of the product,
// and row templates need not be compiled for each activation.
#include "ops/gemm_end.h"
#include "simd/math.h"

namespace graphopt {
namespace {

template <class F>
GRAPHOPT_INLINE void each(float* c, int64_t c_stride, int rows, int columns, const F& f) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; j += kLanes) store(c + i * c_stride + j, f(load(c + i * c_stride + j)));
}

void leaky_relu(float* c, int64_t c_stride, int rows, int columns, float alpha, float) {
  each(c, c_stride, rows, columns, [=](vf x) { return x < 0.0f ? x * alpha : x; });
}
void sigmoid_pass(float* c, int64_t c_stride, int rows, int columns, float, float) {
  each(c, c_stride, rows, columns, [](vf x) { return sigmoid(x); });
}
void tanh_pass(float* c, int64_t c_stride, int rows, int columns, float, float) {
  each(c, c_stride, rows, columns, [](vf x) { return tanh(x); });
}
void gelu_pass(float* c, int64_t c_stride, int rows, int columns, float, float) {
  each(c, c_stride, rows, columns, [](vf x) { return gelu_fast(x); });
}
void gelu_tanh_pass(float* c, int64_t c_stride, int rows, int columns, float, float) {
  each(c, c_stride, rows, columns, [](vf x) { return gelu_tanh(x); });
}
void silu_pass(float* c, int64_t c_stride, int rows, int columns, float alpha, float) {
  each(c, c_stride, rows, columns, [=](vf x) { return x * sigmoid(x * alpha); });
}
void hard_sigmoid(float* c, int64_t c_stride, int rows, int columns, float alpha, float beta) {
  each(c, c_stride, rows, columns, [=](vf x) { return min(broadcast(1.0f), max(vf{}, alpha * x + beta)); });
}
void hard_swish(float* c, int64_t c_stride, int rows, int columns, float, float) {
  each(c, c_stride, rows, columns, [](vf x) { return x * min(broadcast(1.0f), max(vf{}, x * (1.0f / 6.0f) + 0.5f)); });
}
void elu(float* c, int64_t c_stride, int rows, int columns, float alpha, float) {
  each(c, c_stride, rows, columns, [=](vf x) { return x < 0.0f ? alpha * expm1(x) : x; });
}
void softplus_pass(float* c, int64_t c_stride, int rows, int columns, float, float) {
  each(c, c_stride, rows, columns, [](vf x) { return softplus(x); });
}
void mish(float* c, int64_t c_stride, int rows, int columns, float, float) {
  each(c, c_stride, rows, columns, [](vf x) { return x * tanh(softplus(x)); });
}

}  // namespace

ActivationPass activation_pass(Activation activation) {
  switch (activation) {
    case Activation::kLeakyRelu: return leaky_relu;
    case Activation::kSigmoid: return sigmoid_pass;
    case Activation::kTanh: return tanh_pass;
    case Activation::kGelu: return gelu_pass;
    case Activation::kGeluTanh: return gelu_tanh_pass;
    case Activation::kSilu: return silu_pass;
    case Activation::kHardSigmoid: return hard_sigmoid;
    case Activation::kHardSwish: return hard_swish;
    case Activation::kElu: return elu;
    case Activation::kSoftplus: return softplus_pass;
    case Activation::kMish: return mish;
    default: return nullptr;
  }
}

}  // namespace graphopt
