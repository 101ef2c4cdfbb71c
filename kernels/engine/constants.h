// Constants of a program in the form that kernels want, each once.
#pragma once
#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/arrays.h"
#include "engine/library.h"
#include "engine/plan.h"

namespace graphopt {

// A large block on pages of 2 MiB where the system gives them: weights come from beyond L2.
class WeightBlock {
 public:
  WeightBlock() = default;
  WeightBlock(const WeightBlock&) = delete;
  WeightBlock& operator=(const WeightBlock&) = delete;
  ~WeightBlock();
  void allocate(int64_t bytes);
  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

class ConstantStore {
 public:
  // items: (arrays, element types, packer, integers) each; raw arrays are looked at, not copied.
  ConstantStore(nanobind::list items, const Library& library);
  const Constants& tensors() const { return tensors_; }
  int64_t packed_bytes() const { return block_.bytes(); }

 private:
  Constants tensors_;
  WeightBlock block_;
  std::vector<nanobind::object> kept_;
  std::vector<std::unique_ptr<std::vector<std::string>>> strings_;
};

}  // namespace graphopt
