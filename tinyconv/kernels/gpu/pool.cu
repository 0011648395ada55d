// Pooling of windows, tinyconv.ops.pool and pool_lp, of planes (N C, D, H, W).
//
//   max   y = the maximum of a window, the first in row-major order; dx gets dy where it came from
//   norm  y = (sum |x|^p)^(1/p)
//         dx = sign(x) |x|^(p - 1) times the sum over the windows that hold it of dy / y^(p - 1)
//
// The backward passes gather: a thread looks at all windows that hold its element.
//
// Sizes:
//   PLANES      of a sample
//   D, H, W     of the input
//   OD, OH, OW  of the output
//   KD, KH, KW  of the window
//   SD, SH, SW  stride
//   LD, LH, LW  dilation
//   PD, PH, PW  padding before the input

#define INPUTS (D * H * W)
#define OUTPUTS (OD * OH * OW)

// Calls `visit` with the place in the plane of every element of window `p`, in row-major order.
template <class Visit>
__device__ inline void for_elements(int p, Visit visit) {
    int d0 = p / (OH * OW) * SD - PD, h0 = p / OW % OH * SH - PH, w0 = p % OW * SW - PW;
    for (int i = 0; i < KD; i++)
        for (int j = 0; j < KH; j++)
            for (int k = 0; k < KW; k++) {
                int d = d0 + i * LD, h = h0 + j * LH, w = w0 + k * LW;
                bool inside = 0 <= d && d < D && 0 <= h && h < H && 0 <= w && w < W;
                if (inside) visit((d * H + h) * W + w);
            }
}

// Calls `visit` with every window that holds element `place`, in the order of the windows' elements.
template <class Visit>
__device__ inline void for_windows(int place, Visit visit) {
    int d0 = place / (H * W) + PD, h0 = place / W % H + PH, w0 = place % W + PW;
    for (int i = 0; i < KD; i++)
        for (int j = 0; j < KH; j++)
            for (int k = 0; k < KW; k++) {
                int d = d0 - i * LD, h = h0 - j * LH, w = w0 - k * LW;
                bool whole = d >= 0 && h >= 0 && w >= 0 && d % SD == 0 && h % SH == 0 && w % SW == 0;
                d /= SD, h /= SH, w /= SW;
                if (whole && d < OD && h < OH && w < OW) visit((d * OH + h) * OW + w);
            }
}

// argmax: the flat index in the plane, -1 where the window sees nothing.
KERNEL(pool_max)(const float *x, float *y, int *argmax, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * PLANES * OUTPUTS) return;
    const float *plane = x + i / OUTPUTS * INPUTS;
    float best = -INFINITY;
    int where = -1;
    for_elements(i % OUTPUTS, [&](int place) {
        float value = plane[place];
        bool first_nan = value != value && best == best;
        if (where < 0 || value > best || first_nan) best = value, where = place;
    });
    y[i] = best;
    argmax[i] = where;
}

KERNEL(pool_max_backward)(const float *dy, const int *argmax, float *dx, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * PLANES * INPUTS) return;
    int first = i / INPUTS * OUTPUTS, place = i % INPUTS;
    float sum = 0;
    for_windows(place, [&](int window) {
        if (argmax[first + window] == place) sum += dy[first + window];
    });
    dx[i] = sum;
}

KERNEL(pool_norm)(const float *x, float *y, float p, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * PLANES * OUTPUTS) return;
    const float *plane = x + i / OUTPUTS * INPUTS;
    float sum = 0;
    for_elements(i % OUTPUTS, [&](int place) {
        float value = plane[place];
        sum += p == 2 ? value * value : powf(fabsf(value), p);
    });
    y[i] = p == 2 ? sqrtf(sum) : powf(sum, 1 / p);
}

KERNEL(pool_norm_backward)(const float *dy, const float *x, const float *y, float *dx, float p,
                           int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * PLANES * INPUTS) return;
    int first = i / INPUTS * OUTPUTS;
    float sum = 0, value = x[i], sign = value > 0 ? 1.0f : value < 0 ? -1.0f : value;
    for_windows(i % INPUTS, [&](int window) {
        float norm = y[first + window];
        if (norm != 0) sum += dy[first + window] / (p == 2 ? norm : powf(norm, p - 1));
    });
    dx[i] = (p == 2 ? value : sign * powf(fabsf(value), p - 1)) * sum;
}

#undef INPUTS
#undef OUTPUTS
