// Programs from one byte to one byte: run once over all bytes, then looked up.
//
// With AVX-512's byte permutations (not every CPU that has the rest has them) 64 bytes in four instructions, else one by one.
#include "ops/elementwise_table.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace graphopt::elementwise {
namespace {

// `from` and `to` may be the same.
using Lookup = void (*)(const uint8_t* table, const uint8_t* from, uint8_t* to, int64_t n);

constexpr int64_t kTableRun = 1024;         // elements that pay for a table
constexpr int64_t kGrain = int64_t{1} << 17;  // bytes that pay for waking a thread

void look_up(const uint8_t* table, const uint8_t* from, uint8_t* to, int64_t n) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const uint8_t a = table[from[i]], b = table[from[i + 1]], c = table[from[i + 2]], d = table[from[i + 3]];
    to[i] = a, to[i + 1] = b, to[i + 2] = c, to[i + 3] = d;
  }
  for (; i < n; ++i) to[i] = table[from[i]];
}

#if defined(__AVX512BW__)
__attribute__((target("avx512vbmi"))) void look_up_vbmi(const uint8_t* table, const uint8_t* from, uint8_t* to, int64_t n) {
  __m512i part[4];
  for (int k = 0; k < 4; ++k) part[k] = _mm512_loadu_si512(table + 64 * k);
  const auto find = [&](__m512i x) __attribute__((always_inline, target("avx512vbmi"))) {
    const __m512i low = _mm512_permutex2var_epi8(part[0], x, part[1]), high = _mm512_permutex2var_epi8(part[2], x, part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
  };
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(to + i, find(_mm512_loadu_si512(from + i)));
  if (i == n) return;
  const __mmask64 rest = (uint64_t{1} << (n - i)) - 1;
  _mm512_mask_storeu_epi8(to + i, rest, find(_mm512_maskz_loadu_epi8(rest, from + i)));
}
#endif

struct Table {
  int64_t n;
  Lookup look_up;
  uint8_t of[256];
};

void run_table(const Instr& i, Worker& w) {
  const Table& t = i.as<Table>();
  w.parallel(t.n, kGrain, [&](int64_t begin, int64_t end, Worker&) {
    t.look_up(t.of, i.in[0]->as<uint8_t>() + begin, i.out[0]->as<uint8_t>() + begin, end - begin);
  });
}

// The fastest that the CPU runs.
Lookup find_lookup() {
#if defined(__AVX512BW__)
  if (__builtin_cpu_supports("avx512vbmi")) return look_up_vbmi;
#endif
  return look_up;
}

}  // namespace

Run prepare_table(Bind& b, const Plan& p, int64_t elements, int64_t scratch) {
  alignas(64) char places[32 << 10];
  const bool flat = p.rank == 1 && p.slots[0].strides[0] == 1 && p.slots[1].strides[0] == 1;
  if (p.n_in != 1 || p.n_out != 1 || p.slots[0].size != 1 || p.slots[1].size != 1 || !flat || p.dims[0] < kTableRun ||
      scratch > static_cast<int64_t>(sizeof places))
    return nullptr;
  auto& table = b.make<Table>();
  table.n = p.dims[0];
  table.look_up = find_lookup();
  uint8_t all[256];
  for (int i = 0; i < 256; ++i) all[i] = static_cast<uint8_t>(i);
  for (int64_t first = 0; first < 256; first += elements) {
    char* at[kMaxSlots] = {reinterpret_cast<char*>(all + first), reinterpret_cast<char*>(table.of + first)};
    for (int m = 2; m < p.n_slots; ++m) at[m] = p.slots[m].constant != nullptr ? const_cast<char*>(p.slots[m].constant) : places + p.slots[m].scratch;
    const int64_t n = 256 - first < elements ? 256 - first : elements;
    for (int k = 0; k < p.n_steps; ++k) {
      const Step& s = p.steps[k];
      s.f(at[s.out], at[s.slots[0]], at[s.slots[1]], at[s.slots[2]], n, s);
    }
  }
  return run_table;
}

}  // namespace graphopt::elementwise
