// The packed form that depthwise convolutions of bytes read.
//
//   packed: whether all weights are narrow (a byte, padded to 64), then the blocks, each of
//           starts s32 [channels of a block], scales f32 [..], weights s8 [groups of 4 taps][4 vectors][kLanes][4]
//
// A block has as many channels as a vector has bytes. Interleaving the bytes of 4 taps within 16 bytes leaves channel
// 16 i + 4 k + j in lane 4 i + j of vector k: starts, scales and weights lie in that order.
#pragma once
#include <numeric>

#include "simd/vector.h"

namespace graphopt {

constexpr int kTapsOfGroup = 4;
constexpr int kBlockVectors = 4;
// Blocks that begin at any channel are kept up to this size: they stay in L1 beside the image.
constexpr int64_t kMostRepeated = 24 << 10;

struct DepthwiseBlocks {
  int64_t channels, taps;

  int64_t groups() const { return (taps + kTapsOfGroup - 1) / kTapsOfGroup; }
  int64_t block_bytes() const { return (2 + groups()) * kBlockVectors * kVectorBytes; }
  // Blocks of one position: the last one goes on with the first channels.
  int64_t of_position() const { return (channels + kVectorBytes - 1) / kVectorBytes; }
  // Blocks until one begins with channel 0 again.
  int64_t of_turn() const { return channels > 0 ? channels / std::gcd(channels, int64_t{kVectorBytes}) : 0; }
  // Whether positions that are neighbours in memory run on from one to the next.
  bool repeats() const { return of_turn() * block_bytes() <= kMostRepeated || of_turn() == of_position(); }
  int64_t count() const { return repeats() ? of_turn() : of_position(); }
  int64_t bytes() const { return 64 + count() * block_bytes(); }

  // The channel in a lane of a vector of a block.
  int64_t channel(int64_t block, int k, int lane) const {
    return (block * kVectorBytes + 16 * (lane / 4) + 4 * k + lane % 4) % channels;
  }
};

}  // namespace graphopt
