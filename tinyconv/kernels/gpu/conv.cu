// Convolution, tinyconv.ops.conv, as matrix products whose operands are read from the images, with
// the activation and the pooling of windows side by side that follow it.
//
//   u[n, o, p] = b[o] + sum over c, k of w[o, c, k] x[n, c, p S + k L - P]
//   y[n, o, q] = f(the maximum, or the mean, of u over window q; u itself without a pool)
//   dw[o, c, k] = sum over n, p of du[n, o, p] x[n, c, p S + k L - P],  db[o] = sum of du[n, o, p]
//   dx[n, c, i] = sum over o, k of w[o, c, k] du[n, o, (i + P - k L) / S]      where that is whole
//
// with positions p, i and offsets k of three axes. dx gathers, so that no two threads add to one
// number. du is not in memory: it is made from dy where it is needed.
//
// The fully connected layer, tinyconv.ops.linear, is the one of images of one position. The
// transposed convolution, tinyconv.ops.conv_transpose, is dx of another one, with a bias and an
// activation g behind it.
//
// Sizes:
//   C           input channels
//   O           output channels
//   GROUPS      groups of channels
//   D, H, W     of the input
//   OD, OH, OW  of the output
//   KD, KH, KW  of the kernel
//   SD, SH, SW  stride
//   LD, LH, LW  dilation
//   PD, PH, PW  padding before the input
//   QD, QH, QW  of the windows of the pool; 1 without one
//   MEAN        whether the pool takes means
//   ACTIVATION  f
//   BEHIND      g
//   GATHER      what x is, see Images

#define CG (C / GROUPS)  // channels of a group
#define OG (O / GROUPS)
#define TAPS (KD * KH * KW)
#define INPUTS (D * H * W)
#define OUTPUTS (OD * OH * OW)
#define Q (QD * QH * QW)  // elements of a window
#define RH (OH / QH)      // windows down and across
#define RW (OW / QW)
#define WINDOWS (OD / QD * RH * RW)
#define IS_MAX (Q > 1 && !MEAN)

// Where offset `tap` of the window at output position `p` lies in the plane; -1 in the padding.
__device__ inline int input_place(int tap, int p) {
    int d = p / (OH * OW) * SD + tap / (KH * KW) * LD - PD;
    int h = p / OW % OH * SH + tap / KW % KH * LH - PH;
    int w = p % OW * SW + tap % KW * LW - PW;
    bool inside = 0 <= d && d < D && 0 <= h && h < H && 0 <= w && w < W;
    return inside ? (d * H + h) * W + w : -1;
}

// The output position whose window has input position `i` at offset `tap`; -1 if there is none.
__device__ inline int output_place(int tap, int i) {
    int d = i / (H * W) + PD - tap / (KH * KW) * LD;
    int h = i / W % H + PH - tap / KW % KH * LH;
    int w = i % W + PW - tap % KW * LW;
    bool whole = d >= 0 && h >= 0 && w >= 0 && d % SD == 0 && h % SH == 0 && w % SW == 0;
    d /= SD, h /= SH, w /= SW;
    return whole && d < OD && h < OH && w < OW ? (d * OH + h) * OW + w : -1;
}

// Positions in the order of windows: the output position of number i of a plane.
__device__ inline int position_of(int i) {
    if (Q == 1) return i;
    int window = i / Q, e = i % Q;
    int d = window / (RH * RW) * QD + e / (QH * QW);
    int h = window / RW % RH * QH + e / QW % QH;
    return (d * OH + h) * OW + window % RW * QW + e % QW;
}

// And the other way round; -1 where the position is in no window.
__device__ inline int number_of(int p) {
    if (Q == 1) return p;
    int d = p / (OH * OW), h = p / OW % OH, w = p % OW;
    int window = (d / QD * RH + h / QH) * RW + w / QW;
    bool inside = d / QD < OD / QD && h / QH < RH && w / QW < RW;
    return inside ? window * Q + (d % QD * QH + h % QH) * QW + w % QW : -1;
}

// What du is made from. v is y, or what f is of: see deactivate. chosen has the element of each
// window that was the maximum.
struct Gradient {
    const float *dy, *v;
    const unsigned char *chosen;
    float parameter;
    // du of plane `n O + o` at number i.
    __device__ float at(int plane, int i) const {
        int j = plane * WINDOWS + i / Q;
        if (IS_MAX && chosen[j] != i % Q) return 0.0f;
        float du = deactivate(ACTIVATION, dy[j], v[j], parameter);
        return MEAN ? du / Q : du;
    }
};

