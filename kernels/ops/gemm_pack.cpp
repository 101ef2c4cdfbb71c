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
Tensor matrix(const PackRequest& r, const Tensor& source, DType wanted = DType::kFloat) {
  if (r.n_sources != 1 || source.rank != 2) r.host->fail("weights of a product are a matrix");
  if (wanted == DType::kFloat ? !is_float(source.dtype) : source.dtype != wanted) r.host->fail("weights of element type %d", static_cast<int>(source.dtype));
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

#if defined(__AVX512BF16__) || defined(GRAPHOPT_LAYOUT_OF_PAIRS)
// Pairs of rows: [(depth + 1) / 2][columns of the panel][2], as dot products of bfloat16 read them.
int64_t pair_bytes(const PackRequest& r) {
  const Tensor source = matrix(r, r.sources[0]);
  return (source.dims[0] + 1) / 2 * 4 * Panels{source.dims[1]}.padded();
}

// Calls f(place in the packed form, element number in a dense [K, N]'s strides).
template <class F>
void for_each_pair(const Tensor& t, const F& f) {
  const Panels panels{t.dims[1]};
  const int64_t pairs = (t.dims[0] + 1) / 2;
  for (int64_t n = 0; n < t.dims[1]; ++n) {
    const int64_t p = n / kPanel, width = panels.width(p);
    for (int64_t k = 0; k < t.dims[0]; ++k)
      f(p * kPanel * pairs * 2 + (k / 2 * width + n % kPanel) * 2 + k % 2, k * t.strides[0] + n * t.strides[1]);
  }
}

void pack_pairs(const PackRequest& r, char* packed) {
  const Tensor source = matrix(r, r.sources[0]);
  with_floats(source.dtype, source.data, [&](auto* from) {
    for_each_pair(source, [&](int64_t to, int64_t at) { reinterpret_cast<bf16*>(packed)[to] = converted<bf16>(from[at]); });
  });
}

void unpack_pairs(const PackRequest& r, const char* packed, Tensor* sources) {
  const Tensor to = matrix(r, sources[0]);
  with_floats(to.dtype, to.data, [&](auto* typed) {
    using To = std::remove_cv_t<std::remove_pointer_t<decltype(typed)>>;
    for_each_pair(to, [&](int64_t from, int64_t at) {
      const_cast<To*>(typed)[at] = converted<To>(reinterpret_cast<const bf16*>(packed)[from]);
    });
  });
}

const RegisterPacker bf16_panels{"gemm.bf16", pair_bytes, pack_pairs, unpack_pairs};
#else
const RegisterPacker bf16_panels{"gemm.bf16", bytes<bf16>, pack<bf16>, unpack<bf16>};
#endif
// Bytes as they are: their scales are an operand of the product.
template <bool packs>
void copy_bytes(const PackRequest& r, const Tensor& t, const char* packed) {
  const Panels panels{t.dims[1]};
  for (int64_t n = 0; n < t.dims[1]; ++n)
    for (int64_t k = 0; k < t.dims[0]; ++k) {
      const int64_t p = n / kPanel;
      char& inside = const_cast<char&>(packed[p * kPanel * t.dims[0] + k * panels.width(p) + n % kPanel]);
      char& outside = t.data[k * t.strides[0] + n * t.strides[1]];
      (packs ? inside : outside) = packs ? outside : inside;
    }
}

void pack_bytes(const PackRequest& r, char* packed) { copy_bytes<true>(r, matrix(r, r.sources[0], DType::kInt8), packed); }
void unpack_bytes(const PackRequest& r, const char* packed, Tensor* sources) {
  copy_bytes<false>(r, matrix(r, sources[0], DType::kInt8), packed);
}
int64_t count_bytes(const PackRequest& r) {
  const Tensor t = matrix(r, r.sources[0], DType::kInt8);
  return t.dims[0] * Panels{t.dims[1]}.padded();
}

const RegisterPacker byte_panels{"gemm.s8", count_bytes, pack_bytes, unpack_bytes};
const RegisterPacker f32_panels{"gemm.f32", bytes<float>, pack<float>, unpack<float>};
const RegisterPacker f16_panels{"gemm.f16", bytes<f16>, pack<f16>, unpack<f16>};

}  // namespace
}  // namespace graphopt
