// The end of a step: is everything finite, the sums of the epoch, the optimizers of
// tinyconv.optimizers over all parameters at once.
//
// A step whose loss or gradient is not finite changes nothing, and neither does any step after it:
// `bad` keeps its number until the host has looked.
//
// Sizes:
//   SIZE        parameters
//   BLOCKS      of gradient_squares
//   DECAYS      0 for no weight decay, 1 in the gradient, 2 beside it (AdamW)
//   MOMENTUM    whether velocities are kept
//   NESTEROV    whether steps look ahead along them
//   CENTERED    whether squares are taken around the mean

// squares (BLOCKS): of the gradients of a block, in double so that they overflow only where a
// gradient is not finite.
KERNEL(gradient_squares)(const float *gradient, double *squares) {
    __shared__ double room[32];
    double sum = 0;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < SIZE; i += BLOCKS * THREADS)
        sum += (double)gradient[i] * gradient[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// One block. numbers: what the optimizer of this step is multiplied by: 0 the rate, 1 the inverse
// root of 1 - beta2^t, 2 the share of the gradient that clipping leaves. sums: 0 loss, 1 correct,
// 2 samples. steps: of Adam, null in other rules. Nothing behind it needs place, tick and step, which
// it moves on to the next step.
KERNEL(step_judge)(const float *losses, const float *correct, const float *counts,
                   const double *squares, const double *lr, double *numbers, double *sums,
                   double *steps, double beta1, double beta2, double clip, long long *place,
                   long long *tick, long long *step, long long *bad, long long *taken, int N) {
    __shared__ double room[32];
    double loss = 0, right = 0, samples = 0, square = 0;
    for (int n = threadIdx.x; n < N; n += THREADS) {
        loss += losses[n];
        right += correct[n];
        samples += counts[n];
    }
    for (int i = threadIdx.x; i < BLOCKS; i += THREADS) square += squares[i];
    loss = block_sum(loss, room);
    right = block_sum(right, room);
    samples = block_sum(samples, room);
    square = block_sum(square, room);
    if (threadIdx.x > 0) return;
    bool finite = loss - loss == 0 && square - square == 0;
    if (!finite && *bad < 0) *bad = *step;
    *taken = *bad < 0;
    *place += N, *tick += 1, *step += 1;  // the next batch begins where this one ends
    if (!*taken) return;
    sums[0] += loss * samples;
    sums[1] += right;
    sums[2] += samples;
    numbers[0] = *lr;
    if (steps) {
        steps[0] += 1;
        numbers[0] = *lr / (1 - pow(beta1, steps[0]));
        numbers[1] = 1 / sqrt(1 - pow(beta2, steps[0]));
    }
    double length = sqrt(square);
    numbers[2] = clip > 0 && clip < length + 1e-6 ? clip / (length + 1e-6) : 1.0;
}

// The gradient that a rule gets: clipped, with weight decay.
__device__ inline float final_gradient(const float *w, const float *gradient, const float *decay,
                                       const double *numbers, float weight_decay, int i) {
    float g = gradient[i] * (float)numbers[2];
    return DECAYS == 1 ? g + weight_decay * decay[i] * w[i] : g;
}

KERNEL(update_sgd)(float *w, const float *gradient, const float *decay, float *velocity,
                   const double *numbers, const long long *taken, float weight_decay,
                   float momentum) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= SIZE || !*taken) return;
    float g = final_gradient(w, gradient, decay, numbers, weight_decay, i);
    if (MOMENTUM) {
        float v = velocity[i] = momentum * velocity[i] + g;
        g = NESTEROV ? g + momentum * v : v;
    }
    w[i] -= (float)numbers[0] * g;
}

KERNEL(update_adagrad)(float *w, const float *gradient, const float *decay, float *sum,
                       const double *numbers, const long long *taken, float weight_decay,
                       float eps) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= SIZE || !*taken) return;
    float g = final_gradient(w, gradient, decay, numbers, weight_decay, i);
    float s = sum[i] += g * g;
    w[i] -= (float)numbers[0] * g / (sqrtf(s) + eps);
}

KERNEL(update_rmsprop)(float *w, const float *gradient, const float *decay, float *square,
                       float *mean, float *velocity, const double *numbers, const long long *taken,
                       float weight_decay, float alpha, float rest, float eps, float momentum) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= SIZE || !*taken) return;
    float g = final_gradient(w, gradient, decay, numbers, weight_decay, i);
    float s = square[i] = alpha * square[i] + rest * g * g;
    if (CENTERED) {
        float a = mean[i] = alpha * mean[i] + rest * g;
        s = s - a * a < 0 ? 0.0f : s - a * a;  // rounding may leave a variance of 0 just below it
    }
    float r = g / (sqrtf(s) + eps);
    if (MOMENTUM) r = velocity[i] = momentum * velocity[i] + r;
    w[i] -= (float)numbers[0] * r;
}

// rest1 = 1 - beta1, rest2 = 1 - beta2.
KERNEL(update_adam)(float *w, const float *gradient, const float *decay, float *mean, float *square,
                    const double *numbers, const double *lr, const long long *taken,
                    float weight_decay, float beta1, float rest1, float beta2, float rest2,
                    float eps) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= SIZE || !*taken) return;
    float g = final_gradient(w, gradient, decay, numbers, weight_decay, i), value = w[i];
    if (DECAYS == 2) value -= (float)*lr * weight_decay * decay[i] * value;
    float m = mean[i] = beta1 * mean[i] + rest1 * g;
    float s = square[i] = beta2 * square[i] + rest2 * g * g;
    w[i] = value - (float)numbers[0] * m / (sqrtf(s) * (float)numbers[1] + eps);
}
