#include "engine/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "engine/abi.h"
#include "engine/errors.h"

namespace graphopt {
namespace {

// Addresses cost nothing; where even they are limited, smaller steps are tried.
constexpr int64_t kMostReserved = int64_t{1} << 38, kLeastReserved = int64_t{1} << 30;
constexpr int64_t kPage = 4096;

// Of blocks for instructions.
constexpr size_t kLine = 64, kFirstChunk = 1 << 10, kLargestChunk = 256 << 10, kMostTaken = size_t{1} << 46;

}  // namespace

int64_t memory_bytes() {
  static const int64_t bytes = 4 * times(sysconf(_SC_PHYS_PAGES), sysconf(_SC_PAGESIZE));
  return bytes;
}

void* Allocations::take(size_t bytes) {
  // What is longer than half a line begins one.
  const size_t align = bytes > kLine / 2 ? kLine : kLine / 4;
  used_ = (used_ + align - 1) / align * align;
  for (; chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].bytes; ++chunk_) used_ = 0;
  if (chunk_ == chunks_.size()) {
    const size_t size = std::max(bytes, chunks_.empty() ? kFirstChunk : std::min(2 * chunks_.back().bytes, kLargestChunk));
    char* memory = size < kMostTaken ? new (std::nothrow) char[size + kLine] : nullptr;
    if (memory == nullptr) fail("out of memory: %zu bytes for what an instruction derives of its sizes", bytes);
    Chunk chunk{std::unique_ptr<char[]>(memory), memory + kLine - reinterpret_cast<uintptr_t>(memory) % kLine, size};
    chunks_.push_back(std::move(chunk));
    used_ = 0;
  }
  char* at = chunks_[chunk_].begin + used_;
  used_ += bytes;
  std::memset(at, 0, bytes);
  return at;
}

Arena::~Arena() {
  if (base_ != nullptr) munmap(base_, static_cast<size_t>(reserved_));
}

void Arena::check(int64_t bytes, int64_t limit) {
  if (limit > 0 && bytes > limit)
    fail("%lld bytes are wanted for intermediate results: over the limit of %lld", static_cast<long long>(bytes), static_cast<long long>(limit));
}

void Arena::reserve(int64_t bytes, int64_t limit) {
  if (bytes <= usable_) return;
  check(bytes, limit);
  for (int64_t size = kMostReserved; base_ == nullptr && size >= kLeastReserved; size /= 2) {
    void* at = mmap(nullptr, static_cast<size_t>(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) continue;
    base_ = static_cast<char*>(at);
    reserved_ = size;
  }
  int64_t wanted = bytes + bytes / 4;
  wanted = (wanted + kPage - 1) / kPage * kPage;
  if (wanted > reserved_) wanted = (bytes + kPage - 1) / kPage * kPage;
  if (base_ == nullptr || wanted > std::min(reserved_, memory_bytes()) || mprotect(base_, static_cast<size_t>(wanted), PROT_READ | PROT_WRITE) != 0)
    fail("out of memory: %lld bytes for intermediate results", static_cast<long long>(bytes));
  usable_ = wanted;
}

}  // namespace graphopt
