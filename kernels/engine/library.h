// The kernel library of this CPU.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/abi.h"

namespace graphopt {

class Library {
 public:
  // Opens `kernels_<isa>.so` in `folder`. Raises ExecutionError.
  Library(const std::string& folder, const std::string& isa) : Library(folder, "kernels", isa) {}
  // `layouts_<isa>.so`: the packers alone, as code that any CPU runs. Null: there is none for this instruction set.
  static std::unique_ptr<Library> layouts(const std::string& folder, const std::string& isa);
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  const Kernel* kernel(std::string_view name) const;  // null: there is none
  const Packer* packer(std::string_view name) const;
  std::vector<std::string> kernel_names() const;
  std::vector<std::string> packer_names() const;
  const char* isa() const { return library_->isa; }
  const std::string& folder() const { return folder_; }

  // Instruction sets of this CPU that there may be a library for, best first.
  static std::vector<std::string> runnable();

 private:
  Library(const std::string& folder, const char* kind, const std::string& isa);

  std::string folder_;
  const KernelLibrary* library_ = nullptr;
};

}  // namespace graphopt
