#include "engine/pool.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "engine/errors.h"
#include "engine/memory.h"

namespace graphopt {
namespace {

// How long a thread that waits keeps its core: about 40 us, what a wake-up takes. Then others that want the core go
// first, each time it looks; a helper that finds no work for longer sleeps.
constexpr int kSpins = 2000, kYields = 400;
// More than one, so that nobody waits long for a thread that the system took off its core, or whose core is slower.
constexpr int64_t kPiecesPerThread = 8;

// One look of a thread that waits.
void pause(int looks) {
  if (looks >= kSpins) return std::this_thread::yield();
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void host_parallel(Worker& worker, int64_t n, int64_t grain, Body body, const void* context) {
  if (worker.pool == nullptr || worker.index != 0) {
    if (n > 0) body(context, 0, n, worker);
    return;
  }
  static_cast<Pool*>(worker.pool)->parallel(n, grain, body, context);
}

void* host_allocate(Bind& bind, size_t bytes) {
  return static_cast<Allocations*>(bind.owner)->take(bytes);
}

}  // namespace

void fail(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw ExecutionError(text);
}

const Host kHost{host_parallel, host_allocate, fail};

Scratch::~Scratch() { std::free(data_); }

char* Scratch::reserve(int64_t bytes) {
  if (bytes > bytes_) {
    std::free(data_);
    bytes_ = (bytes + 4095) / 4096 * 4096;
    data_ = static_cast<char*>(std::aligned_alloc(4096, static_cast<size_t>(bytes_)));
    if (data_ == nullptr) {
      bytes_ = 0;
      fail("out of memory: %lld bytes of scratch", static_cast<long long>(bytes));
    }
  }
  return data_;
}

Pool::Pool(int threads) {
  for (int i = 0; i < threads; ++i) {
    seats_.push_back(std::make_unique<Seat>());
    seats_.back()->worker = Worker{&kHost, threads > 1 ? this : nullptr, i, threads, nullptr};
  }
  for (int i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { serve(*seats_[i]); });
}

Pool::~Pool() {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true, std::memory_order_relaxed);
  }
  wake_.notify_all();
  for (auto& helper : helpers_) helper.join();
}

void Pool::reserve_scratch(int64_t bytes) {
  if (bytes <= scratch_bytes_) return;
  for (auto& seat : seats_) seat->worker.scratch = seat->scratch.reserve(bytes);
  scratch_bytes_ = bytes;
}

void Pool::parallel(int64_t n, int64_t grain, Body body, const void* context) {
  if (n <= 0) return;
  const int64_t threads = static_cast<int64_t>(seats_.size());
  const int64_t most = grain > 0 ? (n + grain - 1) / grain : n;
  const int64_t pieces = std::min(most, threads * kPiecesPerThread);
  if (pieces <= 1 || threads == 1) {
    body(context, 0, n, worker());
    return;
  }
  body_ = body;
  context_ = context;
  n_ = n;
  pieces_ = static_cast<uint32_t>(pieces);
  done_.store(0, std::memory_order_relaxed);
  ++round_;
  {
    // Under the mutex, so that a helper about to sleep can't miss it.
    std::lock_guard lock(mutex_);
    left_.store(Left{round_, 0, pieces_}.word(), std::memory_order_release);
    if (sleeping_ > 0) wake_.notify_all();
  }
  Seat& own = *seats_[0];
  while (claim(round_, true, own)) {
  }
  for (int looks = 0; done_.load(std::memory_order_acquire) != pieces_;) pause(looks < kSpins ? looks++ : kSpins);
  std::exception_ptr first;
  for (auto& seat : seats_) {
    if (seat->error && !first) first = seat->error;
    seat->error = nullptr;
  }
  if (first) std::rethrow_exception(first);
}

bool Pool::claim(uint32_t round, bool is_front, Seat& seat) {
  uint64_t word = left_.load(std::memory_order_acquire);
  uint32_t piece;
  for (;;) {
    Left left = Left::of(word);
    if (left.round != round || left.first == left.end) return false;
    piece = is_front ? left.first++ : --left.end;
    if (left_.compare_exchange_weak(word, left.word(), std::memory_order_acq_rel, std::memory_order_acquire)) break;
  }
  // The round can't end before this piece is done: its work stays as it is.
  const int64_t pieces = pieces_;
  const int64_t begin = n_ * piece / pieces, end = n_ * (piece + 1) / pieces;
  try {
    if (begin < end) body_(context_, begin, end, seat.worker);
  } catch (...) {
    seat.error = std::current_exception();
  }
  done_.fetch_add(1, std::memory_order_release);
  return true;
}

void Pool::serve(Seat& seat) {
  uint32_t seen = 0;
  while (true) {
    int looks = 0;
    uint32_t round;
    while ((round = Left::of(left_.load(std::memory_order_acquire)).round) == seen && !stop_.load(std::memory_order_relaxed)) {
      if (++looks < kSpins + kYields) {
        pause(looks);
        continue;
      }
      std::unique_lock lock(mutex_);
      ++sleeping_;
      wake_.wait(lock, [&] { return stop_.load(std::memory_order_relaxed) || Left::of(left_.load(std::memory_order_acquire)).round != seen; });
      --sleeping_;
    }
    if (stop_.load(std::memory_order_relaxed)) return;
    seen = round;
    while (claim(round, false, seat)) {
    }
  }
}

}  // namespace graphopt
