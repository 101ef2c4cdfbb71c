// RoiAlign: regions of images, each resized to bins that are means or maxima of samples between the pixels.
//
// A region's samples lie on a grid, so that its rows and its columns are found once for a block of channels; those of
// a region with more than the table holds are found where they are needed. Regions and blocks in parallel.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/copy_elements.h"
#include "ops/float_types.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

// ints: whether of means (else maxima), height and width in bins, samples an axis of a bin (0: by the region's size),
//       whether pixels have their centers at halves;  floats: spatial scale
// in: x [N, C, H, W], regions [R, 4] (x and y of two corners), images [R]
constexpr int64_t kChannels = 32;          // of a job
constexpr int64_t kTable = 1024;           // samples of an axis that are kept
constexpr int64_t kPixels = 128;           // samples of a bin that are summed at once
constexpr int64_t kMostSamples = 1 << 20;  // of an axis of a bin: more is no region

struct RoiParams {
  bool is_mean, has_halves, is_empty;
  int64_t height, width, samples;  // bins
  int64_t blocks;                  // of channels
  double scale;
};

// A sample on one axis: two pixels and their weights; none where it lies outside.
template <class C> struct Sample {
  int64_t low, high;
  C at_low, at_high;
  bool is_inside;
};

template <class C> Sample<C> sample_at(C at, int64_t size) {
  Sample<C> s{};
  s.is_inside = at >= -1 && at <= static_cast<C>(size);
  if (!s.is_inside) return s;
  at = std::max(at, C{0});
  s.low = static_cast<int64_t>(at);
  if (s.low >= size - 1) s.low = s.high = size - 1, at = static_cast<C>(s.low);
  else s.high = s.low + 1;
  s.at_high = at - static_cast<C>(s.low), s.at_low = 1 - s.at_high;
  return s;
}

// The samples of a region along one axis.
template <class C> struct Axis {
  C start, bin;
  int64_t bins, samples, size;  // samples of a bin; pixels
  Sample<C>* table;

  bool is_kept() const { return bins * samples <= kTable; }
  Sample<C> make(int64_t i) const {
    const C step = bin / static_cast<C>(samples);
    return sample_at(start + static_cast<C>(i / samples) * bin + (static_cast<C>(i % samples) + C{0.5}) * step, size);
  }
  void fill() const {
    if (is_kept())
      for (int64_t i = 0; i < bins * samples; ++i) table[i] = make(i);
  }
  Sample<C> at(int64_t i) const { return is_kept() ? table[i] : make(i); }
};

template <class C> Axis<C> axis_of(const RoiParams& p, const Host& host, C begin, C end, int64_t bins, int64_t size, Sample<C>* table) {
  const C offset = p.has_halves ? C{0.5} : C{0}, scale = static_cast<C>(p.scale);
  Axis<C> axis{begin * scale - offset, 0, bins, p.samples, size, table};
  C length = end * scale - offset - axis.start;
  if (!p.has_halves) length = std::max(length, C{1});
  axis.bin = length / static_cast<C>(bins);
  if (!(std::abs(axis.bin) < static_cast<C>(kMostSamples)))
    host.fail("a region from %g to %g", static_cast<double>(begin), static_cast<double>(end));
  if (p.samples <= 0) axis.samples = std::max<int64_t>(0, static_cast<int64_t>(std::ceil(axis.bin)));
  axis.fill();
  return axis;
}

// The pixels of one sample, as offsets from an image's first, and their weights.
template <class C> struct Pixels {
  int64_t offset[4];
  C weight[4];
};

// Samples of one bin, in pieces; `results`: sums or maxima so far, one a channel.
template <class T, bool kIsMean>
void add_samples(const Pixels<Compute<T>>* pixels, int64_t n, const T* x, int64_t channel, int64_t channels, bool is_first, Compute<T>* results) {
  using C = Compute<T>;
  for (int64_t c = 0; c < channels; ++c, x += channel) {
    C parts[4] = {}, largest = is_first ? std::numeric_limits<C>::lowest() : results[c];
    for (int64_t s = 0; s < n; ++s)
      for (int k = 0; k < 4; ++k) {
        const C product = pixels[s].weight[k] * value_of(x[pixels[s].offset[k]]);
        if constexpr (kIsMean) parts[k] += product;
        else parts[k] = product, largest = std::max(largest, product);
      }
    if constexpr (kIsMean) results[c] = (is_first ? C{0} : results[c]) + (parts[0] + parts[1]) + (parts[2] + parts[3]);
    else results[c] = largest;
  }
}

