// Memory of plans and of runs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace graphopt {

// Small blocks that live as long as their owner. After `rewind` the same blocks are given out again where they fit.
class Allocations {
 public:
  void* take(size_t bytes);
  void rewind() { next_ = 0; }

 private:
  struct Block {
    std::unique_ptr<char[]> data;
    size_t bytes;
  };
  std::vector<Block> blocks_;
  size_t next_ = 0;
};

// Memory of a run's local registers: addresses are reserved once and never move, pages come as they are touched.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();
  // Makes sure that there are `bytes`. Raises ExecutionError over `limit` (0: none).
  void reserve(int64_t bytes, int64_t limit);
  char* base() const { return base_; }
  int64_t bytes() const { return usable_; }

 private:
  char* base_ = nullptr;
  int64_t reserved_ = 0, usable_ = 0;
};

}  // namespace graphopt
