// Memory of plans and of runs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace graphopt {

// Of the machine, with room for what it may lay aside: systems promise more, and end a process that takes them at it.
int64_t memory_bytes();

// Small blocks, zeroed, one behind the other, that live as long as their owner. After `rewind` the same memory is given
// out again.
class Allocations {
 public:
  void* take(size_t bytes);
  void rewind() { chunk_ = used_ = 0; }

 private:
  struct Chunk {
    std::unique_ptr<char[]> memory;
    char* begin;  // on a line of the cache
    size_t bytes;
  };
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0, used_ = 0;  // where the next block may begin
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
  static void check(int64_t bytes, int64_t limit);
  char* base() const { return base_; }
  int64_t bytes() const { return usable_; }

 private:
  char* base_ = nullptr;
  int64_t reserved_ = 0, usable_ = 0;
};

}  // namespace graphopt
