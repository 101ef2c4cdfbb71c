// Packer `conv.winograd`: filters [filters, channels, 3, 3] as G g G', 16 matrices of channels x filters.
//
// In doubles, so that what is packed is rounded once. The filter is recovered from its corners, edges and middle.
#include "ops/conv_winograd.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

WinogradWeights weights_of(const PackRequest& r) {
  const Tensor& w = r.sources[0];
  if (r.n_sources != 1 || w.rank != 4 || w.dims[2] != 3 || w.dims[3] != 3 || !is_float(w.dtype))
    r.host->fail("conv.winograd takes filters of 3 x 3, not of rank %d and element type %d", w.rank, static_cast<int>(w.dtype));
  return {w.dims[1], {w.dims[0]}};
}

int64_t bytes(const PackRequest& r) { return weights_of(r).bytes(); }

// Calls f(filter in the source, place of its first value in the packed form) for all filters of all channels.
template <class F>
void for_filters(const WinogradWeights& form, const Tensor& w, const F& f) {
  for (int64_t n = 0; n < w.dims[0]; ++n) {
    const int64_t p = n / kPanel, width = form.filters.width(p);
    for (int64_t c = 0; c < w.dims[1]; ++c) f(n * w.strides[0] + c * w.strides[1], form.panel(p) + c * width + n % kPanel);
  }
}

// Rows of G times three values.
void widen(const double g[3], double u[4]) {
  u[0] = g[0], u[3] = g[2];
  u[1] = (g[0] + g[1] + g[2]) / 2, u[2] = (g[0] - g[1] + g[2]) / 2;
}

// Their inverse.
void narrow(const double u[4], double g[3]) { g[0] = u[0], g[1] = u[1] - u[2], g[2] = u[3]; }

void pack(const PackRequest& r, char* packed) {
  const WinogradWeights form = weights_of(r);
  const Tensor& w = r.sources[0];
  auto* to = reinterpret_cast<float*>(packed);
  with_floats(w.dtype, w.data, [&](auto* from) {
    for_filters(form, w, [&](int64_t at, int64_t place) {
      double columns[3][4], row[3], all[4];
      for (int j = 0; j < 3; ++j) {
        for (int i = 0; i < 3; ++i) row[i] = to_float(from[at + i * w.strides[2] + j * w.strides[3]]);
        widen(row, columns[j]);
      }
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 3; ++j) row[j] = columns[j][i];
        widen(row, all);
        for (int j = 0; j < 4; ++j) to[(i * 4 + j) * form.stride() + place] = static_cast<float>(all[j]);
      }
    });
  });
}

void unpack(const PackRequest& r, const char* packed, Tensor* sources) {
  const WinogradWeights form = weights_of(r);
  const Tensor& w = sources[0];
  const auto* from = reinterpret_cast<const float*>(packed);
  with_floats(w.dtype, w.data, [&](auto* typed) {
    using To = std::remove_cv_t<std::remove_pointer_t<decltype(typed)>>;
    for_filters(form, w, [&](int64_t at, int64_t place) {
      double rows[4][3], column[4], all[3];
      for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) column[j] = from[(i * 4 + j) * form.stride() + place];
        narrow(column, rows[i]);
      }
      for (int j = 0; j < 3; ++j) {
        for (int i = 0; i < 4; ++i) column[i] = rows[i][j];
        narrow(column, all);
        for (int i = 0; i < 3; ++i) const_cast<To*>(typed)[at + i * w.strides[2] + j * w.strides[3]] = converted<To>(all[i]);
      }
    });
  });
}

const RegisterPacker filters{"conv.winograd", bytes, pack, unpack};

}  // namespace
}  // namespace graphopt
