// Losses and metrics, tinyconv.ops.softmax and loss and tinyconv.metrics, of rows of K outputs: one a
// sample or, of images, one a position. A block has one row after the other.
//
// `order` and `place` say where in the targets the batch's are: see Images in common.cuh; the fourth
// of the sources is how often each sample counts, null for once.
//
// Sizes:
//   K           outputs of a row
//   P           rows of a sample; the outputs of a row lie P behind each other
//   KIND        of the loss of an element: 0 squares, 1 absolute values, 2 Huber's, 3 cross-entropy
//               of sigmoids, 4 squares of sigmoids
//   HARD        whether targets are class indices (int64), else they are a number an output
//   CLASSES     whether a row has one class
//   METRICS     how many

// What all losses are called with. weight (K,): of classes, null for 1. parameter: smoothing, margin
// or delta. part: of the sum over a row in the mean. total: what the mean divides by, null for N P.
// metrics (METRICS,): k for whether the class is among the k best, 0 for the share of elements on
// their target's side, -1 for absolute differences, -2 for squares. sums (3 + METRICS, blocks): of
// the rows of each block, the loss, how often they count, how often in the mean, and the metrics.
#define ARGUMENTS                                                                                 \
    const float *x, const unsigned long long *sources, const long long *place,                    \
        const float *weight, int ignores, long long ignored, float parameter, float part,         \
        const double *total, const int *metrics, float *dx, double *sums, int N

// A row: its outputs, its targets or its label, and how often it counts.
struct Row {
    const float *x, *targets;
    long long label;
    float often;
    __device__ Row(const float *x, const unsigned long long *sources, const long long *place,
                   int ignores, long long ignored, int i)
        : x(x + i / P * K * P + i % P) {
        long long sample = ((const long long *)sources[2])[*place + i / P];
        often = sources[3] ? ((const float *)sources[3])[sample] : 1.0f;
        targets = (const float *)sources[1] + sample * K * P + i % P;
        label = -1;
        if (HARD) {
            label = ((const long long *)sources[1])[sample * P + i % P];
            if (ignores && label == ignored) often = 0, label = -1;
        } else if (CLASSES) {  // the likeliest
            label = 0;
            for (int k = 1; k < K; k++)
                if (target(k) > target((int)label)) label = k;
        }
    }
    __device__ float value(int k) const { return x[k * P]; }
    // How often it counts in the mean.
    __device__ float divides(const float *weight) const {
        return often == 0 ? 0.0f : often * (HARD && weight ? weight[label] : 1.0f);
    }
    __device__ float target(int k) const { return HARD ? (k == label ? 1.0f : 0.0f) : targets[k * P]; }
};

struct LossRoom {
    float sums[32];
    double wide[32];
    bool is_last;
};

// Adds a row's loss and metrics to the sums of its block.
__device__ inline void count(const Row &row, float loss, const float *weight, const int *metrics,
                             double *sums, LossRoom &room) {
    loss = block_sum(loss, room.sums);
    if (threadIdx.x == 0) {
        sums[0] += loss;
        sums[gridDim.x] += row.often;
        sums[2 * gridDim.x] += row.divides(weight);
    }
    if (METRICS == 0) return;
    float better = 0, right = 0, away = 0, square = 0;
    for (int k = threadIdx.x; k < K; k += blockDim.x) {
        if (CLASSES) {
            float other = row.value(k), own = row.label < 0 ? INFINITY : row.value((int)row.label);
            better += other > own || (other == own && k < row.label);  // of equal ones the first
        } else {
            float t = row.target(k), difference = row.value(k) - t;
            right += (row.value(k) > 0) == (t > 0.5f);
            away += fabsf(difference);
            square += difference * difference;
        }
    }
    better = block_sum(better, room.sums);
    right = block_sum(right, room.sums);
    away = block_sum(away, room.sums);
    square = block_sum(square, room.sums);
    if (threadIdx.x > 0) return;
    for (int m = 0; m < METRICS; m++) {
        int kind = metrics[m];
        float score = kind > 0 ? better < kind : (kind == 0 ? right : kind == -1 ? away : square) / K;
        sums[(3 + m) * gridDim.x] += row.often * score;
    }
}

// What the mean divides by, where not all rows count alike. sums (blocks,).
KERNEL(loss_total)(const unsigned long long *sources, const long long *place, const float *weight,
                   int ignores, long long ignored, double *total, double *sums, int *arrived, int N) {
    __shared__ LossRoom room;
    double sum = 0;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < N * P; i += gridDim.x * THREADS) {
        Row row(nullptr, sources, place, ignores, ignored, i);
        sum += row.divides(weight);
    }
    sum = block_sum(sum, room.wide);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
    if (!is_last_of(gridDim.x, arrived, room.is_last)) return;
    sum = 0;
    for (int i = threadIdx.x; i < (int)gridDim.x; i += THREADS) sum += sums[i];
    sum = block_sum(sum, room.wide);
    if (threadIdx.x == 0) *total = sum;
}

