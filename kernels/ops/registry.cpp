#include "ops/registry.h"

#include <vector>

#ifndef GRAPHOPT_ISA
#error "the build names the instruction set"
#endif

namespace graphopt {
namespace {

std::vector<const Kernel*>& kernels() {
  static std::vector<const Kernel*> all;
  return all;
}

std::vector<const Packer*>& packers() {
  static std::vector<const Packer*> all;
  return all;
}

}  // namespace

RegisterKernel::RegisterKernel(const char* name, Run (*prepare)(Bind&), void (*shape)(Bind&)) {
  kernels().push_back(new Kernel{name, prepare, shape});
}

RegisterPacker::RegisterPacker(const char* name, int64_t (*bytes)(const PackRequest&),
                               void (*pack)(const PackRequest&, char*),
                               void (*unpack)(const PackRequest&, const char*, Tensor*)) {
  packers().push_back(new Packer{name, bytes, pack, unpack});
}

}  // namespace graphopt

extern "C" __attribute__((visibility("default"))) const graphopt::KernelLibrary* graphopt_kernel_library() {
  using namespace graphopt;
  static const KernelLibrary library{kAbiVersion,
                                     GRAPHOPT_ISA,
                                     kernels().data(),
                                     static_cast<int32_t>(kernels().size()),
                                     packers().data(),
                                     static_cast<int32_t>(packers().size())};
  return &library;
}
