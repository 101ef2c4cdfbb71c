// How a source file adds its kernels to the library: a `static const` object a kernel.
#pragma once
#include "engine/abi.h"

namespace graphopt {

struct RegisterKernel {
  RegisterKernel(const char* name, Run (*prepare)(Bind&), void (*shape)(Bind&) = nullptr);
};

struct RegisterPacker {
  RegisterPacker(const char* name, int64_t (*bytes)(const PackRequest&), void (*pack)(const PackRequest&, char*),
                 void (*unpack)(const PackRequest&, const char*, Tensor*));
};

}  // namespace graphopt
