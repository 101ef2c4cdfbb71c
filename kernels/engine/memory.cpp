#include "engine/memory.h"

#include <sys/mman.h>

#include <cstring>

#include "engine/errors.h"

namespace graphopt {
namespace {

// Addresses cost nothing; where even they are limited, smaller steps are tried.
constexpr int64_t kMostReserved = int64_t{1} << 38, kLeastReserved = int64_t{1} << 30;
constexpr int64_t kPage = 4096;

}  // namespace

void* Allocations::take(size_t bytes) {
  constexpr size_t kAlign = 16;
  bytes = (bytes + kAlign - 1) / kAlign * kAlign;
  if (next_ < blocks_.size() && blocks_[next_].bytes >= bytes) {
    Block& block = blocks_[next_++];
    std::memset(block.data.get(), 0, block.bytes);
    return block.data.get();
  }
  Block made{std::unique_ptr<char[]>(new char[bytes]()), bytes};
  void* at = made.data.get();
  if (next_ < blocks_.size()) blocks_[next_] = std::move(made);
  else blocks_.push_back(std::move(made));
  ++next_;
  return at;
}

Arena::~Arena() {
  if (base_ != nullptr) munmap(base_, static_cast<size_t>(reserved_));
}

void Arena::reserve(int64_t bytes, int64_t limit) {
  if (bytes <= usable_) return;
  if (limit > 0 && bytes > limit)
    fail("%lld bytes are wanted for intermediate results: over the limit of %lld", static_cast<long long>(bytes), static_cast<long long>(limit));
  for (int64_t size = kMostReserved; base_ == nullptr && size >= kLeastReserved; size /= 2) {
    void* at = mmap(nullptr, static_cast<size_t>(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) continue;
    base_ = static_cast<char*>(at);
    reserved_ = size;
  }
  int64_t wanted = bytes + bytes / 4;
  wanted = (wanted + kPage - 1) / kPage * kPage;
  if (wanted > reserved_) wanted = (bytes + kPage - 1) / kPage * kPage;
  if (base_ == nullptr || wanted > reserved_ || mprotect(base_, static_cast<size_t>(wanted), PROT_READ | PROT_WRITE) != 0)
    fail("out of memory: %lld bytes for intermediate results", static_cast<long long>(bytes));
  usable_ = wanted;
}

}  // namespace graphopt