// One bin of a block of channels.
template <class T, bool kIsMean>
void bin_of(const T* x, const Tensor& image, const Axis<Compute<T>>& rows, const Axis<Compute<T>>& columns, int64_t row, int64_t column,
            int64_t channels, Pixels<Compute<T>>* pixels, Compute<T>* results) {
  using C = Compute<T>;
  const int64_t samples = rows.samples * columns.samples;
  int64_t n = 0;
  bool is_first = true, has_outside = false;
  for (int64_t i = 0; i < rows.samples; ++i) {
    const Sample<C> v = rows.at(row * rows.samples + i);
    for (int64_t j = 0; j < columns.samples; ++j) {
      const Sample<C> h = columns.at(column * columns.samples + j);
      if (!v.is_inside || !h.is_inside) {
        has_outside = true;
        continue;
      }
      const int64_t low = v.low * image.strides[2], high = v.high * image.strides[2];
      const int64_t left = h.low * image.strides[3], right = h.high * image.strides[3];
      pixels[n++] = {{low + left, low + right, high + left, high + right},
                     {v.at_low * h.at_low, v.at_low * h.at_high, v.at_high * h.at_low, v.at_high * h.at_high}};
      if (n < kPixels) continue;
      add_samples<T, kIsMean>(pixels, n, x, image.strides[1], channels, is_first, results);
      n = 0, is_first = false;
    }
  }
  if (n > 0) add_samples<T, kIsMean>(pixels, n, x, image.strides[1], channels, is_first, results), is_first = false;
  for (int64_t c = 0; c < channels; ++c) {
    if (is_first) results[c] = 0;
    else if (kIsMean) results[c] /= static_cast<C>(samples);
    else if (has_outside) results[c] = std::max(results[c], C{0});
  }
}

template <class T> void run_roi_align(const Instr& instr, Worker& worker) {
  using C = Compute<T>;
  const RoiParams& p = instr.as<RoiParams>();
  const Tensor &x = *instr.in[0], &regions = *instr.in[1], &y = *instr.out[0];
  const int64_t* images = instr.in[2]->as<int64_t>();
  for (int64_t r = 0; r < regions.dims[0]; ++r)
    if (images[r] < 0 || images[r] >= x.dims[0])
      worker.host->fail("region %lld is of image %lld, of %lld images", static_cast<long long>(r),
                        static_cast<long long>(images[r]), static_cast<long long>(x.dims[0]));
  const auto bin = p.is_mean ? bin_of<T, true> : bin_of<T, false>;
  worker.parallel(regions.dims[0] * p.blocks, 1, [&](int64_t begin, int64_t end, Worker& me) {
    auto* table = reinterpret_cast<Sample<C>*>(me.scratch);
    auto* pixels = reinterpret_cast<Pixels<C>*>(table + 2 * kTable);
    C results[kChannels];
    for (int64_t job = begin; job < end; ++job) {
      const int64_t r = job / p.blocks, first = job % p.blocks * kChannels;
      const T* corners = regions.as<T>() + r * 4;
      T* out = y.as<T>() + (r * x.dims[1] + first) * p.height * p.width;
      const int64_t channels = std::min(kChannels, x.dims[1] - first);
      if (p.is_empty) {
        std::fill_n(out, channels * p.height * p.width, element_of<T>(C{0}));
        continue;
      }
      const auto at = [&](int k) { return value_of(corners[k]); };
      const Axis<C> rows = axis_of<C>(p, *me.host, at(1), at(3), p.height, x.dims[2], table);
      const Axis<C> columns = axis_of<C>(p, *me.host, at(0), at(2), p.width, x.dims[3], table + kTable);
      const T* image = x.as<T>() + images[r] * x.strides[0] + first * x.strides[1];
      for (int64_t i = 0; i < p.height; ++i)
        for (int64_t j = 0; j < p.width; ++j, ++out) {
          bin(image, x, rows, columns, i, j, channels, pixels, results);
          for (int64_t c = 0; c < channels; ++c) out[c * p.height * p.width] = element_of<T>(results[c]);
        }
    }
  });
}

void check(const Bind& b) {
  const Tensor &x = *b.in[0], &regions = *b.in[1], &images = *b.in[2];
  if (x.rank != 4 || regions.rank != 2 || regions.dims[1] != 4 || images.rank != 1 || images.dims[0] != regions.dims[0])
    b.host->fail("regions of shape %s with images of shape %s of a tensor of shape %s", shape_text(regions).text,
                 shape_text(images).text, shape_text(x).text);
}

void shape_roi_align(Bind& b) {
  check(b);
  Tensor& y = *b.out[0];
  y.rank = 4;
  y.dims[0] = b.in[1]->dims[0], y.dims[1] = b.in[0]->dims[1], y.dims[2] = b.ints[1], y.dims[3] = b.ints[2];
}

Run prepare_roi_align(Bind& b) {
  check(b);
  const Tensor& x = *b.in[0];
  RoiParams& p = b.make<RoiParams>();
  p.is_mean = b.ints[0] != 0, p.height = b.ints[1], p.width = b.ints[2], p.samples = b.ints[3], p.has_halves = b.ints[4] != 0;
  p.scale = b.floats[0];
  p.is_empty = x.dims[2] == 0 || x.dims[3] == 0;
  p.blocks = (x.dims[1] + kChannels - 1) / kChannels;
  b.need_scratch(static_cast<int64_t>(2 * kTable * sizeof(Sample<double>) + kPixels * sizeof(Pixels<double>)));
  const Run run = GRAPHOPT_FOR_FLOATS(x.dtype, run_roi_align);
  if (run == nullptr || b.in[1]->dtype != x.dtype || b.in[2]->dtype != DType::kInt64)
    b.host->fail("RoiAlign of element type %d", static_cast<int>(x.dtype));
  return run;
}

const RegisterKernel roi_align{"roi_align", prepare_roi_align, shape_roi_align};

}  // namespace
}  // namespace graphopt
