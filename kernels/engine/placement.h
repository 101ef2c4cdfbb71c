// Where blocks of memory lie in an arena: best fit by decreasing size between those that live at the same time.
#pragma once
#include <cstdint>
#include <vector>

namespace graphopt {

// When memory is in use, in instructions.
struct Life {
  int32_t first = 0, last = 0;
};

// What it works with is kept from one time to the next.
class Placement {
 public:
  struct Block {
    Life life;
    int64_t bytes;
    int64_t* offset;  // the result
  };
  void clear() { blocks_.clear(); }
  void add(const Block& block) { blocks_.push_back(block); }
  // Gives each block its offset; the bytes of all.
  int64_t place(int32_t instructions);

 private:
  // Placed memory by time: a binary tree over the instructions, each block in the smallest node around its life. A query
  // meets what lives at the same time and little else.
  struct Placed {
    Life life;
    int64_t offset, end;
    int32_t next;  // in the same node
  };
  struct Stretch {
    int64_t offset, end;
  };
  void keep(const Placed& placed);
  void find(int32_t node, int32_t begin, int32_t end, Life life);
  int64_t best_fit(int64_t bytes);

  std::vector<Block> blocks_;
  std::vector<Placed> placed_;
  std::vector<Stretch> taken_;              // by what lives at the same time
  std::vector<int32_t> heads_, below_;  // by node: its first block; how many there are in it and below
  int32_t leaves_ = 1;
};

}  // namespace graphopt
