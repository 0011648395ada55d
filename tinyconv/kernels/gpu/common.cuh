// What several families of kernels use: activations, sums over a block.
//
// Everything is float and channels come first, (N, C, D, H, W), as in tinyconv.ops; missing axes
// have size 1. KERNEL(name) begins a kernel; sizes that never change in a plan are macros, listed
// at the top of each file.

// In the order of tinyconv.kernels.activations.NAMES.
enum { IDENTITY, RELU, SIGMOID, TANH, SCALED_TANH, LEAKY_RELU, ELU, GELU, GELU_TANH, SILU, SOFTPLUS };

enum { THREADS = 256 };  // of a block, where nothing else is said

#define AMPLITUDE 1.7159f
#define STEEPNESS (2.0f / 3.0f)
// Of GELU without the error function: 2 sqrt(2 / pi) (z + 0.044715 z^3), each factor as a number and
// what is left of it. GATE has few bits, so that GATE + CUBE z^2 less GATE is exact.
#define GATE 1.595768928527832f
#define GATE_LOW 1.930779e-7f
#define CUBE 0.0713548139f
#define CUBE_LOW 2.398832e-9f

// 1 / (1 + exp(-x - rest)); the rest is what rounding took from x.
__device__ inline float sigmoid_of(float x, float rest = 0.0f) {
    float e = expf(-fabsf(x)) * (1.0f + (x < 0 ? rest : -rest));  // never overflows
    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

// The argument is in two parts, as exp would multiply its rounding. Beyond 11 the gate is 0 or 1.
__device__ inline float gate_by_tanh(float z) {
    z = z > 11.0f ? 11.0f : z < -11.0f ? -11.0f : z;
    float square = z * z, factor = fmaf(CUBE, square, GATE), whole = z * factor;
    float rest = fmaf(CUBE, square, GATE - factor) + fmaf(CUBE_LOW, square, GATE_LOW);
    rest += CUBE * fmaf(z, z, -square);
    return sigmoid_of(whole, fmaf(z, rest, fmaf(z, factor, -whole)));
}

// exp(-z^2 / 2) / sqrt(2 pi), with what rounding takes from the square.
__device__ inline float normal_density(float z) {
    float size = fminf(fabsf(z), 20.0f), square = size * size;
    float y = 0.39894228f * expf(-0.5f * square);
    return fmaf(y, -0.5f * fmaf(size, size, -square), y);
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
        case GELU: return z * normcdff(z);
        case GELU_TANH: return z * gate_by_tanh(z);
        case SILU: return z * sigmoid_of(z);
        case SOFTPLUS: return (z < 0 ? 0.0f : z) + log1pf(expf(-fabsf(p * z))) / p;
        default: return z;
    }
}

