#include "engine/memory.h"

#include <cstring>

namespace graphopt {

void* Allocations::take(size_t bytes) {
  constexpr size_t kAlign = 16, kBlock = 4096;
  bytes = (bytes + kAlign - 1) / kAlign * kAlign;
  if (used_ + bytes > size_) {
    size_ = bytes > kBlock ? bytes : kBlock;
    blocks_.emplace_back(new char[size_]());
    used_ = 0;
  }
  char* at = blocks_.back().get() + used_;
  used_ += bytes;
  return at;
}

}  // namespace graphopt
