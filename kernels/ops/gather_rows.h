// Rows taken from some places and put to others: what Gather, GatherND and ScatterND share.
#pragma once
#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "ops/copy_tiles.h"

namespace graphopt {

// Offsets of a block of rows lie on the stack.
constexpr int64_t kRowBlock = 256;

struct RowMove {
  // Row k of n goes from in + from[k] to out + to[k], in bytes.
  void (*move)(const RowMove&, const char* in, const int64_t* from, char* out, const int64_t* to, int64_t n);
  CopyPlan plan;
  int64_t bytes;  // of a row
};

template <class E>
void move_cells(const RowMove&, const char* in, const int64_t* from, char* out, const int64_t* to, int64_t n) {
  for (int64_t k = 0; k < n; ++k) set_cell<E>(out + to[k], cell<E>(in + from[k]));
}

inline void move_bytes(const RowMove& row, const char* in, const int64_t* from, char* out, const int64_t* to, int64_t n) {
  if (row.bytes <= 16) {
    for (int64_t k = 0; k < n; ++k) copy_short(in + from[k], out + to[k], row.bytes);
  } else if (row.bytes < 2048) {
    for (int64_t k = 0; k < n; ++k) copy_vectors(in + from[k], out + to[k], row.bytes);
  } else {
    for (int64_t k = 0; k < n; ++k) std::memcpy(out + to[k], in + from[k], static_cast<size_t>(row.bytes));
  }
}

inline void move_strided(const RowMove& row, const char* in, const int64_t* from, char* out, const int64_t* to, int64_t n) {
  for (int64_t k = 0; k < n; ++k) copy_all(row.plan, in + from[k], out + to[k]);
}

inline RowMove row_move(DType dtype, int rank, const int64_t* dims, const int64_t* from, const int64_t* to) {
  RowMove row{move_strided, plan_copy(dtype, rank, dims, from, to), 0};
  row.bytes = row.plan.bytes;
  int64_t dense = 1;
  for (int d = rank - 1; d >= 0; --d) {
    if (dims[d] == 1) continue;
    if (from[d] != dense || to[d] != dense) return row;
    dense = times(dense, dims[d]);
  }
  if (dtype == DType::kString) return row;
  switch (row.bytes) {
    case 1: row.move = move_cells<uint8_t>; break;
    case 2: row.move = move_cells<uint16_t>; break;
    case 4: row.move = move_cells<uint32_t>; break;
    case 8: row.move = move_cells<uint64_t>; break;
    case 16: row.move = move_cells<Bytes16>; break;
    default: row.move = move_bytes;
  }
  return row;
}

// Index tensors are int32 or int64.
inline int64_t index_at(const Tensor& t, int64_t offset) {
  return t.dtype == DType::kInt32 ? t.as<int32_t>()[offset] : t.as<int64_t>()[offset];
}
inline void check_indices(Bind& b, const Tensor& t) {
  if (t.dtype != DType::kInt32 && t.dtype != DType::kInt64)
    b.host->fail("indices of element type %d", static_cast<int>(t.dtype));
}
inline int64_t index_within(const Host& host, int64_t index, int64_t dim, int axis) {
  if (index < -dim || index >= dim)
    host.fail("index %lld is out of range for axis %d of %lld elements", static_cast<long long>(index), axis,
              static_cast<long long>(dim));
  return index < 0 ? index + dim : index;
}

}  // namespace graphopt
