// Values between segments: tensors with an owner, sequences, optionals.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/abi.h"

namespace graphopt {

class BufferPool;

// Memory that several values may look at.
struct Buffer {
  std::atomic<int32_t> references{1};
  int32_t size_class = -1;  // of the pool; -1: freed by itself
  int64_t bytes = 0;
  int64_t n_strings = 0;    // std::string objects that live in it
  char* data = nullptr;
  BufferPool* pool = nullptr;
  void (*release)(void* context) = nullptr;  // memory of others: told when it is free
  void* context = nullptr;
};

// Counts references to a buffer.
class Owner {
 public:
  Owner() = default;
  explicit Owner(Buffer* buffer) : buffer_(buffer) {}
  Owner(const Owner& other) : buffer_(other.buffer_) {
    if (buffer_ != nullptr) buffer_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Owner(Owner&& other) noexcept : buffer_(std::exchange(other.buffer_, nullptr)) {}
  Owner& operator=(Owner other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ~Owner() { reset(); }
  void reset();
  Buffer* get() const { return buffer_; }

 private:
  Buffer* buffer_ = nullptr;
};

struct Value {
  enum class Kind : uint8_t { kNone, kTensor, kSequence, kEmptyOptional };

  Kind kind = Kind::kNone;
  Tensor tensor;
  Owner owner;
  int64_t room = 0;  // of a value that a loop appends to: what its memory holds along that axis
  std::shared_ptr<std::vector<Value>> items;  // of a sequence; shared until it is changed

  bool is_tensor() const { return kind == Kind::kTensor; }
  void clear() {
    kind = Kind::kNone;
    room = 0;
    owner.reset();
    items.reset();
  }
};

// Buffers that are used again; of one run at a time.
class BufferPool {
 public:
  // limit: bytes that may be in use at a time; 0: none.
  explicit BufferPool(int64_t limit) : limit_(limit) {}
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool();

  // Memory for `count` elements, aligned to 64; strings are made empty. Raises ExecutionError.
  Owner take(DType dtype, int64_t count);
  // A dense tensor's memory; its dims are set.
  void allocate(Value& value);
  // The buffer leaves the pool: it may outlive it and be freed by any thread.
  static void detach(Buffer* buffer);
  static void give_back(Buffer* buffer);
  int64_t bytes_in_use() const { return in_use_; }
  void limit(int64_t bytes) { limit_ = bytes; }

 private:
  static constexpr int kClasses = 168;  // up to 2^47 bytes
  std::vector<Buffer*> free_[kClasses];
  int64_t limit_, in_use_ = 0, kept_ = 0;
};

// Bytes of `count` elements; raises ExecutionError where count is negative, or no memory could hold them.
int64_t bytes_of(DType dtype, int64_t count);
// Elements of dims; raises ExecutionError where one is negative or the product overflows.
int64_t checked_count(const Tensor& tensor);
// The bytes of those elements; raises ExecutionError as both.
int64_t checked_bytes(const Tensor& tensor);
// A dense copy of any tensor's elements.
void copy_elements(const Tensor& from, const Tensor& to);

}  // namespace graphopt
