// Runs CUDA kernels on the CPU, for tests: enough of the language for tinyconv's kernels.
//
// Blocks run one after the other. The threads of a block are fibers on stacks of their own, and
// each runs until it meets a barrier. Shared memory is full of NaN (of -1 in integers) when a block
// begins. Threads and blocks may run from the last to the first, which shows what a missing barrier
// hides: bit 0 of `order` turns the threads round, bit 1 the blocks.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>

#define __device__
#define __shared__ static __attribute__((section("shared")))
#define KERNEL(name) extern "C" void name
#define __shfl_xor_sync(mask, value, away) emulated::shuffle(mask, value, emulated::lane() ^ (away))
#define __shfl_down_sync(mask, value, away) emulated::shuffle(mask, value, emulated::lane() + (away))
#define __shfl_sync(mask, value, from) emulated::shuffle(mask, value, from)
#define __ballot_sync(mask, predicate) emulated::ballot(mask, predicate)
#define __syncthreads() emulated::pause(emulated::AT_BLOCK_BARRIER)
#define __threadfence()
#define __syncwarp() emulated::pause(emulated::AT_WARP_BARRIER)

using std::max;
using std::min;

struct Dim3 {
    unsigned x, y, z;
};
static Dim3 threadIdx, blockIdx, blockDim, gridDim;

// The linker's names of the ends of the section.
extern char __start_shared[] __attribute__((visibility("hidden"), weak));
extern char __stop_shared[] __attribute__((visibility("hidden"), weak));

inline float normcdff(float x) { return (float)(0.5 * erfc(-x * M_SQRT1_2)); }

inline int atomicAdd(int *place, int value) { return std::exchange(*place, *place + value); }
inline int atomicMax(int *place, int value) { return std::exchange(*place, max(*place, value)); }
inline int atomicOr(int *place, int value) { return std::exchange(*place, *place | value); }

namespace emulated {

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };
enum { MOST_THREADS = 1024, STACK = 64 << 10 };

struct Fiber {
    State state;
    bool begun;
    ucontext_t context;
    jmp_buf place;
    double sent;  // what the thread shows the others of its warp
};
static Fiber fibers[MOST_THREADS];
static ucontext_t scheduler;
static jmp_buf scheduler_place;
static int current, threads;
static std::function<void()> body;
static const char *fault;

// Contexts can be watched by AddressSanitizer; jumps take a tenth of their time.
inline void pause(State state) {
    Fiber &fiber = fibers[current];
    fiber.state = state;
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&fiber.context, &scheduler);
#else
    if (!_setjmp(fiber.place)) _longjmp(scheduler_place, 1);
#endif
}

inline void fiber_main() {
    for (;;) {
        body();
        pause(DONE);
    }
}

inline void resume(int t) {
    Fiber &fiber = fibers[t];
    current = t;
    threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
    bool begun = std::exchange(fiber.begun, true);
    if (!begun) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = malloc(STACK);
        fiber.context.uc_stack.ss_size = STACK;
        makecontext(&fiber.context, fiber_main, 0);
    }
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&scheduler, &fiber.context);
#else
    if (_setjmp(scheduler_place)) return;
    if (begun) _longjmp(fiber.place, 1);
    setcontext(&fiber.context);
#endif
}

inline int lane() { return current % 32; }

template <class T>
T shuffle(unsigned mask, T value, int from) {
    if (mask != 0xffffffffu) fault = "a warp operation of part of a warp";
    memcpy(&fibers[current].sent, &value, sizeof value);
    pause(AT_WARP_BARRIER);
    if (from >= 0 && from < 32)
        memcpy(&value, &fibers[current / 32 * 32 + from].sent, sizeof value);
    pause(AT_WARP_BARRIER);
    return value;
}

inline unsigned ballot(unsigned mask, bool predicate) {
    unsigned votes = 0;
    for (int i = 0; i < 32; i++)
        votes |= (unsigned)shuffle(mask, (int)predicate, i) << i;
    return votes;
}

// Lets go on who has waited for all of `first` to `last`; false if some have not arrived.
inline bool release(int first, int last, State barrier, const char *missed) {
    int waiting = 0;
    for (int t = first; t < last; t++) waiting += fibers[t].state == barrier;
    if (waiting == 0) return false;
    for (int t = first; t < last; t++)
        if (fibers[t].state == DONE) fault = missed;
    if (waiting < last - first) return false;
    for (int t = first; t < last; t++) fibers[t].state = READY;
    return true;
}

inline void run_block(bool reversed) {
    memset(__start_shared, 0xff, __stop_shared - __start_shared);
    for (int t = 0; t < threads; t++) fibers[t].state = READY;
    for (bool going = true; going && !fault;) {
        for (int i = 0; i < threads; i++) {
            int t = reversed ? threads - 1 - i : i;
            if (fibers[t].state == READY) resume(t);
        }
        going = release(0, threads, AT_BLOCK_BARRIER, "a barrier that part of a block misses");
        for (int t = 0; t < threads; t += 32)
            going |= release(t, min(t + 32, threads), AT_WARP_BARRIER,
                             "a warp operation that part of a warp misses");
    }
    for (int t = 0; t < threads; t++)
        if (fibers[t].state != DONE) {
            if (!fault) fault = "threads that wait for each other at different barriers";
            fibers[t].begun = false;  // the fiber stays in the middle of the kernel for ever
        }
}

// Runs a kernel, as cuLaunchKernel does, with addresses of its arguments; returns what went wrong.
// `shape` is the grid and the block.
template <class... Arguments, size_t... I>
const char *launch(void (*kernel)(Arguments...), std::index_sequence<I...>, const unsigned *shape,
                   int order, void **arguments, const int *sizes, int count) {
    const int expected[] = {(int)sizeof(Arguments)...};
    if (count != sizeof...(Arguments)) return "another number of arguments than the kernel has";
    for (int i = 0; i < count; i++)
        if (sizes[i] != expected[i]) return "an argument of another size than the kernel's";
    gridDim = {shape[0], shape[1], shape[2]};
    blockDim = {shape[3], shape[4], shape[5]};
    threads = shape[3] * shape[4] * shape[5];
    if (threads > MOST_THREADS) return "a block of more than 1024 threads";
    body = [=] { kernel(*(Arguments *)arguments[I]...); };
    fault = nullptr;
    unsigned blocks = shape[0] * shape[1] * shape[2];
    for (unsigned i = 0; i < blocks && !fault; i++) {
        unsigned b = order & 2 ? blocks - 1 - i : i;
        blockIdx = {b % gridDim.x, b / gridDim.x % gridDim.y, b / gridDim.x / gridDim.y};
        run_block(order & 1);
    }
    return fault;
}

template <class... Arguments>
const char *launch(void (*kernel)(Arguments...), const unsigned *shape, int order,
                   void **arguments, const int *sizes, int count) {
    return launch(kernel, std::index_sequence_for<Arguments...>(), shape, order, arguments, sizes,
                  count);
}

}  // namespace emulated
