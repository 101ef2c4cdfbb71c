// The kernel `elementwise`: runs a small program over blocks that stay in L1.
//
// Loops: blocks of 128 - 1,024 elements (parallel), in them step after step, in these vectors. Tensors are read and
// written in place where the block lies in them without gaps; else the block is gathered or scattered. One step over
// dense tensors is one call for all of it: 16 floats take 5 ns, long ones run at the speed of memory. A program from one
// byte to one byte runs once over all bytes, and then is a table.
#include <cstring>

#include "ops/elementwise_plan.h"
#include "ops/elementwise_table.h"
#include "ops/registry.h"

namespace graphopt {
namespace elementwise {
namespace {

constexpr int64_t kPieceWork = 48 << 10;  // weighted elements that pay for waking a thread
constexpr int kFewSlots = 8;
const double kNoFloats[4] = {};

void run_nothing(const Instr&, Worker&) {}

// One step over tensors that are dense or one element.
struct Single {
  Function f;  // what a run of a short tensor reads comes first, on one line of the cache
  int64_t n, grain;
  uint8_t in[3];
  Step step;
  const char* constant[3];
  int64_t advance[3], out_advance;  // bytes an element
};

template <int kSources, bool kConstants> void run_single(const Instr& i, Worker& w) {
  const Single& p = i.as<Single>();
  const auto source = [&](int k) {
    return kConstants && p.constant[k] != nullptr ? p.constant[k] : i.in[p.in[k]]->data;
  };
  const char* a = source(0);
  const char* b = kSources > 1 ? source(1) : a;
  const char* c = kSources > 2 ? source(2) : a;
  char* out = i.out[0]->data;
  if (p.n <= p.grain || w.threads == 1) {
    p.f(out, a, b, c, p.n, p.step);
    return;
  }
  w.parallel(p.n, p.grain, [&](int64_t begin, int64_t end, Worker&) {
    p.f(out + begin * p.out_advance, a + begin * p.advance[0], b + begin * p.advance[1], c + begin * p.advance[2],
             end - begin, p.step);
  });
}

// Where a thread stands.
struct Cursor {
  int64_t offsets[kMaxMemory];
  const char* seen[kMaxMemory];  // what the slot's scratch holds
  int64_t seen_rows[kMaxMemory];
  char* at[kMaxSlots];
  int64_t index[kMaxRank];
  int64_t chunk;

  void start(const Plan& p, int64_t block, char* scratch) {
    chunk = block % p.chunks;
    int64_t rest = block / p.chunks;
    for (int k = p.level - 1; k >= 0; --k) {
      index[k] = rest % p.dims[k];
      rest /= p.dims[k];
    }
    for (int m = 0; m < p.n_in + p.n_out; ++m) {
      const Slot& s = p.slots[m];
      offsets[m] = chunk * p.rows * s.strides[p.level];
      for (int k = 0; k < p.level; ++k) offsets[m] += index[k] * s.strides[k];
      seen[m] = nullptr;
    }
    for (int m = 0; m < p.n_slots; ++m) {
      const Slot& s = p.slots[m];
      at[m] = s.constant != nullptr ? const_cast<char*>(s.constant) : scratch + s.scratch;
    }
  }

  void advance(const Plan& p) {
    const int memory = p.n_in + p.n_out;
    if (++chunk < p.chunks) {
      for (int m = 0; m < memory; ++m) offsets[m] += p.rows * p.slots[m].strides[p.level];
      return;
    }
    for (int m = 0; m < memory; ++m) offsets[m] -= (p.chunks - 1) * p.rows * p.slots[m].strides[p.level];
    chunk = 0;
    for (int k = p.level - 1; k >= 0; --k) {
      for (int m = 0; m < memory; ++m) offsets[m] += p.slots[m].strides[k];
      if (++index[k] < p.dims[k]) return;
      for (int m = 0; m < memory; ++m) offsets[m] -= p.dims[k] * p.slots[m].strides[k];
      index[k] = 0;
    }
  }

