// Threads live as long as a pass: a pool would spin beside torch's, and would be missing after a fork.
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace stepfit {

bool run(Pass& pass, int64_t rows, int threads, const std::function<bool()>& interrupted) {
  using Clock = std::chrono::steady_clock;
  constexpr auto patience = std::chrono::milliseconds(20);
  const int64_t block = pass.block_rows();
  std::atomic<int64_t> next{0};
  std::atomic<bool> stopped{false};

  const auto work_on = [&](int thread) {
    const int64_t first = next.fetch_add(block);
    if (first >= rows || stopped) return false;
    pass.work(thread, first, std::min(first + block, rows));
    return true;
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) {
    others.emplace_back([&work_on, i] { while (work_on(i)) {} });
  }
  for (auto asked = Clock::now(); work_on(0);) {
    if (Clock::now() - asked < patience) continue;
    if (interrupted()) stopped = true;
    asked = Clock::now();
  }
  for (auto& other : others) other.join();
  return !stopped;
}

}  // namespace stepfit
