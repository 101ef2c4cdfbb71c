// Memory of plans and of runs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace graphopt {

// Small blocks that live as long as their owner; given out again in the same order after `rewind`.
class Allocations {
 public:
  void* take(size_t bytes);
  void clear() { blocks_.clear(); used_ = size_ = 0; }

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  size_t used_ = 0, size_ = 0;
};

}  // namespace graphopt
