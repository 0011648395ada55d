// Normalisation, tinyconv.ops.norm, of sets of elements by their mean m and variance v.
//
//   z = (x - m) / sqrt(v + eps),  y = f(w z + b)
//   dz = w du,  dx = (dz - mean(dz) - z mean(z dz)) / sqrt(v + eps),   du the gradient before f
//   dw = sum of du z,  db = sum of du
//
// A set is a channel of all samples (batch norm) or a group of channels of a sample (group norm; a
// layer norm is one of one group, whose channels are the elements). One block has one set, with as
// many threads as a small one needs.
//
// Sizes:
//   C           channels
//   P           positions of a channel
//   GROUPS      of channels of a sample; 0 for sets that extend over the batch
//   ACTIVATION  f

#define BATCH (GROUPS == 0)
#define SET (C / (BATCH ? 1 : GROUPS) * P)  // elements of a group of channels

// Elements of a set.
__device__ inline int set_size(int N) { return BATCH ? N * P : SET; }

// Where element e of set s lies, and which channel it has.
__device__ inline int place_of(int s, int e) {
    return BATCH ? (e / P * C + s) * P + e % P : s * SET + e;
}
__device__ inline int channel_of(int place) { return place / P % C; }

// mean, scale = 1 / sqrt(v + eps) and variance are (sets,); u is w z + b, kept where f needs it.
KERNEL(norm_forward)(const float *x, const float *w, const float *b, float *mean, float *scale,
                     float *variance, float *u, float *y, float eps, float parameter, int N) {
    __shared__ float room[32];
    int s = blockIdx.x, size = set_size(N);
    float sum = 0;
    for (int e = threadIdx.x; e < size; e += blockDim.x) sum += x[place_of(s, e)];
    float m = block_sum(sum, room) / size;
    sum = 0;
    for (int e = threadIdx.x; e < size; e += blockDim.x) {
        float centred = x[place_of(s, e)] - m;
        sum += centred * centred;
    }
    float v = block_sum(sum, room) / size, r = 1 / sqrtf(v + eps);
    if (threadIdx.x == 0) mean[s] = m, scale[s] = r, variance[s] = v;
    for (int e = threadIdx.x; e < size; e += blockDim.x) {
        int i = place_of(s, e), c = channel_of(i);
        float value = (x[i] - m) * r;
        if (w) value *= w[c];
        if (b) value += b[c];
        if (u) u[i] = value;
        y[i] = activate(ACTIVATION, value, parameter);
    }
}

// y by running statistics: a batch norm outside training, or a frozen one. u as above.
KERNEL(norm_fixed)(const float *x, const float *w, const float *b, const float *mean,
                   const float *variance, float *u, float *y, float eps, float parameter, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * C * P) return;
    int c = channel_of(i);
    float value = (x[i] - mean[c]) * (1 / sqrtf(variance[c] + eps));
    if (w) value *= w[c];
    if (b) value += b[c];
    if (u) u[i] = value;
    y[i] = activate(ACTIVATION, value, parameter);
}

KERNEL(norm_fixed_backward)(const float *dy, const float *a, const float *w, const float *variance,
                            float *dx, float eps, float parameter, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * C * P) return;
    float dz = deactivate(ACTIVATION, dy[i], a[i], parameter);
    if (w) dz *= w[channel_of(i)];
    dx[i] = dz * (1 / sqrtf(variance[channel_of(i)] + eps));
}

// One block a set and, where sets are no channels, behind these one a channel for dw and db. dx, and
// dw with db, may be null. squares: of dw and db, a number a channel.
KERNEL(norm_backward)(const float *dy, const float *a, const float *x, const float *w,
                      const float *mean, const float *scale, float *dx, float *dw, float *db,
                      double *squares, float parameter, int N) {
    __shared__ float room[32];
    int s = blockIdx.x, sets = BATCH ? C : N * GROUPS, size = set_size(N);
    float sum = 0, sum_z = 0, factor = 1;
    if (BATCH || s >= sets) {
        int c = BATCH ? s : s - sets;
        for (int e = threadIdx.x; e < N * P; e += blockDim.x) {
            int n = e / P, i = (n * C + c) * P + e % P;
            int set = BATCH ? c : n * GROUPS + c / (C / (BATCH ? 1 : GROUPS));
            float du = deactivate(ACTIVATION, dy[i], a[i], parameter);
            sum += du;
            sum_z += (x[i] - mean[set]) * scale[set] * du;
        }
        sum = block_sum(sum, room);
        sum_z = block_sum(sum_z, room);
        if (dw && threadIdx.x == 0) {
            dw[c] = sum_z;
            if (db) db[c] = sum;
            squares[c] = (double)sum_z * sum_z + (db ? (double)sum * sum : 0.0);
        }
        if (w) factor = w[c];
    }
    if (!dx || s >= sets) return;
    float m = mean[s], r = scale[s];
    if (!BATCH) {
        for (int e = threadIdx.x; e < size; e += blockDim.x) {
            int i = place_of(s, e);
            float dz = deactivate(ACTIVATION, dy[i], a[i], parameter);
            if (w) dz *= w[channel_of(i)];
            sum += dz;
            sum_z += (x[i] - m) * r * dz;
        }
        sum = block_sum(sum, room);
        sum_z = block_sum(sum_z, room);
    }
    float mean_dz = factor * sum / size, mean_z_dz = factor * sum_z / size;
    for (int e = threadIdx.x; e < size; e += blockDim.x) {
        int i = place_of(s, e);
        float dz = deactivate(ACTIVATION, dy[i], a[i], parameter);
        if (w) dz *= w[channel_of(i)];
        dx[i] = (dz - mean_dz - (x[i] - m) * r * mean_z_dz) * r;
    }
}

#undef BATCH
#undef SET
