// What several families of kernels use: activations, sums over a block.
//
// Everything is float and channels come first, (N, C, D, H, W), as in tinyconv.ops; missing axes
// have size 1. KERNEL(name) begins a kernel; sizes that never change in a plan are macros, listed
// at the top of each file.

// In the order of tinyconv.kernels.gpu.activations.CODES.
enum { IDENTITY, RELU, SIGMOID, TANH, SCALED_TANH, LEAKY_RELU, ELU, GELU, GELU_TANH, SILU, SOFTPLUS };

enum { THREADS = 256 };  // of a block, where nothing else is said

#define AMPLITUDE 1.7159f
#define STEEPNESS (2.0f / 3.0f)
#define GATE 1.5957691216057308f  // 2 sqrt(2 / pi), of GELU without the error function
#define CUBE 0.044715f

__device__ inline float sigmoid_of(float x) {
    float e = expf(-fabsf(x));  // never overflows
    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

// y = f(z). Comparisons are written so that NaN stays NaN.
__device__ inline float activate(int kind, float z, float p) {
    switch (kind) {
        case RELU: return z <= 0 ? 0.0f : z;
        case SIGMOID: return sigmoid_of(z);
        case TANH: return tanhf(z);
        case SCALED_TANH: return AMPLITUDE * tanhf(STEEPNESS * z);
        case LEAKY_RELU: return z > 0 ? z : p * z;
        case ELU: return z > 0 ? z : p * expm1f(z);
        case GELU: return z * (0.5f + 0.5f * erff(z * 0.70710678f));
        case GELU_TANH: return z * sigmoid_of(GATE * (z + CUBE * z * z * z));
        case SILU: return z * sigmoid_of(z);
        case SOFTPLUS: return (z < 0 ? 0.0f : z) + log1pf(expf(-fabsf(p * z))) / p;
        default: return z;
    }
}

// dz = dy f'(z). v is y = f(z) up to SCALED_TANH and z itself from LEAKY_RELU on.
__device__ inline float deactivate(int kind, float dy, float v, float p) {
    switch (kind) {
        case RELU: return v <= 0 ? 0.0f : dy;
        case SIGMOID: return dy * v * (1 - v);
        case TANH: return dy * (1 - v * v);
        case SCALED_TANH: return dy * (STEEPNESS * (AMPLITUDE - v * v / AMPLITUDE));
        case LEAKY_RELU: return v > 0 ? dy : p * dy;
        case ELU: return v > 0 ? dy : dy * (p * expf(v));
        case GELU: {
            float gate = 0.5f + 0.5f * erff(v * 0.70710678f);
            return dy * (gate + v * 0.39894228f * expf(-0.5f * v * v));
        }
        case GELU_TANH: {
            float gate = sigmoid_of(GATE * (v + CUBE * v * v * v));
            return dy * (gate + v * gate * (1 - gate) * GATE * (1 + 3 * CUBE * v * v));
        }
        case SILU: {
            float gate = sigmoid_of(v);
            return dy * (gate * (1 + v * (1 - gate)));
        }
        case SOFTPLUS: return dy * sigmoid_of(p * v);
        default: return dy;
    }
}

// The sum of a number of every thread of the block, in the same order on every run; all threads
// get it. `room` is shared memory for 32 numbers.
template <class T>
__device__ inline T block_sum(T value, T *room) {
    for (int away = 16; away > 0; away /= 2) value += __shfl_xor_sync(0xffffffffu, value, away);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0;
    for (int warp = 0; warp < (int)blockDim.x / 32; warp++) value += room[warp];
    __syncthreads();
    return value;
}

// Number `i` of the stream of a key: tinyconv.random.bits, SplitMix64.
__device__ inline unsigned long long random_bits(unsigned long long key, unsigned long long i) {
    unsigned long long z = key + (i + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// Matrix products.
//
// A block of PRODUCT_THREADS threads makes a tile of C = A B, [M x K] * [K x P] -> [M x P], from
// terms `first` to `last` of the sum. Tiles of A and B pass through shared memory; each thread has
// 4 x 4 elements of C in registers. `a(row, k)` and `b(k, column)` fetch an element, and
// `store(row, column, sum)` takes one; so a convolution is a product whose B is read from the image.
// A_ALONG_K says that neighbouring k of A lie side by side in memory, so that neighbouring threads
// fetch them; B_ALONG_K the same of B.
enum { TILE_M = 32, TILE_P = 64, TILE_K = 16, PRODUCT_THREADS = 128 };

typedef float TileA[TILE_K][TILE_M + 1];  // one more, so that columns lie in different banks
typedef float TileB[TILE_K][TILE_P + 1];

template <bool A_ALONG_K, bool B_ALONG_K, class A, class B, class Store>
__device__ inline void tiled_product(
    int M, int P, int first, int last, TileA &tile_a, TileB &tile_b, A a, B b, Store store) {
    int t = threadIdx.x, tx = t % 16, ty = t / 16;
    int row0 = blockIdx.y * TILE_M, column0 = blockIdx.x * TILE_P;
    float sums[4][4] = {};
    for (int k0 = first; k0 < last; k0 += TILE_K) {
        for (int e = t; e < TILE_M * TILE_K; e += PRODUCT_THREADS) {
            int m = A_ALONG_K ? e / TILE_K : e % TILE_M, k = A_ALONG_K ? e % TILE_K : e / TILE_M;
            bool inside = row0 + m < M && k0 + k < last;
            tile_a[k][m] = inside ? a(row0 + m, k0 + k) : 0.0f;
        }
        for (int e = t; e < TILE_P * TILE_K; e += PRODUCT_THREADS) {
            int p = B_ALONG_K ? e / TILE_K : e % TILE_P, k = B_ALONG_K ? e % TILE_K : e / TILE_P;
            bool inside = column0 + p < P && k0 + k < last;
            tile_b[k][p] = inside ? b(k0 + k, column0 + p) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < TILE_K; k++) {
            float row[4], column[4];
#pragma unroll
            for (int i = 0; i < 4; i++) row[i] = tile_a[k][ty + 8 * i];
#pragma unroll
            for (int j = 0; j < 4; j++) column[j] = tile_b[k][tx + 16 * j];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sums[i][j] += row[i] * column[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int row = row0 + ty + 8 * i, column = column0 + tx + 16 * j;
            if (row < M && column < P) store(row, column, sums[i][j]);
        }
}

// Terms of a sum of K of which each of `parts` blocks takes as many: whole tiles.
__device__ inline int terms_of_part(int K, int parts) {
    return ((K + parts - 1) / parts + TILE_K - 1) / TILE_K * TILE_K;
}
