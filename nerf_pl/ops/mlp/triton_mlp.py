"""The 2020 network fused: activations of a tile of samples stay on chip while the weights stream past.

Three kernels: forward (keeping the activations of each layer on request), backward to the pre-activation gradients of
each layer, and the weight gradients as one split reduction over samples. All are deterministic: no atomics. The last
two and the keeping forward work on a chunk of the samples that `order` lists, of which `count` (on the device) are
alive.
Operands have the type of the weights that are passed in (bf16 on a GPU), sums are fp32.

A layer of width 256 is computed in two column chunks of 128 (narrower ones in one chunk), so that accumulators and
activations of a 128-row tile fit in the registers of eight warps; one loop runs over all (layer, chunk) pairs, so that
the compiler can prefetch the next weights during a product.
"""

import triton
import triton.language as tl


@triton.jit
def _rows(tile, n, BLOCK: tl.constexpr):
    rows = tile * BLOCK + tl.arange(0, BLOCK)
    return rows.to(tl.int64), rows < n


@triton.jit
def _tile(ptr, rows, live, stride, start, WIDTH: tl.constexpr):
    """ptr[rows, start : start + WIDTH]; rows beyond the end read as zero."""
    columns = start + tl.arange(0, WIDTH)
    return tl.load(ptr + rows[:, None] * stride + columns[None, :], mask=live[:, None], other=0.0)


@triton.jit
def _put(ptr, rows, live, stride, start, value, WIDTH: tl.constexpr):
    columns = start + tl.arange(0, WIDTH)
    tl.store(ptr + rows[:, None] * stride + columns[None, :], value, mask=live[:, None])


