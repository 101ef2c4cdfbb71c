// What the engine and a kernel library agree on.
//
// A kernel library is one shared object per instruction set; the engine opens the best one that the CPU runs.
// A kernel is prepared once for a set of shapes and then run any number of times:
//
//   prepare(Bind&)         reads dims, strides, integers; checks them; keeps what it derives; chooses the function
//   run(Instr&, Worker&)   touches data only; allocates nothing; may be called from any thread
//   shape(Bind&)           only where results depend on data: writes the dims of the outputs, inputs being ready
//
// Data pointers may differ from run to run: read them from the tensors in `run`, never keep them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

namespace graphopt {

constexpr int kAbiVersion = 1;
constexpr int kMaxRank = 8;

// Numbers of ONNX's TensorProto.DataType. Types below 8 bits take a byte an element while they are in registers.
enum class DType : int32_t {
  kUndefined = 0, kFloat = 1, kUint8 = 2, kInt8 = 3, kUint16 = 4, kInt16 = 5, kInt32 = 6, kInt64 = 7,
  kString = 8, kBool = 9, kFloat16 = 10, kDouble = 11, kUint32 = 12, kUint64 = 13, kComplex64 = 14,
  kComplex128 = 15, kBfloat16 = 16, kFloat8e4m3fn = 17, kFloat8e4m3fnuz = 18, kFloat8e5m2 = 19,
  kFloat8e5m2fnuz = 20, kUint4 = 21, kInt4 = 22, kFloat4e2m1 = 23, kFloat8e8m0 = 24, kUint2 = 25, kInt2 = 26,
};

// Bytes of an element in a register.
constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat: case DType::kInt32: case DType::kUint32: return 4;
    case DType::kUint16: case DType::kInt16: case DType::kFloat16: case DType::kBfloat16: return 2;
    case DType::kInt64: case DType::kUint64: case DType::kDouble: case DType::kComplex64: return 8;
    case DType::kComplex128: return 16;
    case DType::kString: return 32;  // a std::string
    default: return 1;
  }
}

// What sizes stop at: more than any memory holds, and its bytes are still a number.
constexpr int64_t kMostElements = INT64_MAX / 64;

// a * b of sizes, at most kMostElements.
inline int64_t times(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) || product > kMostElements ? kMostElements : product;
}

// A register as a kernel sees it. Strides count elements; a dim of size 1 may have any stride.
struct Tensor {
  char* data = nullptr;
  DType dtype = DType::kUndefined;
  int32_t rank = 0;
  int64_t dims[kMaxRank] = {};
  int64_t strides[kMaxRank] = {};

  template <class T> T* as() const { return reinterpret_cast<T*>(data); }
  int64_t count() const { return product(0, rank); }
  int64_t product(int first, int last) const {
    int64_t n = 1;
    for (int i = first; i < last; ++i) n = times(n, dims[i]);
    return n;
  }
  // Whether elements lie in row-major order without gaps.
  bool is_dense() const {
    int64_t expected = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (dims[i] == 0) return true;
      if (dims[i] != 1 && strides[i] != expected) return false;
      expected = times(expected, dims[i]);
    }
    return true;
  }
  void make_dense() {
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      strides[i] = step;
      step = times(step, dims[i]);
    }
  }
};

struct Instr;
struct Worker;
struct Bind;

using Run = void (*)(const Instr&, Worker&);
using Body = void (*)(const void* context, int64_t begin, int64_t end, Worker&);

// A bound instruction.
struct Instr {
  Run run;
  Tensor* const* in;   // a null pointer stands for an optional input that is absent
  Tensor* const* out;
  const void* params;  // what prepare derived

  template <class P> const P& as() const { return *static_cast<const P*>(params); }
};

// What the engine does for kernels.
struct Host {
  // Splits [0, n) over the threads in pieces of at least `grain`; returns when all are done.
  void (*parallel)(Worker&, int64_t n, int64_t grain, Body, const void* context);
  // Memory that lives as long as the preparation.
  void* (*allocate)(Bind&, size_t bytes);
  // Ends the run with an error that names the instruction. printf's format.
  [[noreturn]] void (*fail)(const char* format, ...);
};

// One thread of a run.
struct Worker {
  const Host* host;
  void* pool;     // null: this thread is alone
  int32_t index;  // 0 .. threads-1
  int32_t threads;
  char* scratch;  // aligned to 64; what Bind::need_scratch asked for, for each thread

  template <class F> void parallel(int64_t n, int64_t grain, const F& f) {
    if (threads == 1 || n <= grain) {
      if (n > 0) f(int64_t{0}, n, *this);
      return;
    }
    host->parallel(*this, n, grain, [](const void* c, int64_t begin, int64_t end, Worker& w) {
      (*static_cast<const F*>(c))(begin, end, w);
    }, &f);
  }
};

// What a kernel is prepared with.
struct Bind {
  const Host* host;
  void* owner;
  Tensor* const* in;
  Tensor* const* out;
  int32_t n_in, n_out, n_ints, n_floats;
  const int64_t* ints;    // attributes and sizes, evaluated
  const double* floats;
  const char* bytes;      // further attributes: programs, texts
  int64_t n_bytes;
  int64_t scratch = 0;    // what a thread needs while it runs
  const void* params = nullptr;
  int32_t threads = 1;

  bool has(int i) const { return i < n_in && in[i] != nullptr; }
  void need_scratch(int64_t size) { scratch = size > scratch ? size : scratch; }
  // The parameters of the instruction, made anew (trivially destructible: nothing is ever destroyed).
  template <class P> P& make() {
    static_assert(std::is_trivially_destructible_v<P>);
    P* made = new (host->allocate(*this, sizeof(P))) P{};
    params = made;
    return *made;
  }
  template <class T> T* array(int64_t n) {
    static_assert(std::is_trivially_destructible_v<T>);
    return static_cast<T*>(host->allocate(*this, sizeof(T) * static_cast<size_t>(n > 0 ? n : 1)));
  }
};

struct Kernel {
  const char* name;
  Run (*prepare)(Bind&);
  void (*shape)(Bind&);  // null: dims of the outputs are known before
};

// Constants in the form that a kernel wants; the form belongs to the library that made it.
struct PackRequest {
  const Host* host;
  const Tensor* sources;  // may be strided
  int32_t n_sources, n_ints;
  const int64_t* ints;
};

struct Packer {
  const char* name;
  int64_t (*bytes)(const PackRequest&);
  void (*pack)(const PackRequest&, char* packed);  // packed: aligned to 64, zeroed
  // The inverse, for files that another instruction set wrote: fills dense sources from the packed form.
  void (*unpack)(const PackRequest&, const char* packed, Tensor* sources);
};

struct KernelLibrary {
  int32_t abi_version;
  const char* isa;
  const Kernel* const* kernels;
  int32_t n_kernels;
  const Packer* const* packers;
  int32_t n_packers;
};

// The only symbol that a kernel library exports.
using OpenLibrary = const KernelLibrary* (*)();

}  // namespace graphopt
