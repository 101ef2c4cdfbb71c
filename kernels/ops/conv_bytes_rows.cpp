// Windows of `conv.bytes` as rows: taps in row-major order, the group's channels of each.
//
// A line of a window lies in one piece where all channels are one group and taps are neighbours. Pieces of up to 32
// bytes are copied as whole vectors: what is written behind a piece is written over by the next one.
#include "ops/conv_bytes_plan.h"

namespace graphopt {
namespace {

// Lines of a window that are kept pointers of.
constexpr int64_t kMostLines = 64;

// Lines of the kernel at (od, oh) of an image, in order; null where they lie outside.
template <class F>
GRAPHOPT_INLINE void for_lines(const Window& g, const uint8_t* image, int64_t od, int64_t oh, const F& f) {
  for (int64_t kd = 0; kd < g.kernel[0]; ++kd)
    for (int64_t kh = 0; kh < g.kernel[1]; ++kh) {
      const int64_t id = od * g.stride[0] + kd * g.dilation[0] - g.pad[0], ih = oh * g.stride[1] + kh * g.dilation[1] - g.pad[1];
      const bool inside = id >= 0 && id < g.in[0] && ih >= 0 && ih < g.in[1];
      f(inside ? image + id * g.x[0] + ih * g.x[1] : nullptr);
    }
}

// One position, tap by tap: some may lie outside.
void copy_taps(const BytePlan& p, const uint8_t* image, const Place& at, uint8_t* to) {
  const Window& g = p.window;
  const auto channels = static_cast<size_t>(p.channels);
  for_lines(g, image, at.od, at.oh, [&](const uint8_t* line) {
    for (int64_t kw = 0; kw < g.kernel[2]; ++kw, to += p.channels) {
      const int64_t iw = at.ow * g.stride[2] + kw * g.dilation[2] - g.pad[2];
      if (line != nullptr && iw >= 0 && iw < g.in[2]) std::memcpy(to, line + iw * g.x[2], channels);
      else std::memset(to, p.padding, channels);
    }
  });
}

// `count` positions whose lines are pieces of `size` bytes; `vectors` of 16 bytes of each are copied, or for 0 exactly all.
template <int vectors>
void copy_pieces(const BytePlan& p, const uint8_t* const* lines, int64_t n_lines, int64_t size, int64_t count, uint8_t* to) {
  const int64_t step = p.window.stride[2] * p.window.x[2];
  for (int64_t i = 0; i < count; ++i, to += p.a_stride) {
    uint8_t* at = to;
    for (int64_t k = 0; k < n_lines; ++k, at += size) {
      if (lines[k] == nullptr) std::memset(at, p.padding, static_cast<size_t>(size));
      else if constexpr (vectors == 0) std::memcpy(at, lines[k] + i * step, static_cast<size_t>(size));
      else std::memcpy(at, lines[k] + i * step, 16 * vectors);
    }
  }
}

// `count` positions from `at` on, of one line of the result, that lie within the image along the last axis.
void copy_inside(const BytePlan& p, const uint8_t* image, const uint8_t* end, const Place& at, int64_t count, uint8_t* to) {
  const Window& g = p.window;
  const int64_t n_lines = g.kernel[0] * g.kernel[1], size = g.kernel[2] * p.channels, first = at.ow * g.stride[2] - g.pad[2];
  if (g.dilation[2] != 1 || p.groups != 1 || n_lines > kMostLines) {
    for (int64_t i = 0; i < count; ++i, to += p.a_stride) copy_taps(p, image, {at.n, at.od, at.oh, at.ow + i}, to);
    return;
  }
  const uint8_t *lines[kMostLines], **line = lines, *last = image;
  for_lines(g, image, at.od, at.oh, [&](const uint8_t* found) {
    *line++ = found != nullptr ? found + first * g.x[2] : nullptr;
    if (found != nullptr) last = line[-1];
  });
  const int64_t room = end - (last + (count - 1) * g.stride[2] * g.x[2]);
  if (size <= 16 && room >= 16) copy_pieces<1>(p, lines, n_lines, size, count, to);
  else if (size <= 32 && room >= 32) copy_pieces<2>(p, lines, n_lines, size, count, to);
  else copy_pieces<0>(p, lines, n_lines, size, count, to);
}

}  // namespace

void copy_windows(const BytePlan& p, const uint8_t* x, int64_t first, int64_t count, int64_t group, uint8_t* to) {
  const Window& g = p.window;
  const uint8_t* end = x + p.batch * p.x_batch;
  int64_t inside_from, inside_to, unused;
  g.inside(2, 0, &inside_from, &unused);
  g.inside(2, g.kernel[2] - 1, &unused, &inside_to);
  uint8_t* row = to;
  for (int64_t i = 0; i < count;) {
    const Place at = place_of(p, first + i);
    const uint8_t* image = x + at.n * p.x_batch + group * p.channels;
    int64_t run = 1;
    if (at.ow >= inside_from && at.ow < inside_to) {
      run = inside_to - at.ow < count - i ? inside_to - at.ow : count - i;
      copy_inside(p, image, end, at, run, row);
    } else {
      copy_taps(p, image, at, row);
    }
    i += run, row += run * p.a_stride;
  }
  if (p.flips)
    for (uint8_t* byte = to; byte < row; ++byte) *byte = static_cast<uint8_t>(*byte ^ 0x80);
}

}  // namespace graphopt
