#include "engine/values.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "engine/errors.h"
#include "engine/memory.h"

namespace graphopt {
namespace {

// Four classes a doubling, from 64 bytes on.
int class_of(int64_t bytes) {
  if (bytes <= 64) return 0;
  const int doubling = 63 - __builtin_clzll(static_cast<unsigned long long>(bytes - 1));
  const int64_t quarter = int64_t{1} << (doubling - 2);
  return (doubling - 6) * 4 + static_cast<int>((bytes - 1 - (int64_t{1} << doubling)) / quarter) + 1;
}

int64_t bytes_of_class(int size_class) {
  if (size_class == 0) return 64;
  const int doubling = (size_class - 1) / 4 + 6;
  return (int64_t{1} << doubling) + ((size_class - 1) % 4 + 1) * (int64_t{1} << (doubling - 2));
}

// No memory holds so much, and sums of many such are still numbers.
constexpr int64_t kMostBytes = int64_t{1} << 47;

// What a pool keeps for later at most.
constexpr int64_t kKeptBytes = int64_t{64} << 20;

void destroy_strings(Buffer* buffer) {
  auto* strings = reinterpret_cast<std::string*>(buffer->data);
  for (int64_t i = 0; i < buffer->n_strings; ++i) strings[i].~basic_string();
  buffer->n_strings = 0;
}

void copy_dim(const Tensor& from, const Tensor& to, int axis, int64_t from_at, int64_t to_at, int64_t size) {
  const int64_t n = from.dims[axis];
  if (axis == from.rank - 1) {
    const char* source = from.data + from_at * size;
    char* target = to.data + to_at * size;
    if (from.dtype == DType::kString) {
      for (int64_t i = 0; i < n; ++i)
        to.as<std::string>()[to_at + i * to.strides[axis]] = from.as<std::string>()[from_at + i * from.strides[axis]];
    } else if (from.strides[axis] == 1 && to.strides[axis] == 1) {
      std::memcpy(target, source, static_cast<size_t>(n * size));
    } else {
      for (int64_t i = 0; i < n; ++i)
        std::memcpy(target + i * to.strides[axis] * size, source + i * from.strides[axis] * size, static_cast<size_t>(size));
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i)
    copy_dim(from, to, axis + 1, from_at + i * from.strides[axis], to_at + i * to.strides[axis], size);
}

}  // namespace

int64_t bytes_of(DType dtype, int64_t count) {
  const int64_t bytes = times(count, size_of(dtype));
  if (count < 0 || bytes > kMostBytes) fail("a tensor of %lld elements is too large", static_cast<long long>(count));
  return bytes;
}

int64_t checked_count(const Tensor& tensor) {
  int64_t count = 1;
  bool is_empty = false;
  for (int i = 0; i < tensor.rank; ++i) {
    if (tensor.dims[i] < 0) fail("dim %d is negative: %lld", i, static_cast<long long>(tensor.dims[i]));
    is_empty = is_empty || tensor.dims[i] == 0;
  }
  if (is_empty) return 0;
  for (int i = 0; i < tensor.rank; ++i)
    if (__builtin_mul_overflow(count, tensor.dims[i], &count)) fail("a tensor has too many elements");
  return count;
}

int64_t checked_bytes(const Tensor& tensor) { return bytes_of(tensor.dtype, checked_count(tensor)); }

void copy_elements(const Tensor& from, const Tensor& to) {
  if (from.count() == 0) return;
  const int64_t size = size_of(from.dtype);
  if (from.dtype != DType::kString && from.is_dense() && to.is_dense()) {
    std::memcpy(to.data, from.data, static_cast<size_t>(from.count() * size));
  } else if (from.rank == 0) {
    if (from.dtype == DType::kString) *to.as<std::string>() = *from.as<std::string>();
    else std::memcpy(to.data, from.data, static_cast<size_t>(size));
  } else {
    copy_dim(from, to, 0, 0, 0, size);
  }
}

void Owner::reset() {
  Buffer* buffer = std::exchange(buffer_, nullptr);
  if (buffer != nullptr && buffer->references.fetch_sub(1, std::memory_order_acq_rel) == 1) BufferPool::give_back(buffer);
}

BufferPool::~BufferPool() {
  for (auto& list : free_)
    for (Buffer* buffer : list) {
      std::free(buffer->data);
      delete buffer;
    }
}

Owner BufferPool::take(DType dtype, int64_t count) {
  const int64_t wanted = bytes_of(dtype, count);
  const int size_class = class_of(wanted);
  const int64_t bytes = bytes_of_class(size_class);
  if (limit_ > 0 && in_use_ + bytes > limit_)
    fail("%lld bytes are wanted beside %lld in use: over the limit of %lld", static_cast<long long>(wanted), static_cast<long long>(in_use_), static_cast<long long>(limit_));
  Buffer* buffer = nullptr;
  if (!free_[size_class].empty()) {
    buffer = free_[size_class].back();
    free_[size_class].pop_back();
    kept_ -= bytes;
    buffer->references.store(1, std::memory_order_relaxed);
  } else {
    char* data = bytes > memory_bytes() ? nullptr : static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(bytes + 63) / 64 * 64));
    if (data == nullptr) fail("out of memory: %lld bytes", static_cast<long long>(bytes));
    buffer = new Buffer;
    buffer->data = data;
    buffer->bytes = bytes;
    buffer->size_class = size_class;
    buffer->pool = this;
  }
  in_use_ += bytes;
  if (dtype == DType::kString) {
    for (int64_t i = 0; i < count; ++i) new (buffer->data + i * size_of(dtype)) std::string;
    buffer->n_strings = count;
  }
  return Owner(buffer);
}

void BufferPool::allocate(Value& value) {
  value.tensor.make_dense();
  value.owner = take(value.tensor.dtype, checked_count(value.tensor));
  value.tensor.data = value.owner.get()->data;
  value.kind = Value::Kind::kTensor;
}

void BufferPool::detach(Buffer* buffer) {
  if (buffer->pool == nullptr) return;
  buffer->pool->in_use_ -= buffer->bytes;
  buffer->pool = nullptr;
}

void BufferPool::give_back(Buffer* buffer) {
  if (buffer->n_strings > 0) destroy_strings(buffer);
  if (buffer->release != nullptr) {
    buffer->release(buffer->context);
    delete buffer;
    return;
  }
  BufferPool* pool = buffer->pool;
  if (pool == nullptr) {
    std::free(buffer->data);
    delete buffer;
    return;
  }
  pool->in_use_ -= buffer->bytes;
  if (pool->kept_ + buffer->bytes > kKeptBytes) {
    std::free(buffer->data);
    delete buffer;
    return;
  }
  pool->kept_ += buffer->bytes;
  pool->free_[buffer->size_class].push_back(buffer);
}

}  // namespace graphopt
