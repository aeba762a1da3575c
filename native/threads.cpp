// Threads live as long as a pass: a pool would spin beside torch's, and would be missing after a fork.
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

namespace stepfit {
namespace {

// What the threads of a pass share. It outlives the pass where one of them starts when all is done: nobody waits for that.
struct Shared {
  Pass& pass;
  const int64_t rows, block;
  std::atomic<int64_t> next{0};
  std::atomic<int> busy{0};  // threads that may be at the pass
  std::atomic<bool> stopped{false};

  Shared(Pass& given, int64_t n) : pass(given), rows(n), block(given.block_rows()) {}

  bool work(int thread) {
    if (stopped) return false;
    const int64_t first = next.fetch_add(block);
    if (first >= rows) return false;
    pass.work(thread, first, std::min(first + block, rows));
    return true;
  }

  // Return when all that was begun is done. To be woken takes about as long as the last blocks do.
  void wait() {
    constexpr int patience = 1 << 12;  // looks, some dozens of microseconds
    for (int i = 0; i < patience && busy; ++i) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    for (int others; (others = busy);) busy.wait(others);
  }
};

}  // namespace

bool run(Pass& pass, int64_t rows, int threads, const std::function<bool()>& interrupted) {
  using Clock = std::chrono::steady_clock;
  constexpr auto patience = std::chrono::milliseconds(20);
  const auto shared = std::make_shared<Shared>(pass, rows);
  for (int i = 1; i < threads; ++i) {
    std::thread([shared, i] {
      ++shared->busy;  // before it looks whether there is work: who sees 0 later knows that it found none
      while (shared->work(i)) {}
      --shared->busy;
      shared->busy.notify_one();
    }).detach();
  }
  for (auto asked = Clock::now(); shared->work(0);) {
    if (Clock::now() - asked < patience) continue;
    if (interrupted()) shared->stopped = true;
    asked = Clock::now();
  }
  shared->wait();
  return !shared->stopped;
}

}  // namespace stepfit
