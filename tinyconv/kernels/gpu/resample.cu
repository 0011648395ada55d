// Weighted sums along the axes of planes: means, interpolation, padding, cropping, subsampling.
//
//   y[n, c, p, q, r] = w[c] S[n, c, p, q, r] + b[c]
//   S = sum over the terms i of p, j of q and k of r of their three weights times x[n, c, i, j, k]
//
// The tables of the terms, tinyconv.kernels.terms, have TD numbers for each of OD elements, behind
// them TH for each of OH and TW for each of OW; places are -1 behind the last term. The backward pass
// is the same with the transposed tables.
//
// Sizes:
//   PLANES      of a sample
//   D, H, W     of x
//   OD, OH, OW  of y
//   TD, TH, TW  terms of an element at most

#define INPUTS (D * H * W)
#define OUTPUTS (OD * OH * OW)

// Adds up the terms of element p of y; returns whether it has any.
__device__ inline bool sum_terms(const float *plane, int p, const int *places, const float *weights,
                                 float &sum) {
    int d0 = p / (OH * OW) * TD, h0 = OD * TD + p / OW % OH * TH;
    int w0 = OD * TD + OH * TH + p % OW * TW;
    sum = 0;
    for (int i = d0; i < d0 + TD && places[i] >= 0; i++)
        for (int j = h0; j < h0 + TH && places[j] >= 0; j++)
            for (int k = w0; k < w0 + TW && places[k] >= 0; k++) {
                float weight = weights[i] * weights[j] * weights[k];
                sum += weight * plane[(places[i] * H + places[j]) * W + places[k]];
            }
    return places[d0] >= 0 && places[h0] >= 0 && places[w0] >= 0;
}

// w and b may be null. y is `value` where there are no terms; `adds`: what is there, and this.
KERNEL(resample)(const float *x, const int *places, const float *weights, const float *w,
                 const float *b, float *y, float value, int adds, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * PLANES * OUTPUTS) return;
    int plane = i / OUTPUTS, c = plane % PLANES;
    float sum;
    if (!sum_terms(x + plane * INPUTS, i % OUTPUTS, places, weights, sum)) sum = value;
    if (w) sum *= w[c];
    if (b) sum += b[c];
    y[i] = (adds ? y[i] : 0.0f) + sum;
}

// dw[c] = sum of dy S, null if nobody wants it; db[c] = sum of dy. One block a channel; squares: of
// dw and db.
KERNEL(resample_weights)(const float *dy, const float *x, const int *places, const float *weights,
                         float *dw, float *db, double *squares, int N) {
    __shared__ float room[32];
    int c = blockIdx.x;
    float sum_w = 0, sum_b = 0;
    for (int e = threadIdx.x; e < N * OUTPUTS; e += THREADS) {
        int plane = e / OUTPUTS * PLANES + c;
        float slope = dy[plane * OUTPUTS + e % OUTPUTS], sum = 0;
        if (dw) sum_terms(x + plane * INPUTS, e % OUTPUTS, places, weights, sum);
        sum_w += slope * sum;
        sum_b += slope;
    }
    sum_w = block_sum(sum_w, room);
    sum_b = block_sum(sum_b, room);
    if (threadIdx.x > 0) return;
    if (dw) dw[c] = sum_w;
    db[c] = sum_b;
    squares[c] = (dw ? (double)sum_w * sum_w : 0.0) + (double)sum_b * sum_b;
}

#undef INPUTS
#undef OUTPUTS
