#include "engine/library.h"

#include <dlfcn.h>

#include <filesystem>

#include "engine/errors.h"

namespace graphopt {

Library::Library(const std::string& folder, const char* kind, const std::string& isa) : folder_(folder) {
  const std::string path = folder + "/" + kind + "_" + isa + ".so";
  // Local: libraries of two instruction sets have the same names inside. Never closed: plans point into it.
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) fail("kernel library %s: %s", path.c_str(), dlerror());
  auto open = reinterpret_cast<OpenLibrary>(dlsym(handle, "graphopt_kernel_library"));
  if (open == nullptr) fail("%s is no kernel library", path.c_str());
  library_ = open();
  if (library_->abi_version != kAbiVersion)
    fail("%s has version %d of the interface, wanted %d", path.c_str(), library_->abi_version, kAbiVersion);
}

std::unique_ptr<Library> Library::layouts(const std::string& folder, const std::string& isa) {
  // The name comes from a file: it may not lead elsewhere.
  for (const char* known : {"generic", "v3", "v4", "v4dot"})
    if (isa == known && std::filesystem::exists(folder + "/layouts_" + isa + ".so"))
      return std::unique_ptr<Library>(new Library(folder, "layouts", isa));
  return nullptr;
}

const Kernel* Library::kernel(std::string_view name) const {
  for (int i = 0; i < library_->n_kernels; ++i)
    if (name == library_->kernels[i]->name) return library_->kernels[i];
  return nullptr;
}

const Packer* Library::packer(std::string_view name) const {
  for (int i = 0; i < library_->n_packers; ++i)
    if (name == library_->packers[i]->name) return library_->packers[i];
  return nullptr;
}

std::vector<std::string> Library::kernel_names() const {
  std::vector<std::string> names;
  for (int i = 0; i < library_->n_kernels; ++i) names.emplace_back(library_->kernels[i]->name);
  return names;
}

std::vector<std::string> Library::packer_names() const {
  std::vector<std::string> names;
  for (int i = 0; i < library_->n_packers; ++i) names.emplace_back(library_->packers[i]->name);
  return names;
}

std::vector<std::string> Library::runnable() {
  std::vector<std::string> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (v4 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) found.emplace_back("v4dot");
  if (v4) found.emplace_back("v4");
  if (v3) found.emplace_back("v3");
#endif
  found.emplace_back("generic");
  return found;
}

}  // namespace graphopt
