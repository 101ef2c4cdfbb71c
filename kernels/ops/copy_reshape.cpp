// Movement operators as they stand in a model, for dims that are known only when they run, or that need a check:
//
//   reshape (data, target)  ints: allowzero     squeeze, unsqueeze (data, axes?)     flatten (data)  ints: axis
//   transpose (data)  ints: perm or none        expand (data, sizes)                 tile (data, repeats)
//   identity (data)                             depth_to_space, space_to_depth (data)  ints: size, depth first?
//
// Any strides, but for dense results of reshape, squeeze, unsqueeze and flatten. Each is one copy.
#include "ops/copy_elements.h"
#include "ops/copy_plan.h"
#include "ops/registry.h"

namespace graphopt {
namespace {

void run_plan(const Instr& i, Worker& w) { copy_parallel(i.as<CopyPlan>(), i.in[0]->data, i.out[0]->data, w); }

void check_types(Bind& b) {
  if (size_of(b.in[0]->dtype) != size_of(b.out[0]->dtype))
    b.host->fail("element type %d is moved to %d", static_cast<int>(b.in[0]->dtype), static_cast<int>(b.out[0]->dtype));
}

// Equally many elements; the output is dense.
Run prepare_relabelled(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  check_types(b);
  if (in.count() != out.count()) b.host->fail("%s can't be reshaped to %s", shape_text(in).text, shape_text(out).text);
  Tensor dense = in;
  dense.make_dense();
  b.make<CopyPlan>() = plan_copy(in, dense);
  return run_plan;
}

void shape_reshape(Bind& b) {
  const Tensor &in = *b.in[0], &target = *b.in[1];
  Tensor& out = *b.out[0];
  const bool allowzero = b.n_ints > 0 && b.ints[0] != 0;
  set_rank(b, out, target.count());
  int inferred = -1;
  int64_t rest = 1;
  for (int d = 0; d < out.rank; ++d) {
    int64_t dim = integer_at(target, d);
    if (dim == 0 && !allowzero) {
      if (d >= in.rank) b.host->fail("the target's dim %d copies a dim that %s has not", d, shape_text(in).text);
      dim = in.dims[d];
    }
    if (dim < -1 || (dim == -1 && inferred >= 0))
      b.host->fail("the target's dim %d is %lld", d, static_cast<long long>(dim));
    out.dims[d] = dim;
    if (dim == -1) inferred = d;
    else if (__builtin_mul_overflow(rest, dim, &rest)) b.host->fail("the target has too many elements at dim %d", d);
  }
  if (inferred < 0) return;
  if (rest == 0) b.host->fail("%s: a dim can't be inferred beside a dim of 0", shape_text(in).text);
  out.dims[inferred] = in.count() / rest;
}

void shape_squeeze(Bind& b) {
  const Tensor& in = *b.in[0];
  Tensor& out = *b.out[0];
  bool drop[kMaxRank] = {};
  if (b.has(1)) {
    for (int64_t k = 0; k < b.in[1]->count(); ++k) drop[axis_within(*b.host, integer_at(*b.in[1], k), in.rank)] = true;
  } else {
    for (int d = 0; d < in.rank; ++d) drop[d] = in.dims[d] == 1;
  }
  out.rank = 0;
  for (int d = 0; d < in.rank; ++d) {
    if (!drop[d]) out.dims[out.rank++] = in.dims[d];
    else if (in.dims[d] != 1) b.host->fail("axis %d of %s is squeezed", d, shape_text(in).text);
  }
}

void shape_unsqueeze(Bind& b) {
  const Tensor& in = *b.in[0];
  Tensor& out = *b.out[0];
  const int64_t added = b.in[1]->count();
  set_rank(b, out, in.rank + added);
  bool is_new[kMaxRank] = {};
  for (int64_t k = 0; k < added; ++k) {
    const int axis = axis_within(*b.host, integer_at(*b.in[1], k), out.rank);
    if (is_new[axis]) b.host->fail("axis %d is inserted twice", axis);
    is_new[axis] = true;
  }
  for (int d = 0, from = 0; d < out.rank; ++d) out.dims[d] = is_new[d] ? 1 : in.dims[from++];
}

void shape_flatten(Bind& b) {
  const Tensor& in = *b.in[0];
  const int64_t axis = b.ints[0] < 0 ? b.ints[0] + in.rank : b.ints[0];
  if (axis < 0 || axis > in.rank) b.host->fail("axis %lld of rank %d", static_cast<long long>(b.ints[0]), in.rank);
  const int64_t dims[] = {in.product(0, static_cast<int>(axis)), in.product(static_cast<int>(axis), in.rank)};
  set_dims(*b.out[0], 2, dims);
}

int permuted(Bind& b, int d) {
  const int rank = b.in[0]->rank;
  return b.n_ints == 0 ? rank - 1 - d : axis_within(*b.host, b.ints[d], rank);
}

Run prepare_transpose(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  check_types(b);
  int64_t from[kMaxRank];
  for (int d = 0; d < out.rank; ++d) {
    from[d] = in.strides[permuted(b, d)];
    if (in.dims[permuted(b, d)] != out.dims[d])
      b.host->fail("%s is not transposed to %s", shape_text(in).text, shape_text(out).text);
  }
  b.make<CopyPlan>() = plan_copy(out.dtype, out.rank, out.dims, from, out.strides);
  return run_plan;
}

void shape_transpose(Bind& b) {
  const Tensor& in = *b.in[0];
  if (b.n_ints != 0 && b.n_ints != in.rank) b.host->fail("%d axes of rank %d are permuted", b.n_ints, in.rank);
  b.out[0]->rank = in.rank;
  for (int d = 0; d < in.rank; ++d) b.out[0]->dims[d] = in.dims[permuted(b, d)];
}

// Dims of the input count from the last one; each is 1 or the output's.
Run prepare_expand(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  check_types(b);
  int64_t from[kMaxRank] = {};
  bool fits = in.rank <= out.rank;
  for (int d = 0; fits && d < in.rank; ++d) {
    const int to = d + out.rank - in.rank;
    fits = in.dims[d] == 1 || in.dims[d] == out.dims[to];
    from[to] = in.dims[d] == 1 ? 0 : in.strides[d];
  }
  if (!fits) b.host->fail("%s can't be expanded to %s", shape_text(in).text, shape_text(out).text);
  b.make<CopyPlan>() = plan_copy(out.dtype, out.rank, out.dims, from, out.strides);
  return run_plan;
}

void shape_expand(Bind& b) {
  const Tensor &in = *b.in[0], &sizes = *b.in[1];
  Tensor& out = *b.out[0];
  const int64_t wanted = sizes.count();
  set_rank(b, out, in.rank > wanted ? in.rank : wanted);
  for (int d = 0; d < out.rank; ++d) {
    const int64_t have = d < out.rank - in.rank ? 1 : in.dims[d - (out.rank - in.rank)];
    const int64_t want = d < out.rank - wanted ? 1 : integer_at(sizes, d - (out.rank - wanted));
    if (have != want && have != 1 && want != 1)
      b.host->fail("dim %lld of %s can't be expanded to %lld", static_cast<long long>(have), shape_text(in).text,
                   static_cast<long long>(want));
    out.dims[d] = have == 1 ? want : have;
  }
}

// Each dim is cut in two: repetition and element.
Run prepare_tile(Bind& b) {
  const Tensor &in = *b.in[0], &out = *b.out[0];
  check_types(b);
  int64_t dims[kMaxAxes], from[kMaxAxes], to[kMaxAxes];
  for (int d = 0; d < in.rank; ++d) {
    if (in.rank != out.rank || (in.dims[d] == 0 ? out.dims[d] != 0 : out.dims[d] % in.dims[d] != 0))
      b.host->fail("%s can't be tiled to %s", shape_text(in).text, shape_text(out).text);
    dims[2 * d] = in.dims[d] == 0 ? 1 : out.dims[d] / in.dims[d];
    from[2 * d] = 0;
    to[2 * d] = in.dims[d] * out.strides[d];
    dims[2 * d + 1] = in.dims[d];
    from[2 * d + 1] = in.strides[d];
    to[2 * d + 1] = out.strides[d];
  }
  b.make<CopyPlan>() = plan_copy(out.dtype, 2 * in.rank, dims, from, to);
  return run_plan;
}

void shape_tile(Bind& b) {
  const Tensor &in = *b.in[0], &repeats = *b.in[1];
  if (repeats.count() != in.rank)
    b.host->fail("%lld repeats for %s", static_cast<long long>(repeats.count()), shape_text(in).text);
  set_dims(*b.out[0], in.rank, in.dims);
  for (int d = 0; d < in.rank; ++d) {
    const int64_t n = integer_at(repeats, d);
    if (n < 0 || __builtin_mul_overflow(in.dims[d], n, &b.out[0]->dims[d]))
      b.host->fail("axis %d of %s is repeated %lld times", d, shape_text(in).text, static_cast<long long>(n));
  }
}

Run prepare_identity(Bind& b) {
  check_types(b);
  b.make<CopyPlan>() = plan_copy(*b.in[0], *b.out[0]);
  return run_plan;
}

void shape_identity(Bind& b) { set_dims(*b.out[0], b.in[0]->rank, b.in[0]->dims); }

// `deep` has the blocks as channels, `wide` as pixels: [batch, size, size, depth, rows, columns] of both.
// With `depth_first` a channel of `deep` is (depth, size, size), else (size, size, depth).
void block_strides(const Tensor& deep, const Tensor& wide, int64_t size, bool depth_first, int64_t* dims,
                   int64_t* of_deep, int64_t* of_wide) {
  const int64_t depth = wide.dims[1], channel = deep.strides[1];
  const int64_t inner = depth_first ? channel : channel * depth;
  const int64_t n[] = {deep.dims[0], size, size, depth, deep.dims[2], deep.dims[3]};
  const int64_t d[] = {deep.strides[0], inner * size, inner, depth_first ? channel * size * size : channel,
                       deep.strides[2], deep.strides[3]};
  const int64_t w[] = {wide.strides[0], wide.strides[2], wide.strides[3], wide.strides[1], wide.strides[2] * size,
                       wide.strides[3] * size};
  for (int k = 0; k < 6; ++k) {
    dims[k] = n[k];
    of_deep[k] = d[k];
    of_wide[k] = w[k];
  }
}

Run prepare_blocks(Bind& b, const Tensor& deep, const Tensor& wide, bool to_deep) {
  const int64_t size = b.ints[0];
  check_types(b);
  const bool fits = deep.rank == 4 && wide.rank == 4 && deep.dims[0] == wide.dims[0] &&
                    deep.dims[1] == wide.dims[1] * size * size && wide.dims[2] == deep.dims[2] * size &&
                    wide.dims[3] == deep.dims[3] * size;
  if (!fits)
    b.host->fail("blocks of %lld: %s and %s", static_cast<long long>(size), shape_text(deep).text, shape_text(wide).text);
  int64_t dims[6], of_deep[6], of_wide[6];
  block_strides(deep, wide, size, b.ints[1] != 0, dims, of_deep, of_wide);
  b.make<CopyPlan>() = to_deep ? plan_copy(deep.dtype, 6, dims, of_wide, of_deep)
                               : plan_copy(deep.dtype, 6, dims, of_deep, of_wide);
  return run_plan;
}

Run prepare_depth_to_space(Bind& b) { return prepare_blocks(b, *b.in[0], *b.out[0], false); }
Run prepare_space_to_depth(Bind& b) { return prepare_blocks(b, *b.out[0], *b.in[0], true); }

void shape_depth_to_space(Bind& b) {
  const Tensor& in = *b.in[0];
  const int64_t n = b.ints[0], dims[] = {in.dims[0], in.dims[1] / (n * n), in.dims[2] * n, in.dims[3] * n};
  set_dims(*b.out[0], 4, dims);
}
void shape_space_to_depth(Bind& b) {
  const Tensor& in = *b.in[0];
  const int64_t n = b.ints[0], dims[] = {in.dims[0], in.dims[1] * n * n, in.dims[2] / n, in.dims[3] / n};
  set_dims(*b.out[0], 4, dims);
}

const RegisterKernel reshape{"reshape", prepare_relabelled, shape_reshape};
const RegisterKernel squeeze{"squeeze", prepare_relabelled, shape_squeeze};
const RegisterKernel unsqueeze{"unsqueeze", prepare_relabelled, shape_unsqueeze};
const RegisterKernel flatten{"flatten", prepare_relabelled, shape_flatten};
const RegisterKernel transpose{"transpose", prepare_transpose, shape_transpose};
const RegisterKernel expand{"expand", prepare_expand, shape_expand};
const RegisterKernel tile{"tile", prepare_tile, shape_tile};
const RegisterKernel identity{"identity", prepare_identity, shape_identity};
const RegisterKernel depth_to_space{"depth_to_space", prepare_depth_to_space, shape_depth_to_space};
const RegisterKernel space_to_depth{"space_to_depth", prepare_space_to_depth, shape_space_to_depth};

}  // namespace
}  // namespace graphopt
