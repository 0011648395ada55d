// Fetching the batch, for a first layer that does not do so itself: see Images in common.cuh.
//
// Sizes:
//   COUNT       numbers of a sample
//   GATHER      what they are in the data

KERNEL(gather)(const unsigned long long *sources, const long long *place, float *y, int N) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    Images images(GATHER, COUNT, nullptr, sources, place);
    if (i < N * COUNT) y[i] = images.at(i / COUNT, i % COUNT);
}
