// Fetching the batch. `sources` holds addresses, so that other data need no other graph: of the
// samples, of their targets, and of the order (int64) in which an epoch takes them; the batch begins
// at `place` of it.
//
// Sizes:
//   COUNT       numbers of a sample

KERNEL(gather_floats)(const unsigned long long *sources, const long long *place, float *y, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * COUNT) return;
    const long long *order = (const long long *)sources[2] + *place;
    y[i] = ((const float *)sources[0])[order[i / COUNT] * COUNT + i % COUNT];
}

// Pixels: y = byte / 255.
KERNEL(gather_bytes)(const unsigned long long *sources, const long long *place, float *y, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= N * COUNT) return;
    const long long *order = (const long long *)sources[2] + *place;
    y[i] = ((const unsigned char *)sources[0])[order[i / COUNT] * COUNT + i % COUNT] / 255.0f;
}
