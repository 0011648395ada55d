// The fully connected layer, tinyconv.ops.linear, as matrix products.
//
//   y[n, o] = f(b[o] + sum over i of x[n, i] w[o, i])
//   dw[o, i] = sum over n of dz[n, o] x[n, i],  db[o] = sum over n of dz[n, o]
//   dx[n, i] = sum over o of dz[n, o] w[o, i]
//
// blockIdx.z is a part of the sum: see conv.cu.
//
// Sizes:
//   I           input features
//   O           output features
//   ACTIVATION  f

// [O x I] * [I x N] -> [O x N]
KERNEL(linear_forward)(const float *x, const float *w, const float *b, float *z, float *y,
                       float *parts, float parameter, int N) {
    __shared__ TileA tile_a;
    __shared__ TileB tile_b;
    int terms = terms_of_part(I, gridDim.z), first = min((int)blockIdx.z * terms, I);
    tiled_product<true, true>(
        O, N, first, min(first + terms, I), tile_a, tile_b,
        [&](int o, int k) { return w[o * I + k]; },
        [&](int k, int n) { return x[n * I + k]; },
        [&](int o, int n, float sum) {
            int i = n * O + o;
            if (gridDim.z > 1) {
                parts[(size_t)blockIdx.z * N * O + i] = sum;
                return;
            }
            if (b) sum += b[o];
            if (z) z[i] = sum;
            y[i] = activate(ACTIVATION, sum, parameter);
        });
}

// [N x O] * [O x I] -> [N x I]
KERNEL(linear_backward)(const float *dy, const float *v, const float *w, float *dx, float *parts,
                        float parameter, int N) {
    __shared__ TileA tile_a;
    __shared__ TileB tile_b;
    int terms = terms_of_part(O, gridDim.z), first = min((int)blockIdx.z * terms, O);
    tiled_product<true, false>(
        N, I, first, min(first + terms, O), tile_a, tile_b,
        [&](int n, int k) {
            int i = n * O + k;
            return deactivate(ACTIVATION, dy[i], v[i], parameter);
        },
        [&](int k, int i) { return w[k * I + i]; },
        [&](int n, int i, float sum) {
            (gridDim.z > 1 ? parts + (size_t)blockIdx.z * N * I : dx)[n * I + i] = sum;
        });
}

// [O x N] * [N x I + 1] -> [O x I + 1]: the last column is db.
KERNEL(linear_weights)(const float *dy, const float *v, const float *x, float *dw, float *db,
                       float *parts, float parameter, int N) {
    __shared__ TileA tile_a;
    __shared__ TileB tile_b;
    int terms = terms_of_part(N, gridDim.z), first = min((int)blockIdx.z * terms, N);
    tiled_product<false, false>(
        O, I + 1, first, min(first + terms, N), tile_a, tile_b,
        [&](int o, int n) {
            int i = n * O + o;
            return deactivate(ACTIVATION, dy[i], v[i], parameter);
        },
        [&](int n, int i) { return i == I ? 1.0f : x[n * I + i]; },
        [&](int o, int i, float sum) {
            if (gridDim.z > 1)
                parts[((size_t)blockIdx.z * O + o) * (I + 1) + i] = sum;
            else if (i < I)
                dw[o * I + i] = sum;
            else if (db)
                db[o] = sum;
        });
}
