#include "engine/placement.h"

#include <algorithm>

namespace graphopt {

int64_t Placement::place(int32_t instructions) {
  for (leaves_ = 1; leaves_ < instructions;) leaves_ *= 2;
  heads_.assign(static_cast<size_t>(2 * leaves_), -1);
  below_.assign(heads_.size(), 0);
  placed_.clear();
  std::sort(blocks_.begin(), blocks_.end(), [](const Block& a, const Block& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.offset < b.offset;
  });
  int64_t all = 0;
  for (const Block& block : blocks_) {
    taken_.clear();
    find(1, 0, leaves_, block.life);
    const int64_t offset = best_fit(block.bytes);
    *block.offset = offset;
    all = std::max(all, offset + block.bytes);
    keep({block.life, offset, offset + block.bytes, -1});
  }
  return all;
}

void Placement::keep(const Placed& placed) {
  int32_t node = placed.life.first + leaves_, other = placed.life.last + leaves_;
  while (node != other) node /= 2, other /= 2;
  placed_.push_back(placed);
  placed_.back().next = heads_[static_cast<size_t>(node)];
  heads_[static_cast<size_t>(node)] = static_cast<int32_t>(placed_.size()) - 1;
  for (; node > 0; node /= 2) ++below_[static_cast<size_t>(node)];
}

void Placement::find(int32_t node, int32_t begin, int32_t end, Life life) {
  if (life.last < begin || life.first >= end || below_[static_cast<size_t>(node)] == 0) return;
  for (int32_t i = heads_[static_cast<size_t>(node)]; i >= 0; i = placed_[static_cast<size_t>(i)].next) {
    const Placed& other = placed_[static_cast<size_t>(i)];
    if (other.life.last >= life.first && other.life.first <= life.last) taken_.push_back({other.offset, other.end});
  }
  if (end - begin == 1) return;
  const int32_t middle = begin + (end - begin) / 2;
  find(2 * node, begin, middle, life);
  find(2 * node + 1, middle, end, life);
}

int64_t Placement::best_fit(int64_t bytes) {
  std::sort(taken_.begin(), taken_.end(), [](const Stretch& a, const Stretch& b) { return a.offset < b.offset; });
  int64_t candidate = 0, best = -1, least = INT64_MAX;
  for (const Stretch& other : taken_) {
    const int64_t gap = other.offset - candidate;
    if (gap >= bytes && gap < least) {
      least = gap;
      best = candidate;
    }
    candidate = std::max(candidate, other.end);
  }
  return best >= 0 ? best : candidate;
}

}  // namespace graphopt
