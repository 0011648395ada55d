// Layers that treat each element by itself, sums of branches, concatenation.
//
// Sizes:
//   COUNT       elements of a sample
//   ACTIVATION  f

// y = f(x)
KERNEL(activation_forward)(const float *x, float *y, float parameter, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < N * COUNT) y[i] = activate(ACTIVATION, x[i], parameter);
}

// dx = dy f'(x); v is y or x, see deactivate.
KERNEL(activation_backward)(const float *dy, const float *v, float *dx, float parameter, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < N * COUNT) dx[i] = deactivate(ACTIVATION, dy[i], v[i], parameter);
}

// z = x + other, y = f(z). x, z and y may be one array.
KERNEL(add_forward)(const float *x, const float *other, float *z, float *y, float parameter, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * COUNT) return;
    float sum = x[i] + other[i];
    if (z) z[i] = sum;
    y[i] = activate(ACTIVATION, sum, parameter);
}

// y = factor x: dropout outside training.
KERNEL(scale)(const float *x, float *y, float factor, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < N * COUNT) y[i] = factor * x[i];
}

// Copies the part of COUNT elements that begins at `x_first` of each sample of x, which has `x_size`
// elements, to `y_first` of y: a concatenation part by part, and its backward pass.
KERNEL(copy_part)(const float *x, int x_size, int x_first, float *y, int y_size, int y_first,
                  int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * COUNT) return;
    int n = i / COUNT, k = i % COUNT;
    y[(size_t)n * y_size + y_first + k] = x[(size_t)n * x_size + x_first + k];
}

// y = factor x where the stream of the step's key keeps the element, else 0: tinyconv.ops.dropout
// with the mask of tinyconv.random.uniform. The upper 24 bits of a number must reach `least`. The
// backward pass is the same with dy for x: masks are drawn again rather than kept.
KERNEL(dropout)(const float *x, float *y, const unsigned long long *keys, const long long *tick,
                int least, float factor, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * COUNT) return;
    int bits = (int)(random_bits(keys[*tick], i) >> 40);
    y[i] = bits >= least ? factor * x[i] : 0.0f;
}
