// The end of a step: is everything finite, the sums of the epoch, the optimizers of
// tinyconv.optimizers over all parameters at once, the running statistics of batch norms.
//
// A step whose loss or gradient is not finite changes nothing, and neither does any step after it:
// `counters[BAD]` keeps its number until the host has looked.
//
// Sizes:
//   SIZE        parameters
//   SLOTS       sums of squares of gradients
//   POSITIONS   rows of a sample's outputs
//   METRICS     beside the loss
//   DECAYS      0 for no weight decay, 1 in the gradient, 2 beside it (AdamW)
//   MOMENTUM    whether velocities are kept
//   NESTEROV    whether steps look ahead along them
//   CENTERED    whether squares are taken around the mean

// In the order of tinyconv.engines.gpu.update_rule.COUNTERS and FIGURES.
enum { PLACE, TICK, STEP, BAD, TAKEN };
enum { RATE, LOSS, SAMPLES, DIVISOR, FIRST_METRIC };

// Blocks of a loss, at most: tinyconv.engines.gpu.loss_step.
enum { LOSS_BLOCKS = 1024 };

// squares (SLOTS): of the gradients of a block, in double so that they overflow only where a
// gradient is not finite; where the kernels that make gradients do not do this.
KERNEL(gradient_squares)(const float *gradient, double *squares) {
    __shared__ double room[32];
    double sum = 0;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < SIZE; i += SLOTS * THREADS)
        sum += (double)gradient[i] * gradient[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// What an update is called with. of_loss: the sums of its blocks, see loss.cu; steps counts those of
// Adam, null in other rules.
#define STATE                                                                                  \
    float *w, const float *gradient, const float *decay, const double *of_loss,                \
        const double *squares, double *figures, double *steps, long long *counters, int *arrived, \
        double beta1, double beta2, double clip, float weight_decay, int N
#define STATE_NAMES                                                                        \
    w, gradient, decay, of_loss, squares, figures, steps, counters, arrived, beta1, beta2, clip, \
        weight_decay, N

// What a rule is multiplied by: the rate, the inverse root of 1 - beta2^t of Adam, the share of the
// gradient that clipping leaves, what a weight loses beside the rule.
struct Factors {
    float rate, root, share, decay;
};

struct JudgeRoom {
    double sums[32];
    Factors factors;
    bool is_last;
};

// Calls `rule` with each parameter's number, its gradient (clipped, with weight decay) and the
// factors, if the step is taken. All blocks judge alike; the last one to end counts the step: nothing
// behind it needs place, tick and step as they were.
template <class Rule>
__device__ inline void update(int size, JudgeRoom &room, STATE, Rule rule) {
    int rows = min(N * POSITIONS, (int)LOSS_BLOCKS);
    double loss = 0, square = 0;
    for (int i = threadIdx.x; i < rows; i += THREADS) loss += of_loss[i];
    for (int i = threadIdx.x; i < SLOTS; i += THREADS) square += squares[i];
    loss = block_sum(loss, room.sums);
    square = block_sum(square, room.sums);
    bool is_finite = loss - loss == 0 && square - square == 0;
    bool is_taken = is_finite && counters[BAD] < 0;
    if (threadIdx.x == 0) {
        // As where squares are added up in float: what is beyond has an infinite length.
        double length = square > 3.4028234e38 ? INFINITY : sqrt(square);
        double rate = figures[RATE], root = 0;
        double share = clip > 0 && clip < length + 1e-6 ? clip / (length + 1e-6) : 1.0;
        float lost = (float)rate * weight_decay;
        if (steps) {
            rate /= 1 - pow(beta1, steps[0] + 1);
            root = 1 / sqrt(1 - pow(beta2, steps[0] + 1));
        }
        room.factors = {(float)rate, (float)root, (float)share, lost};
    }
    __syncthreads();
    Factors factors = room.factors;
    if (is_taken)
        for (int i = blockIdx.x * THREADS + threadIdx.x; i < size; i += gridDim.x * THREADS) {
            float g = gradient[i] * factors.share;
            if (DECAYS == 1) g += weight_decay * decay[i] * w[i];
            if (DECAYS == 2) w[i] -= factors.decay * decay[i] * w[i];
            rule(i, g, factors);
        }
    if (!is_last_of(gridDim.x, arrived, room.is_last)) return;
    double samples = 0, divisor = 0;
    for (int i = threadIdx.x; i < rows; i += THREADS) {
        samples += of_loss[rows + i];
        divisor += of_loss[2 * rows + i];
    }
    samples = block_sum(samples, room.sums);
    divisor = block_sum(divisor, room.sums);
    for (int m = 0; m < METRICS; m++) {
        double score = 0;
        for (int i = threadIdx.x; i < rows; i += THREADS) score += of_loss[(3 + m) * rows + i];
        score = block_sum(score, room.sums);
        if (threadIdx.x == 0 && is_taken) figures[FIRST_METRIC + m] += score;
    }
    if (threadIdx.x > 0) return;
    if (!is_finite && counters[BAD] < 0) counters[BAD] = counters[STEP];
    counters[TAKEN] = is_taken;
    counters[PLACE] += N, counters[TICK] += 1, counters[STEP] += 1;
    if (!is_taken) return;
    figures[LOSS] += loss * divisor;
    figures[SAMPLES] += samples;
    figures[DIVISOR] += divisor;
    if (steps) steps[0] += 1;
}

// Judges and counts, where the rule has no kernel.
KERNEL(update_nothing)(STATE) {
    __shared__ JudgeRoom room;
    update(0, room, STATE_NAMES, [&](int, float, const Factors &) {});
}

KERNEL(update_sgd)(STATE, float *velocity, float momentum) {
    __shared__ JudgeRoom room;
    update(SIZE, room, STATE_NAMES, [&](int i, float g, const Factors &factors) {
        if (MOMENTUM) {
            float v = velocity[i] = momentum * velocity[i] + g;
            g = NESTEROV ? g + momentum * v : v;
        }
        w[i] -= factors.rate * g;
    });
}

KERNEL(update_adagrad)(STATE, float *sum, float eps) {
    __shared__ JudgeRoom room;
    update(SIZE, room, STATE_NAMES, [&](int i, float g, const Factors &factors) {
        float s = sum[i] += g * g;
        w[i] -= factors.rate * g / (sqrtf(s) + eps);
    });
}

KERNEL(update_rmsprop)(STATE, float *square, float *mean, float *velocity, float alpha, float rest,
                       float eps, float momentum) {
    __shared__ JudgeRoom room;
    update(SIZE, room, STATE_NAMES, [&](int i, float g, const Factors &factors) {
        float s = square[i] = alpha * square[i] + rest * g * g;
        if (CENTERED) {
            float a = mean[i] = alpha * mean[i] + rest * g;
            s = s - a * a < 0 ? 0.0f : s - a * a;  // rounding may leave a variance of 0 just below it
        }
        float r = g / (sqrtf(s) + eps);
        if (MOMENTUM) r = velocity[i] = momentum * velocity[i] + r;
        w[i] -= factors.rate * r;
    });
}

KERNEL(update_adam)(STATE, float *mean, float *square, float eps) {
    __shared__ JudgeRoom room;
    float kept1 = beta1, rest1 = 1 - beta1, kept2 = beta2, rest2 = 1 - beta2;
    update(SIZE, room, STATE_NAMES, [&](int i, float g, const Factors &factors) {
        float m = mean[i] = kept1 * mean[i] + rest1 * g;
        float s = square[i] = kept2 * square[i] + rest2 * g * g;
        w[i] -= factors.rate * m / (sqrtf(s) * factors.root + eps);
    });
}

// Moves the running statistics of batch norms towards those of the batch, if the step was taken; the
// variance is unbiased. One block a norm. addresses (norms, 5): of mean, variance, running mean,
// running variance, number of batches. numbers (norms, 3): channels, positions, share of a batch;
// share < 0: all batches count alike.
KERNEL(track_statistics)(const unsigned long long *addresses, const double *numbers,
                         const long long *counters, int N) {
    __shared__ float part;
    addresses += 5 * blockIdx.x, numbers += 3 * blockIdx.x;
    if (!counters[TAKEN]) return;
    const float *mean = (const float *)addresses[0], *variance = (const float *)addresses[1];
    float *running_mean = (float *)addresses[2], *running_variance = (float *)addresses[3];
    long long *batches = (long long *)addresses[4];
    if (threadIdx.x == 0) {
        *batches += 1;
        part = numbers[2] < 0 ? 1.0f / *batches : (float)numbers[2];
    }
    __syncthreads();
    double count = N * numbers[1];
    float unbiased = (float)(count / (count - 1));
    for (int c = threadIdx.x; c < (int)numbers[0]; c += THREADS) {
        running_mean[c] = (1 - part) * running_mean[c] + part * mean[c];
        running_variance[c] = (1 - part) * running_variance[c] + part * (variance[c] * unbiased);
    }
}
