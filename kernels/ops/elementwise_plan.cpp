#include "ops/elementwise_plan.h"

#include <cstdio>
#include <cstring>

namespace graphopt::elementwise {
namespace {

[[noreturn]] void fail_broadcast(const Bind& b, const Tensor& t, int input) {
  char texts[2][200];
  const Tensor* shown[2] = {&t, b.out[0]};
  for (int k = 0; k < 2; ++k) {
    int at = 0;
    texts[k][0] = 0;
    for (int i = 0; i < shown[k]->rank; ++i) {
      at += std::snprintf(texts[k] + at, sizeof texts[k] - static_cast<size_t>(at), i ? ", %lld" : "%lld",
                          static_cast<long long>(shown[k]->dims[i]));
    }
  }
  b.host->fail("input %d of shape [%s] can't be broadcast to [%s]", input, texts[0], texts[1]);
}

bool same_dims(const Tensor& a, const Tensor& b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; ++i)
    if (a.dims[i] != b.dims[i]) return false;
  return true;
}

void set_strides(const Bind& b, Plan& p) {
  const Tensor& first = *b.out[0];
  for (int m = 0; m < p.n_in + p.n_out; ++m) {
    Slot& s = p.slots[m];
    const Tensor& t = m < p.n_in ? *b.in[m] : *b.out[m - p.n_in];
    if (m >= p.n_in && !same_dims(t, first)) b.host->fail("outputs 0 and %d differ in shape", m - p.n_in);
    if (t.rank > first.rank) fail_broadcast(b, t, m);
    const int shift = first.rank - t.rank;
    for (int i = 0; i < t.rank; ++i) {
      const int64_t dim = first.dims[shift + i];
      if (t.dims[i] != dim && t.dims[i] != 1) fail_broadcast(b, t, m);
      s.strides[shift + i] = t.dims[i] == 1 ? 0 : t.strides[i] * s.size;
    }
  }
}

void swap_dims(Plan& p, int i, int j) {
  int64_t dim = p.dims[i];
  p.dims[i] = p.dims[j];
  p.dims[j] = dim;
  for (int m = 0; m < p.n_in + p.n_out; ++m) {
    int64_t* strides = p.slots[m].strides;
    int64_t stride = strides[i];
    strides[i] = strides[j];
    strides[j] = stride;
  }
}

int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

bool runs_through(const Plan& p, int outer, int inner) {
  for (int m = 0; m < p.n_in + p.n_out; ++m) {
    const int64_t* strides = p.slots[m].strides;
    if (strides[outer] != strides[inner] * p.dims[inner]) return false;
  }
  return true;
}

Mode mode_of(const Plan& p, const Slot& s, bool is_output) {
  bool constant = !is_output, dense = true;
  int64_t expected = s.size;
  for (int i = p.rank - 1; i >= p.level; --i) {
    const int64_t dim = i == p.level ? p.rows : p.dims[i];
    if (dim == 1) continue;
    constant = constant && s.strides[i] == 0;
    dense = dense && s.strides[i] == expected;
    expected *= dim;
  }
  return constant ? Mode::kScalar : dense ? Mode::kDirect : Mode::kCopied;
}

template <class T> void gather_run(char* to, const char* from, int64_t n, int64_t stride) {
  T* y = reinterpret_cast<T*>(to);
  for (int64_t i = 0; i < n; ++i) std::memcpy(y + i, from + i * stride, sizeof(T));
}
template <class T> void scatter_run(char* to, const char* from, int64_t n, int64_t stride) {
  const T* x = reinterpret_cast<const T*>(from);
  for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * stride, x + i, sizeof(T));
}
struct Wide {
  uint64_t halves[2];
};

// Calls f(offset in the tensor, element in the block) for each innermost run of a block.
template <class F> void for_runs(const Plan& p, const Slot& s, int64_t rows, const F& f) {
  const int last = p.rank - 1;
  if (last <= p.level) {
    f(int64_t{0}, int64_t{0}, last < 0 ? int64_t{1} : rows);
    return;
  }
  const int64_t run = p.dims[last];
  int64_t index[kMaxRank] = {}, offset = 0, at = 0;
  for (;;) {
    f(offset, at, run);
    at += run;
    int k = last - 1;
    for (; k >= p.level; --k) {
      offset += s.strides[k];
      if (++index[k] < (k == p.level ? rows : p.dims[k])) break;
      offset -= s.strides[k] * index[k];
      index[k] = 0;
    }
    if (k < p.level) return;
  }
}

}  // namespace