// [O/G x CG TAPS] * [CG TAPS x N WINDOWS Q] -> [O/G x N WINDOWS Q]. z is what f is of; null where
// nobody needs it, and so is `chosen`.
KERNEL(conv_forward)(const float *x, const unsigned long long *sources, const long long *place,
                     const float *w, const float *b, float *z, float *y, unsigned char *chosen,
                     Parts *parts, int count, float parameter, int N) {
    __shared__ Room room;
    Product product = {OG, N * WINDOWS * Q, CG * TAPS, GROUPS, count, TILE_P / Q * Q};
    Tile tile(product, blockIdx.x);
    Images images(GATHER, C * INPUTS, x, sources, place);
    const float *w_group = w + tile.group * OG * CG * TAPS;
    bool is_whole = tiled_product(
        product, tile, parts, room, true, INPUTS == 1, [&](int o, int k) { return w_group[o * CG * TAPS + k]; },
        [&](int k, int column) {
            int at = input_place(k % TAPS, position_of(column % (WINDOWS * Q)));
            int plane = tile.group * CG + k / TAPS;
            return at < 0 ? 0.0f : images.at(column / (WINDOWS * Q), plane * INPUTS + at);
        });
    if (!is_whole) return;
    for_sums(product, tile, room, OUTPUTS == 1, Q, [&](int row, int window, const float *sums) {
        int o = tile.group * OG + row;
        int i = (window / WINDOWS * O + o) * WINDOWS + window % WINDOWS;
        float bias = b ? b[o] : 0.0f, value = sums[0] + bias;
        int where = 0;
        for (int e = 1; e < Q; e++) {
            float other = sums[e] + bias;
            if (MEAN)
                value += other;
            else if (other > value || (other != other && value == value))  // the first NaN stays
                value = other, where = e;
        }
        if (MEAN) value /= Q;
        if (z) z[i] = value;
        if (IS_MAX && chosen) chosen[i] = where;
        y[i] = activate(ACTIVATION, value, parameter);
    });
}

// dw and db: [OG x N WINDOWS Q] * [N WINDOWS Q x CG TAPS + 1] -> [OG x CG TAPS + 1]: the last column,
// of ones in the second matrix, is db. squares: of the gradients, a number a tile.
__device__ inline void weights(const Product &product, int block, const Gradient &gradient,
                               const Images &images, float *dw, float *db,
                               double *squares, Parts *parts, Room &room) {
    Tile tile(product, block);
    const int columns = CG * TAPS + 1;
    bool is_whole = tiled_product(
        product, tile, parts, room, OUTPUTS > 1, OUTPUTS > 1,
        [&](int o, int k) {
            int plane = k / (WINDOWS * Q) * O + tile.group * OG + o;
            return gradient.at(plane, k % (WINDOWS * Q));
        },
        [&](int k, int column) {
            if (column == columns - 1) return 1.0f;
            int at = input_place(column % TAPS, position_of(k % (WINDOWS * Q)));
            int plane = tile.group * CG + column / TAPS;
            return at < 0 ? 0.0f : images.at(k / (WINDOWS * Q), plane * INPUTS + at);
        });
    if (!is_whole) return;
    double square = 0;
    for_sums(product, tile, room, false, 1, [&](int row, int column, const float *sum) {
        int o = tile.group * OG + row;
        if (column == columns - 1 && !db) return;
        (column < columns - 1 ? dw + o * (columns - 1) + column : db + o)[0] = *sum;
        square += (double)*sum * *sum;
    });
    square = block_sum(square, room.sums);
    if (threadIdx.x == 0) squares[tile.number] = square;
}

// dx: [CG x OG TAPS] * [OG TAPS x N INPUTS] -> [CG x N INPUTS], or with `adds` what is there and
// this; b, z and g are of a transposed convolution.
__device__ inline void inputs(const Product &product, int block, const Gradient &gradient,
                              const float *w, const float *b, float *z, float *dx, int adds,
                              Parts *parts, Room &room) {
    Tile tile(product, block);
    bool is_whole = tiled_product(
        product, tile, parts, room, TAPS > 1, INPUTS == 1,
        [&](int c, int k) {
            int o = tile.group * OG + k / TAPS;
            return w[(o * CG + c) * TAPS + k % TAPS];
        },
        [&](int k, int column) {
            int p = output_place(k % TAPS, column % INPUTS), number = p < 0 ? -1 : number_of(p);
            int plane = column / INPUTS * O + tile.group * OG + k / TAPS;
            return number < 0 ? 0.0f : gradient.at(plane, number);
        });
    if (!is_whole) return;
    for_sums(product, tile, room, INPUTS == 1, 1, [&](int row, int column, const float *sum) {
        int c = tile.group * CG + row, i = (column / INPUTS * C + c) * INPUTS + column % INPUTS;
        float value = *sum + (b ? b[c] : 0.0f);
        if (z) z[i] = value;
        dx[i] = (adds ? dx[i] : 0.0f) + activate(BEHIND, value, gradient.parameter);
    });
}

// The first blocks make dw and db, the others dx; either may be null. parts[0] is for the first.
KERNEL(conv_backward)(const float *dy, const float *v, const unsigned char *chosen, const float *x,
                      const unsigned long long *sources, const long long *place, const float *w,
                      const float *b, float *z, float *dw, float *db, double *squares, float *dx,
                      int adds, Parts *parts, int weights_count, int inputs_count, float parameter,
                      int N) {
    __shared__ Room room;
    Gradient gradient = {dy, v, chosen, parameter};
    Product of_weights = {OG, CG * TAPS + 1, N * WINDOWS * Q, GROUPS, weights_count, TILE_P};
    Product of_inputs = {CG, N * INPUTS, OG * TAPS, GROUPS, inputs_count, TILE_P};
    int first = dw ? of_weights.blocks() : 0, block = blockIdx.x;
    if (block < first) {
        Images images(GATHER, C * INPUTS, x, sources, place);
        weights(of_weights, block, gradient, images, dw, db, squares, parts, room);
    } else {
        inputs(of_inputs, block - first, gradient, w, b, z, dx, adds, parts + 1, room);
    }
}

#undef CG
#undef OG
#undef TAPS
#undef INPUTS
#undef OUTPUTS
#undef Q
#undef RH
#undef RW
#undef WINDOWS
#undef IS_MAX
