// The answer itself: squared distances in float64, added in the order t = 0..d-1, each operation rounded once.
#pragma once

#include "lanes.h"

namespace stepfit::STEPFIT_LEVEL {

// The nearest of the centers candidate(0) < candidate(1) < ..., on a tie the lowest.
template <class Candidate>
static int32_t settle(const double* x, const double* centers, int64_t d, int64_t count, Candidate candidate) {
  constexpr int at_once = 4;  // each sum waits for its last addition, so a few are made side by side
  int32_t nearest = 0;
  double least = 0;
  for (int64_t first = 0; first < count; first += at_once) {
    const double* center[at_once];
    double sum[at_once] = {};
    for (int i = 0; i < at_once; ++i) {
      center[i] = centers + candidate(first + i < count ? first + i : count - 1) * d;
    }
    for (int64_t t = 0; t < d; ++t) {
      for (int i = 0; i < at_once; ++i) {
        const double difference = x[t] - center[i][t];
        sum[i] += difference * difference;
      }
    }
    for (int i = 0; i < at_once && first + i < count; ++i) {
      if (first + i == 0 || sum[i] < least) {
        least = sum[i];
        nearest = int32_t(candidate(first + i));
      }
    }
  }
  return nearest;
}

}  // namespace stepfit::STEPFIT_LEVEL
