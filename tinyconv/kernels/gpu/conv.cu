// Convolution, tinyconv.ops.conv, as matrix products whose operands are read from the images.
//
//   y[n, o, p] = f(b[o] + sum over c, k of w[o, c, k] x[n, c, p S + k L - P])
//   dw[o, c, k] = sum over n, p of dz[n, o, p] x[n, c, p S + k L - P],  db[o] = sum of dz[n, o, p]
//   dx[n, c, i] = sum over o, k of w[o, c, k] dz[n, o, (i + P - k L) / S]      where that is whole
//
// with positions p, i and offsets k of three axes. dx gathers, so that no two threads add to one
// number and every run gives the same bits. Where one block an output tile would leave the device
// idle, blockIdx.z has several parts of the sum for each group; they go to `parts`, which
// product.cu adds up.
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
//   ACTIVATION  f

#define CG (C / GROUPS)  // channels of a group
#define OG (O / GROUPS)
#define TAPS (KD * KH * KW)
#define INPUTS (D * H * W)
#define OUTPUTS (OD * OH * OW)

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

// [O/G x CG TAPS] * [CG TAPS x N OUTPUTS] -> [O/G x N OUTPUTS]
KERNEL(conv_forward)(const float *x, const float *w, const float *b, float *z, float *y,
                     float *parts, float parameter, int N) {
    __shared__ TileA tile_a;
    __shared__ TileB tile_b;
    int count = gridDim.z / GROUPS, group = blockIdx.z / count, part = blockIdx.z % count;
    int K = CG * TAPS, terms = terms_of_part(K, count), first = min(part * terms, K);
    const float *w_group = w + group * OG * K;
    const float *x_group = x + group * CG * INPUTS;
    tiled_product<true, false>(
        OG, N * OUTPUTS, first, min(first + terms, K), tile_a, tile_b,
        [&](int o, int k) { return w_group[o * K + k]; },
        [&](int k, int column) {
            int place = input_place(k % TAPS, column % OUTPUTS);
            int plane = column / OUTPUTS * C + k / TAPS;
            return place < 0 ? 0.0f : x_group[plane * INPUTS + place];
        },
        [&](int row, int column, float sum) {
            int o = group * OG + row;
            int i = (column / OUTPUTS * O + o) * OUTPUTS + column % OUTPUTS;
            if (count > 1) {
                parts[(size_t)part * N * O * OUTPUTS + i] = sum;
                return;
            }
            if (b) sum += b[o];
            if (z) z[i] = sum;
            y[i] = activate(ACTIVATION, sum, parameter);
        });
}

// [CG x OG TAPS] * [OG TAPS x N INPUTS] -> [CG x N INPUTS]; v is y or z, see deactivate.
KERNEL(conv_backward)(const float *dy, const float *v, const float *w, float *dx, float *parts,
                      float parameter, int N) {
    __shared__ TileA tile_a;
    __shared__ TileB tile_b;
    int count = gridDim.z / GROUPS, group = blockIdx.z / count, part = blockIdx.z % count;
    int K = OG * TAPS, terms = terms_of_part(K, count), first = min(part * terms, K);
    tiled_product<true, false>(
        CG, N * INPUTS, first, min(first + terms, K), tile_a, tile_b,
        [&](int c, int k) {
            int o = group * OG + k / TAPS;
            return w[(o * CG + c) * TAPS + k % TAPS];
        },
        [&](int k, int column) {
            int place = output_place(k % TAPS, column % INPUTS);
            if (place < 0) return 0.0f;
            int i = (column / INPUTS * O + group * OG + k / TAPS) * OUTPUTS + place;
            return deactivate(ACTIVATION, dy[i], v[i], parameter);
        },
        [&](int row, int column, float sum) {
            int plane = column / INPUTS * C + group * CG + row;
            int i = plane * INPUTS + column % INPUTS;
            (count > 1 ? parts + (size_t)part * N * C * INPUTS : dx)[i] = sum;
        });
}

// [OG x N OUTPUTS] * [N OUTPUTS x CG TAPS + 1] -> [OG x CG TAPS + 1]: the last column, of ones in
// the second matrix, is db.
KERNEL(conv_weights)(const float *dy, const float *v, const float *x, float *dw, float *db,
                     float *parts, float parameter, int N) {
    __shared__ TileA tile_a;
    __shared__ TileB tile_b;
    int count = gridDim.z / GROUPS, group = blockIdx.z / count, part = blockIdx.z % count;
    int K = N * OUTPUTS, terms = terms_of_part(K, count), first = min(part * terms, K);
    int columns = CG * TAPS + 1;
    tiled_product<true, true>(
        OG, columns, first, min(first + terms, K), tile_a, tile_b,
        [&](int o, int k) {
            int i = (k / OUTPUTS * O + group * OG + o) * OUTPUTS + k % OUTPUTS;
            return deactivate(ACTIVATION, dy[i], v[i], parameter);
        },
        [&](int k, int column) {
            if (column == columns - 1) return 1.0f;
            int place = input_place(column % TAPS, k % OUTPUTS);
            int plane = k / OUTPUTS * C + group * CG + column / TAPS;
            return place < 0 ? 0.0f : x[plane * INPUTS + place];
        },
        [&](int row, int column, float sum) {
            int o = group * OG + row;
            if (count > 1)
                parts[((size_t)part * O + o) * columns + column] = sum;
            else if (column < columns - 1)
                dw[o * (columns - 1) + column] = sum;
            else if (db)
                db[o] = sum;
        });
}

#undef CG
#undef OG
#undef TAPS
#undef INPUTS
#undef OUTPUTS
