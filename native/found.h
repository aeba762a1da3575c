// The pairs that the threads of a pass find, in the order of their rows.
#pragma once

#include <algorithm>
#include <mutex>
#include <vector>

#include "pass.h"

namespace stepfit {

class Sorted final : public Found {
 public:
  void add(const Near* pairs, int64_t count) override {
    if (!count) return;
    const std::lock_guard<std::mutex> lock(adding_);
    parts_.emplace_back(pairs, pairs + count);
  }

  // What was added, once the pass has ended.
  std::vector<Near> pairs() {
    std::stable_sort(parts_.begin(), parts_.end(),
                     [](const auto& a, const auto& b) { return a.front().row < b.front().row; });
    std::vector<Near> all;
    for (const std::vector<Near>& part : parts_) all.insert(all.end(), part.begin(), part.end());
    return all;
  }

 private:
  std::mutex adding_;
  std::vector<std::vector<Near>> parts_;
};

}  // namespace stepfit
