// What comes after a matrix product whose sums several blocks made parts of: adding them up, always
// in the same order, and the rest of the layer.
//
// Sizes:
//   PARTS       of each sum
//   CHANNELS    of the output
//   POSITIONS   of a channel
//   ACTIVATION  f

// y = f(b + sum of the parts), of N samples.
KERNEL(product_outputs)(const float *parts, const float *b, float *z, float *y, float parameter,
                        int N) {
    int size = N * CHANNELS * POSITIONS, i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= size) return;
    float sum = 0;
    for (int part = 0; part < PARTS; part++) sum += parts[(size_t)part * size + i];
    if (b) sum += b[i / POSITIONS % CHANNELS];
    if (z) z[i] = sum;
    y[i] = activate(ACTIVATION, sum, parameter);
}

// dw and, in the last of the columns of an output channel, db; POSITIONS is the length of a row of
// dw.
KERNEL(product_weights)(const float *parts, float *dw, float *db) {
    int size = CHANNELS * (POSITIONS + 1), i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= size) return;
    float sum = 0;
    for (int part = 0; part < PARTS; part++) sum += parts[(size_t)part * size + i];
    int row = i / (POSITIONS + 1), column = i % (POSITIONS + 1);
    if (column < POSITIONS)
        dw[row * POSITIONS + column] = sum;
    else if (db)
        db[row] = sum;
}