  void read(const Plan& p, int m, const char* from, int64_t rows, char* scratch) {
    const Slot& s = p.slots[m];
    if (s.mode == Mode::kDirect || (s.mode == Mode::kScalar && !s.fill)) {
      at[m] = const_cast<char*>(from);
      return;
    }
    if (seen[m] == from && rows <= seen_rows[m]) return;
    seen[m] = from;
    seen_rows[m] = rows;
    if (s.mode == Mode::kScalar) {
      fill(scratch + s.scratch, from, s.size, rows * p.inner);
    } else {
      gather(p, s, from, scratch + s.scratch, rows);
    }
  }
};

void run_range(const Plan& p, const Instr& instr, int64_t begin, int64_t end, char* scratch) {
  Cursor c;
  c.start(p, begin, scratch);
  const int64_t dim = p.rank > 0 ? p.dims[p.level] : 1;
  for (int64_t block = begin; block < end; ++block) {
    const int64_t left = dim - c.chunk * p.rows, rows = left < p.rows ? left : p.rows, n = rows * p.inner;
    for (int m = 0; m < p.n_in; ++m) c.read(p, m, instr.in[m]->data + c.offsets[m], rows, scratch);
    for (int m = p.n_in; m < p.n_in + p.n_out; ++m)
      if (p.slots[m].mode == Mode::kDirect) c.at[m] = instr.out[m - p.n_in]->data + c.offsets[m];
    for (int k = 0; k < p.n_steps; ++k) {
      const Step& s = p.steps[k];
      s.f(c.at[s.out], c.at[s.slots[0]], c.at[s.slots[1]], c.at[s.slots[2]], n, s);
    }
    for (int m = p.n_in; m < p.n_in + p.n_out; ++m)
      if (p.slots[m].mode != Mode::kDirect)
        scatter(p, p.slots[m], c.at[m], instr.out[m - p.n_in]->data + c.offsets[m], rows);
    c.advance(p);
  }
}

void run_blocks(const Instr& i, Worker& w) {
  const Plan& p = i.as<Plan>();
  w.parallel(p.blocks, p.grain, [&](int64_t begin, int64_t end, Worker& at) { run_range(p, i, begin, end, at.scratch); });
}

// All of it is one block that lies in the tensors as it is.
void run_once(const Instr& i, Worker& w) {
  const Plan& p = i.as<Plan>();
  char* at[kMaxSlots];
  int m = 0;
  for (; m < p.n_in; ++m) at[m] = i.in[m]->data;
  for (; m < p.n_in + p.n_out; ++m) at[m] = i.out[m - p.n_in]->data;
  for (; m < p.n_slots; ++m) {
    const Slot& s = p.slots[m];
    at[m] = s.constant != nullptr ? const_cast<char*>(s.constant) : w.scratch + s.scratch;
  }
  const int64_t n = p.rows * p.inner;
  for (int k = 0; k < p.n_steps; ++k) {
    const Step& s = p.steps[k];
    s.f(at[s.out], at[s.slots[0]], at[s.slots[1]], at[s.slots[2]], n, s);
  }
}

void check(const Bind& b, bool holds, const char* what) {
  if (!holds) b.host->fail("element-wise program: %s", what);
}

uint8_t byte_at(const Bind& b, int64_t i) { return static_cast<uint8_t>(b.bytes[i]); }

// A constant, as one element of its type.
void read_constant(Bind& b, int64_t at, Slot& s) {
  s.dtype = static_cast<DType>(byte_at(b, at));
  s.size = s.widest = size_of(s.dtype);
  const int index = byte_at(b, at + 2) | byte_at(b, at + 3) << 8;
  const bool whole = byte_at(b, at + 1) != 0;
  check(b, index < (whole ? b.n_ints : b.n_floats), "a constant is missing");
  char* element = b.array<char>(s.size);
  Step cast{};
  cast.floats = kNoFloats;
  const char* from = whole ? reinterpret_cast<const char*>(b.ints + index) : reinterpret_cast<const char*>(b.floats + index);
  cast.type = whole ? DType::kInt64 : DType::kDouble;
  cast.to = s.dtype;
  cast.f = cast_function(cast.type, cast.to);
  check(b, cast.f != nullptr, "a constant's type");
  cast.f(element, from, from, from, 1, cast);
  s.constant = element;
  s.mode = Mode::kScalar;
}

void read_step(Bind& b, Plan& p, int64_t at, Step& s) {
  check(b, byte_at(b, at) < kOps, "unknown operation");
  s.op = static_cast<Op>(byte_at(b, at));
  s.type = static_cast<DType>(byte_at(b, at + 1));
  s.to = static_cast<DType>(byte_at(b, at + 2));
  s.out = byte_at(b, at + 3);
  s.sources = static_cast<uint8_t>(sources_of(s.op));
  check(b, s.out >= p.n_in && s.out < p.n_slots && p.slots[s.out].constant == nullptr, "the place of a result");
  for (int k = 0; k < 3; ++k) {
    s.slots[k] = byte_at(b, at + 4 + (k < s.sources ? k : 0));
    check(b, s.slots[k] < p.n_slots, "the place of a source");
    if (k >= s.sources) continue;
    DType wanted = s.type;
    if (s.op == Op::kWhere && k == 0) wanted = DType::kBool;
    if (s.op == Op::kQuantize && k == 2) wanted = s.to;
    if (s.op == Op::kDequantize && k == 1) wanted = s.to;
    const Slot& slot = p.slots[s.slots[k]];
    if (slot.size != size_of(wanted))
      b.host->fail("element-wise program: %s reads %s, not %s", name_of(s.op), name_of(slot.dtype), name_of(wanted));
  }
  const int first = byte_at(b, at + 7);
  check(b, first == 255 || first + 2 <= b.n_floats, "an immediate is missing");
  s.floats = first == 255 ? kNoFloats : b.array<double>(2);
  if (first != 255) std::memcpy(const_cast<double*>(s.floats), b.floats + first, 2 * sizeof(double));
  Slot& result = p.slots[s.out];
  if (s.out < p.n_in + p.n_out) {
    if (result.size != size_of(s.to))
      b.host->fail("element-wise program: %s gives %s, not %s", name_of(s.op), name_of(s.to), name_of(result.dtype));
  } else {
    result.dtype = s.to;
    result.size = size_of(s.to);
    result.widest = result.size > result.widest ? result.size : result.widest;
  }
}

void read_program(Bind& b, Plan& p) {
  check(b, b.n_bytes >= 4, "it is empty");
  const int n_constants = byte_at(b, 1), n_temporaries = byte_at(b, 2);
  p.n_steps = byte_at(b, 0);
  p.n_in = b.n_in;
  p.n_out = b.n_out;
  p.n_slots = p.n_in + p.n_out + n_temporaries + n_constants;
  check(b, b.n_bytes == 4 + 4 * n_constants + 8 * p.n_steps, "its length");
  check(b, p.n_out > 0 && p.n_in + p.n_out <= kMaxMemory && p.n_slots <= kMaxSlots && p.n_steps > 0, "its size");
  if (p.slots == nullptr || p.n_slots > kFewSlots || p.n_steps > 1) {
    p.slots = b.array<Slot>(p.n_slots);
    p.steps = b.array<Step>(p.n_steps);
  }
  for (int m = 0; m < p.n_slots; ++m) p.slots[m] = Slot{};
  for (int m = 0; m < p.n_in + p.n_out; ++m) {
    const Tensor* t = m < p.n_in ? b.in[m] : b.out[m - p.n_in];
    check(b, t != nullptr, "an operand is missing");
    p.slots[m].dtype = t->dtype;
    p.slots[m].size = p.slots[m].widest = size_of(t->dtype);
    check(b, t->dtype != DType::kString, "strings");
  }
  const int64_t steps = 4 + 4 * n_constants;
  for (int k = 0; k < n_constants; ++k) read_constant(b, 4 + 4 * k, p.slots[p.n_slots - n_constants + k]);
  for (int k = 0; k < p.n_steps; ++k) read_step(b, p, steps + 8 * k, p.steps[k] = Step{});
}

int scalars_of(const Plan& p, const Step& s) {
  int scalars = 0;
  for (int k = 0; k < s.sources; ++k)
    if (p.slots[s.slots[k]].mode == Mode::kScalar) scalars |= 1 << k;
  return scalars;
}

// Chooses the functions; sources of one element that a function wants n of are filled.
void choose_functions(const Bind& b, Plan& p) {
  for (int k = 0; k < p.n_steps; ++k) {
    Step& s = p.steps[k];
    const int scalars = scalars_of(p, s);
    if (scalars != 0 && find_function(s, scalars)) continue;
    if (!find_function(s, 0))
      b.host->fail("there is no element-wise %s of %s to %s", name_of(s.op), name_of(s.type), name_of(s.to));
    for (int j = 0; j < s.sources; ++j) p.slots[s.slots[j]].fill = true;
  }
}

// Whether a later step reads an input that may share the memory of the output.
bool is_written_early(const Plan& p, int output) {
  bool written = false;
  for (int k = 0; k < p.n_steps; ++k) {
    if (written)
      for (int j = 0; j < p.steps[k].sources; ++j)
        if (p.steps[k].slots[j] < p.n_in) return true;
    written = written || p.steps[k].out == output;
  }
  return false;
}

Run prepare_single(Bind& b, const Plan& p) {
  const Step& s = p.steps[0];
  Single& single = b.make<Single>();
  single.step = s;
  single.f = s.f;
  bool constants = false;
  single.n = p.rows;
  const int64_t work = kPieceWork / weight_of(s.op);
  single.grain = work > 1024 ? work : 1024;
  single.out_advance = p.slots[s.out].size;
  for (int k = 0; k < 3; ++k) {
    const Slot& slot = p.slots[s.slots[k]];
    single.advance[k] = slot.mode == Mode::kScalar ? 0 : slot.size;
    single.constant[k] = slot.constant;
    constants = constants || slot.constant != nullptr;
    single.in[k] = slot.constant != nullptr ? uint8_t{0} : s.slots[k];
  }
  if (constants) return s.sources == 2 ? run_single<2, true> : run_single<3, true>;
  return s.sources == 1 ? run_single<1, false> : s.sources == 2 ? run_single<2, false> : run_single<3, false>;
}

bool is_flat_single(const Plan& p) {
  if (p.n_steps != 1 || p.rank > 1 || p.slots[p.n_in].mode != Mode::kDirect) return false;
  for (int k = 0; k < p.steps[0].sources; ++k) {
    const Slot& s = p.slots[p.steps[0].slots[k]];
    if (s.mode == Mode::kCopied || (s.mode == Mode::kScalar && s.fill)) return false;
  }
  return true;
}

int64_t total_weight(const Plan& p) {
  int64_t sum = 0;
  for (int k = 0; k < p.n_steps; ++k) sum += weight_of(p.steps[k].op);
  return sum;
}

// One step over tensors as they lie; null: it takes more. What is only needed to find out is not kept, so that what a
// run reads of a thousand such instructions lies together.
Run prepare_flat(Bind& b) {
  if (b.n_bytes < 4 || byte_at(b, 0) != 1) return nullptr;
  Slot slots[kFewSlots];
  Step step;
  Plan p{};
  p.slots = slots;
  p.steps = &step;
  read_program(b, p);
  merge_dims(b, p);
  if (p.rank > 1) return nullptr;
  choose_block(p, int64_t{1} << 62, 0);
  // One element is its own block: nothing of it is "the same for all".
  for (int m = 0; p.rank == 0 && m < p.n_in; ++m) p.slots[m].mode = Mode::kDirect;
  choose_functions(b, p);
  return is_flat_single(p) ? prepare_single(b, p) : nullptr;
}

Run prepare(Bind& b) {
  if (b.n_out > 0 && b.out[0] != nullptr && b.out[0]->count() > 0)
    if (const Run flat = prepare_flat(b)) return flat;
  Plan& p = b.make<Plan>();
  read_program(b, p);
  merge_dims(b, p);
  if (b.out[0]->count() == 0) return run_nothing;
  const bool tiny = p.rank == 0;
  int64_t bytes = 0;
  for (int m = 0; m < p.n_slots; ++m) bytes += p.slots[m].widest;
  int64_t limit = kBlockBytes / (bytes > 0 ? bytes : 1) / 64 * 64;
  limit = limit < kMinBlock ? kMinBlock : limit > kMaxBlock ? kMaxBlock : limit;
  choose_block(p, limit, p.n_steps == 1 ? 128 : 256);
  for (int m = 0; m < p.n_slots; ++m) p.slots[m].fill = false;
  for (int m = 0; tiny && m < p.n_in; ++m) p.slots[m].mode = Mode::kDirect;
  choose_functions(b, p);
  const int64_t elements = p.rows * p.inner;
  int64_t scratch = 0;
  bool in_place = p.blocks == 1;
  for (int m = 0; m < p.n_slots; ++m) {
    Slot& s = p.slots[m];
    const bool is_output = m >= p.n_in && m < p.n_in + p.n_out;
    if (is_output && s.mode == Mode::kDirect && p.n_out > 1 && is_written_early(p, m)) s.mode = Mode::kCopied;
    s.scratch = scratch;
    in_place = in_place && (m >= p.n_in + p.n_out || s.mode == Mode::kDirect || (s.mode == Mode::kScalar && !s.fill));
    if (s.constant != nullptr && s.fill) {
      char* block = b.array<char>(elements * s.size);
      fill(block, s.constant, s.size, elements);
      s.constant = block;
    }
    if (s.constant != nullptr || s.mode == Mode::kDirect || (s.mode == Mode::kScalar && !s.fill)) continue;
    scratch += (elements * s.widest + 63) / 64 * 64;
  }
  if (const Run table = p.n_steps > 1 ? prepare_table(b, p, elements, scratch) : nullptr) return table;
  b.need_scratch(scratch);
  if (in_place) return run_once;
  const int64_t grain = kPieceWork / (total_weight(p) * elements);
  p.grain = grain > 1 ? grain : 1;
  return run_blocks;
}

void shape(Bind& b) {
  int rank = 0;
  for (int m = 0; m < b.n_in; ++m) rank = b.in[m]->rank > rank ? b.in[m]->rank : rank;
  int64_t dims[kMaxRank];
  for (int i = 0; i < rank; ++i) {
    dims[i] = 1;
    for (int m = 0; m < b.n_in; ++m) {
      const int place = i - (rank - b.in[m]->rank);
      if (place >= 0 && dims[i] == 1) dims[i] = b.in[m]->dims[place];
    }
  }
  for (int m = 0; m < b.n_out; ++m) {
    b.out[m]->rank = rank;
    for (int i = 0; i < rank; ++i) b.out[m]->dims[i] = dims[i];
  }
}

const RegisterKernel kernel{"elementwise", prepare, shape};

}  // namespace
}  // namespace elementwise
}  // namespace graphopt