// dz = dy f'(z). v is y = f(z), or z itself if the slope needs that.
__device__ inline float deactivate(int kind, float dy, float v, float p) {
    switch (kind) {
        case RELU: return v <= 0 ? 0.0f : dy;
        case SIGMOID: return dy * v * (1 - v);
        case TANH: return dy * (1 - v * v);
        case SCALED_TANH: return dy * (STEEPNESS * (AMPLITUDE - v * v / AMPLITUDE));
        case LEAKY_RELU: return v > 0 ? dy : p * dy;
        case ELU: return v > 0 ? dy : dy * (p * expf(v));
        case GELU: return dy * (normcdff(v) + v * normal_density(v));
        case GELU_TANH: {
            float gate = gate_by_tanh(v);
            float change = v * (gate * (1 - gate));  // which is 0 where a square is not finite
            return dy * (gate + (GATE * change + 3 * CUBE * (v * (v * change))));
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
// A block of PRODUCT_THREADS threads makes a tile of C = A B, [M x K] * [K x P] -> [M x P]. Tiles of
// A and B pass through shared memory; each thread has 4 x 4 elements of C in registers. `a(row, k)`
// and `b(k, column)` fetch an element; so a convolution is a product whose B is read from the image.
// a_along_k says that neighbouring k of A lie side by side in memory, so that neighbouring threads
// fetch them; b_along_k the same of B.
//
// Where a block a tile would leave the device idle, each of `parts` blocks makes a part of the sums,
// and the last of them to end adds these up, always in the same order: every run gives the same bits.
enum { TILE_M = 32, TILE_P = 64, TILE_K = 16, PRODUCT_THREADS = 128 };

// As many blocks as there may be of a product of several parts.
enum { MOST_BLOCKS = 264 };

// Where they leave their parts, and how many have: tinyconv.engines.gpu.step.Product.
struct Parts {
    int arrived[MOST_BLOCKS];  // zeros before and after each launch
    float sums[MOST_BLOCKS][TILE_M * TILE_P];
};

// Shared memory of a product. One more column, so that those of a row lie in different banks.
struct Room {
    union {
        struct {
            float a[TILE_K][TILE_M + 1], b[TILE_K][TILE_P + 1];
        } terms;
        float c[TILE_M][TILE_P + 1];
    };
    double sums[32];
    bool is_last;
};

// M, P and K of each of several groups; tiles have `used` columns.
struct Product {
    int M, P, K, groups, parts, used;
    __device__ int rows() const { return (M + TILE_M - 1) / TILE_M; }
    __device__ int columns() const { return (P + used - 1) / used; }
    __device__ int blocks() const { return groups * rows() * columns() * parts; }
};

// The tile of a block, and its part of the sums: rows and columns from `row` and `column` on.
struct Tile {
    int number, part, group, row, column;
    __device__ Tile(const Product &p, int block)
        : number(block / p.parts),
          part(block % p.parts),
          group(number / p.columns() / p.rows()),
          row(number / p.columns() % p.rows() * TILE_M),
          column(number % p.columns() * p.used) {}
};

// Whether the calling block is the last of `count` that come here; all its threads get the answer,
// and what the others wrote before is there to read.
__device__ inline bool is_last_of(int count, int *arrived, bool &shared) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        shared = atomicAdd(arrived, 1) == count - 1;
        if (shared) *arrived = 0;
    }
    __syncthreads();
    __threadfence();
    return shared;
}

// Puts a tile of a product into room.c; returns whether it is there, which it is in one block of all
// that make a part of it.
template <class A, class B>
__device__ inline bool tiled_product(const Product &p, const Tile &tile, Parts *parts, Room &room,
                                     bool a_along_k, bool b_along_k, A a, B b) {
    int t = threadIdx.x, tx = t % 16, ty = t / 16;
    int terms = ((p.K + p.parts - 1) / p.parts + TILE_K - 1) / TILE_K * TILE_K;  // whole tiles
    int first = min(tile.part * terms, p.K), last = min(first + terms, p.K);
    float sums[4][4] = {};
    for (int k0 = first; k0 < last; k0 += TILE_K) {
        for (int e = t; e < TILE_M * TILE_K; e += PRODUCT_THREADS) {
            int m = a_along_k ? e / TILE_K : e % TILE_M, k = a_along_k ? e % TILE_K : e / TILE_M;
            bool inside = tile.row + m < p.M && k0 + k < last;
            room.terms.a[k][m] = inside ? a(tile.row + m, k0 + k) : 0.0f;
        }
        for (int e = t; e < TILE_P * TILE_K; e += PRODUCT_THREADS) {
            int c = b_along_k ? e / TILE_K : e % TILE_P, k = b_along_k ? e % TILE_K : e / TILE_P;
            bool inside = c < p.used && tile.column + c < p.P && k0 + k < last;
            room.terms.b[k][c] = inside ? b(k0 + k, tile.column + c) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < TILE_K; k++) {
            float row[4], column[4];
#pragma unroll
            for (int i = 0; i < 4; i++) row[i] = room.terms.a[k][ty + 8 * i];
#pragma unroll
            for (int j = 0; j < 4; j++) column[j] = room.terms.b[k][tx + 16 * j];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sums[i][j] += row[i] * column[j];
        }
        __syncthreads();
    }
    if (p.parts > 1) {
        float *own = parts->sums[tile.number * p.parts + tile.part];
#pragma unroll
        for (int e = 0; e < 16; e++) own[e * PRODUCT_THREADS + t] = sums[e / 4][e % 4];
        if (!is_last_of(p.parts, &parts->arrived[tile.number], room.is_last)) return false;
        const float *all = parts->sums[tile.number * p.parts];
#pragma unroll
        for (int e = 0; e < 16; e++) {
            float sum = 0;
            for (int part = 0; part < p.parts; part++)
                sum += all[(part * 16 + e) * PRODUCT_THREADS + t];
            sums[e / 4][e % 4] = sum;
        }
    }
#pragma unroll
    for (int e = 0; e < 16; e++) room.c[ty + 8 * (e / 4)][tx + 16 * (e % 4)] = sums[e / 4][e % 4];
    __syncthreads();
    return true;
}

// Calls `store` for every `side` neighbouring columns of the tile in room.c, with their row, the
// number of the first of them over `side`, and their sums; along_m: results of neighbouring rows lie
// side by side in memory.
template <class Store>
__device__ inline void for_sums(const Product &p, const Tile &tile, Room &room, bool along_m,
                                int side, Store store) {
    int groups = TILE_P / side;
    for (int e = threadIdx.x; e < TILE_M * groups; e += PRODUCT_THREADS) {
        int m = along_m ? e % TILE_M : e / groups, c = (along_m ? e / TILE_M : e % groups) * side;
        if (tile.row + m < p.M && tile.column + c < p.P)
            store(tile.row + m, (tile.column + c) / side, &room.c[m][c]);
    }
}

// What is read as the network's input: an array of images, or the batch where it lies in the data.
// `sources` holds addresses, so that other data need no other graph: of the samples, of their
// targets, and of the order (int64) in which an epoch takes them; the batch begins at `place` of it.
// `gather`: 0 for an array, 1 for data in floats, 2 for pixels, of which the numbers are byte / 255.
struct Images {
    int gather, size;  // of a sample
    const void *values;
    const long long *order;
    __device__ Images(int gather, int size, const float *x, const unsigned long long *sources,
                      const long long *place)
        : gather(gather),
          size(size),
          values(gather ? (const void *)sources[0] : x),
          order(gather ? (const long long *)sources[2] + *place : nullptr) {}
    // Number i of sample n.
    __device__ float at(int n, int i) const {
        if (gather == 0) return ((const float *)values)[n * size + i];
        long long j = order[n] * size + i;
        return gather == 1 ? ((const float *)values)[j] : ((const unsigned char *)values)[j] / 255.0f;
    }
};
