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

// y by running statistics: a batch norm outside training.
KERNEL(norm_fixed)(const float *x, const float *w, const float *b, const float *mean,
                   const float *variance, float *y, float eps, float parameter, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * C * P) return;
    int c = channel_of(i);
    float value = (x[i] - mean[c]) * (1 / sqrtf(variance[c] + eps));
    if (w) value *= w[c];
    if (b) value += b[c];
    y[i] = activate(ACTIVATION, value, parameter);
}

KERNEL(norm_backward)(const float *dy, const float *a, const float *x, const float *w,
                      const float *mean, const float *scale, float *dx, float parameter, int N) {
    __shared__ float room[32];
    int s = blockIdx.x, size = set_size(N);
    float m = mean[s], r = scale[s], sum_dz = 0, sum_z_dz = 0;
    for (int e = threadIdx.x; e < size; e += blockDim.x) {
        int i = place_of(s, e);
        float dz = deactivate(ACTIVATION, dy[i], a[i], parameter);
        if (w) dz *= w[channel_of(i)];
        sum_dz += dz;
        sum_z_dz += (x[i] - m) * r * dz;
    }
    float mean_dz = block_sum(sum_dz, room) / size;
    float mean_z_dz = block_sum(sum_z_dz, room) / size;
    for (int e = threadIdx.x; e < size; e += blockDim.x) {
        int i = place_of(s, e);
        float dz = deactivate(ACTIVATION, dy[i], a[i], parameter);
        if (w) dz *= w[channel_of(i)];
        dx[i] = (dz - mean_dz - (x[i] - m) * r * mean_z_dz) * r;
    }
}

// One block a channel.
KERNEL(norm_weights)(const float *dy, const float *a, const float *x, const float *mean,
                     const float *scale, float *dw, float *db, float parameter, int N) {
    __shared__ float room[32];
    int c = blockIdx.x;
    float sum_w = 0, sum_b = 0;
    for (int e = threadIdx.x; e < N * P; e += blockDim.x) {
        int n = e / P, i = (n * C + c) * P + e % P;
        int s = BATCH ? c : n * GROUPS + c / (C / (BATCH ? 1 : GROUPS));
        float du = deactivate(ACTIVATION, dy[i], a[i], parameter);
        sum_w += du * ((x[i] - mean[s]) * scale[s]);
        sum_b += du;
    }
    sum_w = block_sum(sum_w, room);
    sum_b = block_sum(sum_b, room);
    if (threadIdx.x == 0) {
        dw[c] = sum_w;
        if (db) db[c] = sum_b;
    }
}

// Moves running statistics towards those of the batch, if the step is taken; the variance is
// unbiased. share < 0: all batches count alike.
KERNEL(norm_track)(const float *mean, const float *variance, float *running_mean,
                   float *running_variance, long long *batches, const long long *taken, float share,
                   int N) {
    if (!*taken) return;
    __shared__ float part;
    if (threadIdx.x == 0) {
        *batches += 1;
        part = share < 0 ? 1.0f / *batches : share;
    }
    __syncthreads();
    float unbiased = (float)((double)N * P / ((double)N * P - 1));
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        running_mean[c] = (1 - part) * running_mean[c] + part * mean[c];
        running_variance[c] = (1 - part) * running_variance[c] + part * (variance[c] * unbiased);
    }
}

#undef BATCH
#undef SET
