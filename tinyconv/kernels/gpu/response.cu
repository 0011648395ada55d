// Local response normalisation, tinyconv.ops.local_response_norm.
//
//   s[n, c] = k + alpha sum of x[n, j]^2 over the channels j from c - BEFORE to c + AFTER
//   y[n, c] = x[n, c] s[n, c]^-beta
//   dx[n, j] = dy[n, j] s[n, j]^-beta
//              - 2 alpha beta x[n, j] sum of dy[n, c] x[n, c] s[n, c]^(-beta - 1)
//                                     over the channels c from j - AFTER to j + BEFORE
//
// Sizes:
//   C           channels
//   P           positions of a channel
//   BEFORE      neighbours
//   AFTER       neighbours

// Adds up f of element i and its neighbours.
template <class F>
__device__ inline float sum_near(int i, int before, int after, F f) {
    int c = i / P % C, first = max(c - before, 0), last = min(c + after, C - 1);
    float sum = 0;
    for (int j = first; j <= last; j++) sum += f(i + (j - c) * P);
    return sum;
}

// s is kept for the backward pass; null where there is none.
KERNEL(response_forward)(const float *x, float *s, float *y, float alpha, float beta, float k,
                         int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * C * P) return;
    float base = k + alpha * sum_near(i, BEFORE, AFTER, [&](int j) { return x[j] * x[j]; });
    if (s) s[i] = base;
    y[i] = x[i] * powf(base, -beta);
}

KERNEL(response_backward)(const float *dy, const float *x, const float *s, float *dx, float alpha,
                          float beta, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * C * P) return;
    float sum = sum_near(i, AFTER, BEFORE,
                         [&](int j) { return dy[j] * x[j] * powf(s[j], -beta - 1); });
    dx[i] = dy[i] * powf(s[i], -beta) - 2 * alpha * beta * x[i] * sum;
}