void merge_dims(const Bind& b, Plan& p) {
  const Tensor& first = *b.out[0];
  set_strides(b, p);
  p.rank = 0;
  for (int i = 0; i < first.rank; ++i) {
    if (first.dims[i] == 1) continue;
    p.dims[p.rank] = first.dims[i];
    for (int m = 0; m < p.n_in + p.n_out; ++m) p.slots[m].strides[p.rank] = p.slots[m].strides[i];
    ++p.rank;
  }
  const int64_t* order = p.slots[p.n_in].strides;
  for (int i = 1; i < p.rank; ++i)
    for (int j = i; j > 0 && magnitude(order[j - 1]) < magnitude(order[j]); --j) swap_dims(p, j - 1, j);
  int kept = 0;
  for (int i = 1; i < p.rank; ++i) {
    if (runs_through(p, kept, i)) {
      p.dims[kept] = times(p.dims[kept], p.dims[i]);
    } else {
      p.dims[++kept] = p.dims[i];
    }
    for (int m = 0; m < p.n_in + p.n_out; ++m) p.slots[m].strides[kept] = p.slots[m].strides[i];
  }
  if (p.rank > 0) p.rank = kept + 1;
}

void choose_block(Plan& p, int64_t limit, int64_t long_row) {
  p.level = 0;
  p.rows = p.inner = p.chunks = p.blocks = 1;
  if (p.rank > 0) {
    p.level = p.rank - 1;
    if (p.dims[p.level] < long_row) {
      while (p.level > 0 && times(p.inner, p.dims[p.level]) <= limit) p.inner *= p.dims[p.level--];
    }
    const int64_t dim = p.dims[p.level];
    const int64_t most = limit / p.inner > 0 ? limit / p.inner : 1;
    p.chunks = (dim + most - 1) / most;
    p.rows = (dim + p.chunks - 1) / p.chunks;
    p.chunks = (dim + p.rows - 1) / p.rows;
    p.blocks = p.chunks;
    for (int i = 0; i < p.level; ++i) p.blocks = times(p.blocks, p.dims[i]);
  }
  for (int m = 0; m < p.n_in + p.n_out; ++m) p.slots[m].mode = mode_of(p, p.slots[m], m >= p.n_in);
}

void fill(char* to, const char* element, int64_t size, int64_t n) {
  switch (size) {
    case 1: std::memset(to, *element, static_cast<size_t>(n)); break;
    case 2: gather_run<uint16_t>(to, element, n, 0); break;
    case 4: gather_run<uint32_t>(to, element, n, 0); break;
    case 8: gather_run<uint64_t>(to, element, n, 0); break;
    default: gather_run<Wide>(to, element, n, 0); break;
  }
}

void gather(const Plan& p, const Slot& s, const char* from, char* to, int64_t rows) {
  const int64_t stride = p.rank > 0 ? s.strides[p.rank - 1] : 0;
  for_runs(p, s, rows, [&](int64_t offset, int64_t at, int64_t n) {
    char* y = to + at * s.size;
    const char* x = from + offset;
    if (stride == s.size) {
      std::memcpy(y, x, static_cast<size_t>(n * s.size));
    } else if (stride == 0) {
      fill(y, x, s.size, n);
    } else {
      switch (s.size) {
        case 1: gather_run<uint8_t>(y, x, n, stride); break;
        case 2: gather_run<uint16_t>(y, x, n, stride); break;
        case 4: gather_run<uint32_t>(y, x, n, stride); break;
        case 8: gather_run<uint64_t>(y, x, n, stride); break;
        default: gather_run<Wide>(y, x, n, stride); break;
      }
    }
  });
}

void scatter(const Plan& p, const Slot& s, const char* from, char* to, int64_t rows) {
  const int64_t stride = p.rank > 0 ? s.strides[p.rank - 1] : s.size;
  for_runs(p, s, rows, [&](int64_t offset, int64_t at, int64_t n) {
    const char* x = from + at * s.size;
    char* y = to + offset;
    if (stride == s.size || n == 1) {
      std::memcpy(y, x, static_cast<size_t>(n * s.size));
    } else {
      switch (s.size) {
        case 1: scatter_run<uint8_t>(y, x, n, stride); break;
        case 2: scatter_run<uint16_t>(y, x, n, stride); break;
        case 4: scatter_run<uint32_t>(y, x, n, stride); break;
        case 8: scatter_run<uint64_t>(y, x, n, stride); break;
        default: scatter_run<Wide>(y, x, n, stride); break;
      }
    }
  });
}

}  // namespace graphopt::elementwise