// The inverse of what the mean divides by.
__device__ inline float share_of(const double *total, int N) {
    double all = total ? *total : (double)N * P;
    return all == 0 ? 1.0f : (float)(1 / all);
}

__device__ inline void clear(double *sums) {
    if (threadIdx.x == 0)
        for (int i = 0; i < 3 + METRICS; i++) sums[i * gridDim.x] = 0;
}

// sum over k of -t[k] log softmax(x)[k],  t[k] = weight[k] ((1 - s) target[k] + s / K)
KERNEL(loss_cross_entropy)(ARGUMENTS) {
    __shared__ LossRoom room;
    float share = share_of(total, N);
    sums += blockIdx.x;
    clear(sums);
    for (int i = blockIdx.x; i < N * P; i += gridDim.x) {
        Row row(x, sources, place, ignores, ignored, i);
        float *slopes = dx + (row.x - x), largest = -INFINITY, sum = 0, loss = 0, all = 0;
        for (int k = 0; k < K; k++)  // every thread reads the whole row, which is short
            if (row.value(k) > largest) largest = row.value(k);
        for (int k = threadIdx.x; k < K; k += blockDim.x) sum += expf(row.value(k) - largest);
        float log_sum = logf(block_sum(sum, room.sums));
        auto wanted = [&](int k) {
            float t = (1 - parameter) * row.target(k) + parameter / K;
            return row.often == 0 ? 0.0f : row.often * t * (weight ? weight[k] : 1.0f);
        };
        for (int k = threadIdx.x; k < K; k += blockDim.x) {
            float t = wanted(k);
            // What does not count may be minus infinity, which times 0 would be NaN.
            if (t != 0) loss -= t * (row.value(k) - largest - log_sum);
            all += t;
        }
        all = block_sum(all, room.sums);
        for (int k = threadIdx.x; k < K; k += blockDim.x) {
            float expected = all == 0 ? 0.0f : expf(row.value(k) - largest - log_sum) * all;
            slopes[k * P] = (expected - wanted(k)) * share;
        }
        count(row, loss * share, weight, metrics, sums, room);
    }
}

// sum over the wrong classes k of max(0, margin + x[k] - x[label])
KERNEL(loss_margin)(ARGUMENTS) {
    __shared__ LossRoom room;
    float share = share_of(total, N) * part;
    sums += blockIdx.x;
    clear(sums);
    for (int i = blockIdx.x; i < N * P; i += gridDim.x) {
        Row row(x, sources, place, ignores, ignored, i);
        float *slopes = dx + (row.x - x), right = row.value((int)row.label);
        float loss = 0, violated = 0, factor = share * row.often;
        for (int k = threadIdx.x; k < K; k += blockDim.x) {
            float excess = parameter + row.value(k) - right;
            bool counts = k != row.label && !(excess <= 0);  // NaN counts
            if (counts) loss += excess;
            violated += counts;
            if (k != row.label) slopes[k * P] = counts ? factor : 0.0f;
        }
        violated = block_sum(violated, room.sums);
        if (threadIdx.x == 0) slopes[row.label * P] = -factor * violated;
        count(row, loss * factor, weight, metrics, sums, room);
    }
}

// sum over k of l(x[k], target[k])
KERNEL(loss_elements)(ARGUMENTS) {
    __shared__ LossRoom room;
    float share = share_of(total, N) * part;
    sums += blockIdx.x;
    clear(sums);
    for (int i = blockIdx.x; i < N * P; i += gridDim.x) {
        Row row(x, sources, place, ignores, ignored, i);
        float *slopes = dx + (row.x - x), loss = 0, factor = share * row.often;
        for (int k = threadIdx.x; k < K; k += blockDim.x) {
            float target = row.target(k), value = row.value(k), slope, away = value - target;
            if (KIND == 0) {
                loss += away * away, slope = 2 * away;
            } else if (KIND == 1) {
                slope = away < 0 ? -1.0f : away > 0 ? 1.0f : 0 * away;
                loss += slope * away;
            } else if (KIND == 2) {
                float size = fabsf(away);
                bool near = size <= parameter;
                loss += near ? 0.5f * away * away : parameter * (size - 0.5f * parameter);
                slope = near ? away : away < 0 ? -parameter : away > 0 ? parameter : away;
            } else if (KIND == 3) {
                loss += (value < 0 ? 0.0f : value) - value * target + log1pf(expf(-fabsf(value)));
                slope = sigmoid_of(value) - target;
            } else {
                float a = sigmoid_of(value);
                away = a - target;
                loss += away * away, slope = 2 * away * a * (1 - a);
            }
            slopes[k * P] = factor * slope;
        }
        count(row, loss * factor, weight, metrics, sums, room);
    }
}

#undef ARGUMENTS
