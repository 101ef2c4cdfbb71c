// Threads of one run: helpers that spin shortly for the next piece of work and then sleep.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/abi.h"

namespace graphopt {

// Scratch memory of a thread, grown before a run needs it.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();
  char* reserve(int64_t bytes);

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

class Pool {
 public:
  // threads: 1 means that the caller works alone.
  explicit Pool(int threads);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  // The caller's own worker.
  Worker& worker() { return seats_[0]->worker; }
  void reserve_scratch(int64_t bytes);
  void parallel(int64_t n, int64_t grain, Body body, const void* context);

 private:
  // Each on a cache line of its own.
  struct alignas(64) Seat {
    Worker worker{};
    Scratch scratch;
    std::exception_ptr error;
  };
  // The pieces of a round that nobody has taken yet: first .. end. In one word, so that a helper that comes late can't
  // take a piece of another round.
  struct Left {
    uint32_t round, first, end;
    uint64_t word() const { return uint64_t{round} << 32 | uint64_t{first} << 16 | end; }
    static Left of(uint64_t word) {
      return {static_cast<uint32_t>(word >> 32), static_cast<uint32_t>(word >> 16 & 0xffff), static_cast<uint32_t>(word & 0xffff)};
    }
  };

  void serve(Seat& seat);
  // Takes a piece and does it; false: none is left. The caller begins in front and helpers at the end, so that with two
  // threads each finds most of its weights in its own cache again.
  bool claim(uint32_t round, bool is_front, Seat& seat);

  std::vector<std::unique_ptr<Seat>> seats_;
  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  int sleeping_ = 0;
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<uint64_t> left_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  // The work of this round.
  Body body_ = nullptr;
  const void* context_ = nullptr;
  int64_t n_ = 0;
  uint32_t round_ = 0, pieces_ = 0;
  int64_t scratch_bytes_ = 0;
};

// What kernels reach of the engine.
extern const Host kHost;

}  // namespace graphopt