@triton.jit
def _matrix(ptr, stride, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """ptr[row : row + ROWS, column : column + COLUMNS] of a row-major matrix."""
    rows = row + tl.arange(0, ROWS)
    columns = column + tl.arange(0, COLUMNS)
    return tl.load(ptr + rows[:, None] * stride + columns[None, :])


@triton.jit(do_not_specialize=["first_row", "n"])
def forward_kernel(
    x_ptr, v_ptr, w_ptr, hidden, b_ptr, order_ptr, count_ptr, kept_x_ptr, kept_v_ptr, acts_ptr, acts, sigma_ptr,
    rgb_ptr, first_row, n, FIRST: tl.constexpr, SKIP_W: tl.constexpr, DIR: tl.constexpr, VIEW: tl.constexpr,
    SIGMA: tl.constexpr, RGB: tl.constexpr, B_HIDDEN: tl.constexpr, B_DIR: tl.constexpr, B_SIGMA: tl.constexpr,
    B_RGB: tl.constexpr, DEPTH: tl.constexpr, W: tl.constexpr, X: tl.constexpr, V: tl.constexpr, SKIP: tl.constexpr,
    SAVE: tl.constexpr, COLOUR: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """w_ptr in operand precision and b_ptr in fp32 are the same flat vector.

    Without SAVE: rows 0 ... n of x and v. With SAVE: rows order[first_row : first_row + n], those below count, whose
    inputs and activations are kept, densely: acts [DEPTH + 1, n, W] and then the colour branch [n, W / 2]. n is then a
    multiple of BLOCK. hidden, acts: descriptors, for the copy engine, of what HIDDEN and acts_ptr point at.
    """
    C: tl.constexpr = W if W < 128 else 128  # columns of a chunk
    CHUNKS: tl.constexpr = W // C
    H: tl.constexpr = W // 2
    if SAVE:
        alive = tl.minimum(n, tl.load(count_ptr) - first_row)
        if tl.program_id(0) * BLOCK >= alive:
            return
        rows, live = _rows(tl.program_id(0), alive, BLOCK)
        source = tl.load(order_ptr + first_row + rows, mask=live, other=0)
    else:
        rows, live = _rows(tl.program_id(0), n, BLOCK)
        source = rows
    first_of_tile = tl.program_id(0) * BLOCK
    columns = tl.arange(0, C)
    x = _tile(x_ptr, source, live, X, 0, X)
    if SAVE:
        _put(kept_x_ptr, rows, live, X, 0, x, X)

    h0 = tl.dot(x, tl.trans(_matrix(w_ptr + FIRST, X, 0, 0, C, X))) + tl.load(b_ptr + B_HIDDEN + columns)[None, :]
    h0 = tl.maximum(h0, 0.0).to(w_ptr.dtype.element_ty)
    h1 = h0
    if SAVE:
        acts.store([first_of_tile, 0], h0)
    if CHUNKS == 2:
        h1 = tl.dot(x, tl.trans(_matrix(w_ptr + FIRST, X, C, 0, C, X)))
        h1 = tl.maximum(h1 + tl.load(b_ptr + B_HIDDEN + C + columns)[None, :], 0.0).to(w_ptr.dtype.element_ty)
        if SAVE:
            acts.store([first_of_tile, C], h1)

    done = h0  # the finished first chunk of the layer under way
    for j in tl.range(0, (DEPTH - 1) * CHUNKS, num_stages=STAGES):
        layer = j // CHUNKS  # matrix `layer` of `hidden` leads from activation `layer` to `layer + 1`
        start = (j % CHUNKS) * C
        acc = tl.dot(h0, tl.trans(hidden.load([layer * W + start, 0])))
        if CHUNKS == 2:
            acc = tl.dot(h1, tl.trans(hidden.load([layer * W + start, C])), acc)
        if layer + 1 == SKIP:
            x = _tile(x_ptr, source, live, X, 0, X)  # read again: kept, it would take registers from all layers
            acc = tl.dot(x, tl.trans(_matrix(w_ptr + SKIP_W, X, start, 0, C, X)), acc)
        acc += tl.load(b_ptr + B_HIDDEN + (layer + 1) * W + start + columns)[None, :]
        act = tl.maximum(acc, 0.0).to(w_ptr.dtype.element_ty)
        if SAVE:
            acts.store([(layer + 1) * n + first_of_tile, start], act)
        if CHUNKS == 1:
            h0 = act
        else:
            h0 = tl.where(start == 0, h0, done)
            h1 = tl.where(start == 0, h1, act)
            done = act

    sigma = tl.sum(h0.to(tl.float32) * tl.load(w_ptr + SIGMA + columns).to(tl.float32)[None, :], 1)
    if CHUNKS == 2:
        sigma += tl.sum(h1.to(tl.float32) * tl.load(w_ptr + SIGMA + C + columns).to(tl.float32)[None, :], 1)
    tl.store(sigma_ptr + rows, sigma + tl.load(b_ptr + B_SIGMA), mask=live)

    if COLOUR:
        bias = b_ptr + B_HIDDEN + DEPTH * W
        v = _tile(v_ptr, source, live, V, 0, V)
        if SAVE:
            _put(kept_v_ptr, rows, live, V, 0, v, V)
        branch = tl.dot(v, tl.trans(_matrix(w_ptr + VIEW, V, 0, 0, H, V)))
        for chunk in tl.static_range(CHUNKS):
            acc = tl.dot(h0, tl.trans(hidden.load([(DEPTH - 1) * W + chunk * C, 0])))
            if CHUNKS == 2:
                acc = tl.dot(h1, tl.trans(hidden.load([(DEPTH - 1) * W + chunk * C, C])), acc)
            feature = (acc + tl.load(bias + chunk * C + columns)[None, :]).to(w_ptr.dtype.element_ty)
            if SAVE:
                acts.store([DEPTH * n + first_of_tile, chunk * C], feature)
            branch = tl.dot(feature, tl.trans(_matrix(w_ptr + DIR, W, 0, chunk * C, H, C)), branch)
        half = tl.arange(0, H)
        branch = tl.maximum(branch + tl.load(b_ptr + B_DIR + half)[None, :], 0.0).to(w_ptr.dtype.element_ty)
        if SAVE:
            _put(acts_ptr + (DEPTH + 1) * n.to(tl.int64) * W, rows, live, H, 0, branch, H)
        for c in tl.static_range(3):
            logit = tl.sum(branch.to(tl.float32) * tl.load(w_ptr + RGB + c * H + half).to(tl.float32)[None, :], 1)
            tl.store(rgb_ptr + rows * 3 + c, tl.sigmoid(logit + tl.load(b_ptr + B_RGB + c)), mask=live)


@triton.jit(do_not_specialize=["first_row", "n"])
def backward_kernel(
    w_ptr, hidden, order_ptr, count_ptr, acts_ptr, rgb_ptr, d_sigma_ptr, d_rgb_ptr, grads_ptr, heads_ptr,
    first_row, n, DIR: tl.constexpr, SIGMA: tl.constexpr, RGB: tl.constexpr,
    DEPTH: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Gradients of every pre-activation of a chunk, laid out as its activations are.

    rgb: of the chunk; d_sigma, d_rgb: of all samples. heads: one row a tile, the partial gradients of the density and
    colour heads: sigma (W), its bias, rgb (3 x W / 2), their biases.
    """
    C: tl.constexpr = W if W < 128 else 128
    CHUNKS: tl.constexpr = W // C
    H: tl.constexpr = W // 2
    tile = tl.program_id(0)
    alive = tl.minimum(n, tl.load(count_ptr) - first_row)
    if tile * BLOCK >= alive:
        return
    rows, live = _rows(tile, alive, BLOCK)
    source = tl.load(order_ptr + first_row + rows, mask=live, other=0)
    plane = n.to(tl.int64) * W
    columns = tl.arange(0, C)
    half = tl.arange(0, H)
    heads_ptr += tile * (W + 3 * H + 4)

    # colour head: logistic, then three rows of weights
    branch = _tile(acts_ptr + (DEPTH + 1) * plane, rows, live, H, 0, H)
    g = tl.zeros((BLOCK, H), tl.float32)
    for c in tl.static_range(3):
        rgb = tl.load(rgb_ptr + rows * 3 + c, mask=live, other=0.0)
        d_logit = tl.load(d_rgb_ptr + source * 3 + c, mask=live, other=0.0) * rgb * (1 - rgb)
        g += d_logit[:, None] * tl.load(w_ptr + RGB + c * H + half).to(tl.float32)[None, :]
        tl.store(heads_ptr + W + 1 + c * H + half, tl.sum(d_logit[:, None] * branch.to(tl.float32), 0))
        tl.store(heads_ptr + W + 1 + 3 * H + c, tl.sum(d_logit, 0))
    g = tl.where(branch > 0, g, 0.0).to(w_ptr.dtype.element_ty)
    _put(grads_ptr + (DEPTH + 1) * plane, rows, live, H, 0, g, H)

    # density head
    d_sigma = tl.load(d_sigma_ptr + source, mask=live, other=0.0)
    tl.store(heads_ptr + W, tl.sum(d_sigma, 0))
    for chunk in tl.static_range(CHUNKS):
        act = _tile(acts_ptr + (DEPTH - 1) * plane, rows, live, W, chunk * C, C)
        tl.store(heads_ptr + chunk * C + columns, tl.sum(d_sigma[:, None] * act.to(tl.float32), 0))

    g0 = tl.dot(g, _matrix(w_ptr + DIR, W, 0, 0, H, C)).to(w_ptr.dtype.element_ty)  # the feature layer has no rectifier
    g1 = g0
    _put(grads_ptr + DEPTH * plane, rows, live, W, 0, g0, C)
    if CHUNKS == 2:
        g1 = tl.dot(g, _matrix(w_ptr + DIR, W, 0, C, H, C)).to(w_ptr.dtype.element_ty)
        _put(grads_ptr + DEPTH * plane, rows, live, W, C, g1, C)

    done = g0
    for j in tl.range(0, DEPTH * CHUNKS, num_stages=STAGES):
        layer = DEPTH - 1 - j // CHUNKS
        start = (j % CHUNKS) * C
        acc = tl.dot(g0, hidden.load([layer * W, start]))
        if CHUNKS == 2:
            acc = tl.dot(g1, hidden.load([layer * W + C, start]), acc)
        act = _tile(acts_ptr + layer * plane, rows, live, W, start, C)
        d_head = tl.where(layer == DEPTH - 1, d_sigma, 0.0)
        acc += d_head[:, None] * tl.load(w_ptr + SIGMA + start + columns).to(tl.float32)[None, :]
        grad = tl.where(act > 0, acc, 0.0).to(w_ptr.dtype.element_ty)
        _put(grads_ptr + layer * plane, rows, live, W, start, grad, C)
        if CHUNKS == 1:
            g0 = grad
        else:
            g0 = tl.where(start == 0, g0, done)
            g1 = tl.where(start == 0, g1, grad)
            done = grad


@triton.jit
def _weight_job(
    x_ptr, y_ptr, out_ptr, bias_ptr, x_stride, y_stride, out_stride, begin, end, BIAS: tl.constexpr,
    IN: tl.constexpr, OUT: tl.constexpr, STEP: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """out[OUT, IN] += sum over rows begin ... end of y[row, OUT] x[row, IN]; the bias is the sum of y."""
    acc = tl.zeros((OUT, IN), tl.float32)
    bias = tl.zeros((OUT,), tl.float32)
    out_rows = tl.arange(0, OUT)
    for row in tl.range(begin, end, STEP, num_stages=STAGES):
        rows, live = (row + tl.arange(0, STEP)).to(tl.int64), row + tl.arange(0, STEP) < end
        y = _tile(y_ptr, rows, live, y_stride, 0, OUT)
        acc = tl.dot(tl.trans(y), _tile(x_ptr, rows, live, x_stride, 0, IN), acc)
        if BIAS:
            bias += tl.sum(y.to(tl.float32), 0)
    out = out_ptr + out_rows[:, None] * out_stride + tl.arange(0, IN)[None, :]
    tl.store(out, tl.load(out) + acc)
    if BIAS:
        tl.store(bias_ptr + out_rows, tl.load(bias_ptr + out_rows) + bias)


@triton.jit(do_not_specialize=["first_row", "n"])
def weight_gradient_kernel(
    x_ptr, v_ptr, acts_ptr, grads_ptr, count_ptr, parts_ptr, first_row, n,
    FIRST: tl.constexpr, HIDDEN: tl.constexpr, SKIP_W: tl.constexpr, DIR: tl.constexpr, VIEW: tl.constexpr,
    B_HIDDEN: tl.constexpr, B_DIR: tl.constexpr, TOTAL: tl.constexpr, DEPTH: tl.constexpr, W: tl.constexpr,
    X: tl.constexpr, V: tl.constexpr, SKIP: tl.constexpr, SPLITS: tl.constexpr, STEP: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Program (job, split): one block of one matrix over one share of the rows, into row `split` of parts.

    Jobs, largest first: hidden matrices in blocks of C rows; the colour branch; first and skip; the view columns.
    """
    C: tl.constexpr = W if W < 128 else 128
    BLOCKS: tl.constexpr = W // C
    H: tl.constexpr = W // 2
    job = tl.program_id(0)
    split = tl.program_id(1)
    alive = tl.minimum(n, tl.load(count_ptr) - first_row)
    if alive <= 0:
        return
    share = tl.cdiv(tl.cdiv(alive, SPLITS), STEP) * STEP
    begin = split * share
    end = tl.minimum(begin + share, alive)
    plane = n.to(tl.int64) * W
    parts_ptr += split.to(tl.int64) * TOTAL
    if job < DEPTH * BLOCKS:
        layer = job // BLOCKS
        row = (job % BLOCKS) * C
        x = acts_ptr + layer * plane
        y = grads_ptr + (layer + 1) * plane + row
        out = parts_ptr + HIDDEN + layer * W * W + row * W
        _weight_job(x, y, out, parts_ptr + B_HIDDEN + (layer + 1) * W + row, W, W, W, begin, end, True,
                    W, C, STEP, STAGES)  # fmt: skip
    elif job == DEPTH * BLOCKS:
        x = acts_ptr + DEPTH * plane
        y = grads_ptr + (DEPTH + 1) * plane
        _weight_job(x, y, parts_ptr + DIR, parts_ptr + B_DIR, W, H, W, begin, end, True, W, H, STEP, STAGES)
    elif job <= (DEPTH + 1) * BLOCKS + BLOCKS:
        k = job - DEPTH * BLOCKS - 1
        row = (k % BLOCKS) * C
        if k < BLOCKS:
            y = grads_ptr + row
            _weight_job(x_ptr, y, parts_ptr + FIRST + row * X, parts_ptr + B_HIDDEN + row, X, W, X, begin, end, True,
                        X, C, STEP, STAGES)  # fmt: skip
        else:
            y = grads_ptr + SKIP * plane + row
            _weight_job(x_ptr, y, parts_ptr + SKIP_W + row * X, parts_ptr, X, W, X, begin, end, False,
                        X, C, STEP, STAGES)  # fmt: skip
    else:
        y = grads_ptr + (DEPTH + 1) * plane
        _weight_job(v_ptr, y, parts_ptr + VIEW, parts_ptr, V, H, V, begin, end, False,
                    V, H, STEP, STAGES)  # fmt: skip
