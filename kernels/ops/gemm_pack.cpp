// Packed weights of the float products: panel after panel, [depth][columns of the panel].
//
//   source [K, N], or [N, K] if ints[0] is not 0; of any strides and any float type
//   packed  p: [K][kPanel] for whole panels, then [K][kPanel or kLanes], padded with zeros
#include <utility>

#include "ops/gemm_pack.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// The source as [K, N].
Tensor matrix(const PackRequest& r, const Tensor& source) {
  if (r.n_sources != 1 || source.rank != 2) r.host->fail("weights of a product are a matrix");
  if (!is_float(source.dtype)) r.host->fail("weights of element type %d", static_cast<int>(source.dtype));
  Tensor t = source;
  if (r.n_ints > 0 && r.ints[0] != 0) {
    std::swap(t.dims[0], t.dims[1]);
    std::swap(t.strides[0], t.strides[1]);
  }
  return t;
}

template <class To>
int64_t bytes(const PackRequest& r) {
  const Tensor source = matrix(r, r.sources[0]);
  return source.dims[0] * Panels{source.dims[1]}.padded() * static_cast<int64_t>(sizeof(To));
}

template <class To>
void pack(const PackRequest& r, char* packed) {
  const Tensor source = matrix(r, r.sources[0]);
  const int64_t depth = source.dims[0];
  const Panels panels{source.dims[1]};
  with_floats(source.dtype, source.data, [&](auto* from) {
    To* to = reinterpret_cast<To*>(packed);
    for (int64_t p = 0; p < panels.count(); ++p) {
      const int64_t first = p * kPanel, width = panels.width(p);
      const int64_t columns = panels.columns - first < width ? panels.columns - first : width;
      copy_block(from + first * source.strides[1], source.strides[0], source.strides[1], depth, columns, width, to, width);
      to += depth * width;
    }
  });
}

template <class From>
void unpack(const PackRequest& r, const char* packed, Tensor* sources) {
  const Tensor to = matrix(r, sources[0]);
  const int64_t depth = to.dims[0];
  const Panels panels{to.dims[1]};
  with_floats(to.dtype, to.data, [&](auto* typed) {
    using To = std::remove_cv_t<std::remove_pointer_t<decltype(typed)>>;
    const From* from = reinterpret_cast<const From*>(packed);
    for (int64_t p = 0; p < panels.count(); ++p) {
      const int64_t first = p * kPanel, width = panels.width(p);
      for (int64_t k = 0; k < depth; ++k, from += width)
        for (int64_t j = 0; j < width && first + j < panels.columns; ++j)
          const_cast<To*>(typed)[k * to.strides[0] + (first + j) * to.strides[1]] = converted<To>(from[j]);
    }
  });
}

const RegisterPacker f32_panels{"gemm.f32", bytes<float>, pack<float>, unpack<float>};
const RegisterPacker f16_panels{"gemm.f16", bytes<f16>, pack<f16>, unpack<f16>};

}  // namespace
}  // namespace graphopt
