// Losses of one row of outputs a sample, tinyconv.ops.softmax and loss: one block a sample.
//
// Each writes, of its sample, its share of the mean loss, whether the largest output is the
// label's, and whether it counts (its label is not ignored); and dx, the gradient of the mean.
// `order` and `place` say where in the targets the batch's are: see batch.cu.
//
// Sizes:
//   K           outputs of a sample
//   KIND        of the loss of an element: 0 squares, 1 absolute values, 2 Huber's, 3 cross-entropy
//               of sigmoids, 4 squares of sigmoids

// sum over k of -t[k] log softmax(x)[k] / Z,  t[k] = weight[k] ((1 - s) [k = label] + s / K),
// Z the sum over the batch of weight[label], each without the ignored label.
KERNEL(loss_cross_entropy)(const float *x, const unsigned long long *sources,
                           const long long *place, const float *weight, float smoothing,
                           int ignores, long long ignored, float *dx, float *losses, float *correct,
                           float *counts, int N) {
    __shared__ float room[32];
    __shared__ double wide_room[32];
    const long long *labels = (const long long *)sources[1];
    const long long *order = (const long long *)sources[2] + *place;
    int n = blockIdx.x, t = threadIdx.x;
    double total = N;
    if (weight || ignores) {
        double sum = 0;
        for (int i = t; i < N; i += blockDim.x) {
            long long label = labels[order[i]];
            if (!(ignores && label == ignored)) sum += weight ? weight[label] : 1.0f;
        }
        total = block_sum(sum, wide_room);
    }
    long long label = labels[order[n]];
    bool counted = !(ignores && label == ignored);
    float share = total == 0 ? 1.0f : (float)(1 / total);
    const float *row = x + n * K;
    float largest = -INFINITY;
    for (int k = 0; k < K; k++)  // every thread reads the whole row, which is short
        if (row[k] > largest) largest = row[k];
    float sum = 0;
    for (int k = t; k < K; k += blockDim.x) sum += expf(row[k] - largest);
    float log_sum = logf(block_sum(sum, room)), loss = 0, all = 0;
    for (int k = t; k < K; k += blockDim.x) {
        float target = smoothing / K + (k == label ? 1 - smoothing : 0.0f);
        if (weight) target *= weight[k];
        if (!counted) target = 0;
        // What does not count may be minus infinity, which times 0 would be NaN.
        if (target != 0) loss -= target * (row[k] - largest - log_sum);
        all += target;
    }
    loss = block_sum(loss, room);
    all = block_sum(all, room);
    if (dx)
        for (int k = t; k < K; k += blockDim.x) {
            float target = smoothing / K + (k == label ? 1 - smoothing : 0.0f);
            if (weight) target *= weight[k];
            if (!counted) target = 0;
            dx[n * K + k] = (expf(row[k] - largest - log_sum) * all - target) * share;
        }
    if (t == 0) {
        int best = 0;
        while (best < K - 1 && row[best] != largest) best++;  // of equal ones the first
        losses[n] = loss * share;
        correct[n] = counted && best == label;
        counts[n] = counted;
    }
}

// share times the sum over k of l(x[k], t[k]). The targets are numbers (S, K), or 1 at the label and
// 0 elsewhere.
KERNEL(loss_elements)(const float *x, const unsigned long long *sources, const long long *place,
                      int of_labels, float share, float delta, float *dx, float *losses,
                      float *correct, float *counts, int N) {
    __shared__ float room[32];
    const long long *order = (const long long *)sources[2] + *place;
    long long sample = order[blockIdx.x];
    long long label = of_labels ? ((const long long *)sources[1])[sample] : -1;
    const float *targets = (const float *)sources[1] + (of_labels ? 0 : sample * K);
    const float *row = x + blockIdx.x * K;
    float loss = 0;
    for (int k = threadIdx.x; k < K; k += blockDim.x) {
        float target = of_labels ? (k == label ? 1.0f : 0.0f) : targets[k], value = row[k], slope;
        float away = value - target;
        if (KIND == 0) {
            loss += away * away, slope = 2 * away;
        } else if (KIND == 1) {
            slope = away < 0 ? -1.0f : away > 0 ? 1.0f : 0 * away;
            loss += slope * away;
        } else if (KIND == 2) {
            float size = fabsf(away);
            bool near = size <= delta;
            loss += near ? 0.5f * away * away : delta * (size - 0.5f * delta);
            slope = near ? away : away < 0 ? -delta : away > 0 ? delta : away;
        } else if (KIND == 3) {
            loss += (value < 0 ? 0.0f : value) - value * target + log1pf(expf(-fabsf(value)));
            slope = sigmoid_of(value) - target;
        } else {
            float a = sigmoid_of(value);
            away = a - target;
            loss += away * away, slope = 2 * away * a * (1 - a);
        }
        if (dx) dx[blockIdx.x * K + k] = share * slope;
    }
    loss = block_sum(loss, room);
    if (threadIdx.x == 0) {
        int best = 0;
        for (int k = 1; k < K; k++)
            if (row[k] > row[best]) best = k;
        losses[blockIdx.x] = share * loss;
        correct[blockIdx.x] = best == label;
        counts[blockIdx.x] = 1;
    }
}
