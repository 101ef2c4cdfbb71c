// What the parts of `conv.bytes` know of one call.
#pragma once
#include "ops/conv_bytes.h"
#include "ops/quantized_gemm.h"
#include "ops/window.h"

namespace graphopt {

struct BytePlan {
  Window window;
  ByteResult result;
  BytePanels layout;                     // of a group
  int64_t batch, groups, channels;       // channels of a group
  int64_t x_batch, y_batch, y_channel;   // strides
  int64_t group_bytes;                   // of packed weights
  int64_t positions, block, blocks, parts;
  int64_t a_stride;                      // of rows: in the image, or in scratch
  uint8_t padding;                       // what lies around the image
  bool copies, flips, is_flat;           // is_flat: positions of all images lie at equal distances
};

struct Place {
  int64_t n, od, oh, ow;
};

inline Place place_of(const BytePlan& p, int64_t position) {
  const Window& g = p.window;
  Place at;
  at.ow = position % g.out[2], position /= g.out[2];
  at.oh = position % g.out[1], position /= g.out[1];
  at.od = position % g.out[0];
  at.n = position / g.out[0];
  return at;
}

// Copies the windows of `count` positions to rows, `a_stride` apart; behind the last one 64 bytes may change.
void copy_windows(const BytePlan& p, const uint8_t* x, int64_t first, int64_t count, int64_t group, uint8_t* to);

// Sums of `rows` rows of 4 * groups bytes times a panel, and what is made of them.
using ByteConvTile = void (*)(int64_t groups, const uint8_t* a, int64_t a_stride, const int8_t* w, const int32_t* start, const float* scale,
                              const ByteResult& result, char* to, int64_t to_stride, int columns);
ByteConvTile byte_conv_tile(int rows, int vectors, bool narrow);

}  // namespace graphopt
