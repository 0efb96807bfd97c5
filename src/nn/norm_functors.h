// GroupNorm on a GPU, in two passes over x [B, C, T, H, W] with the channels innermost in memory: functors of which
// neither needs another lane's work. They run on the CPU as well, where they are tested.
//
// A lane has eight channels, always the same, of every so manieth pixel of a row: the work of the lanes 0 to
// kLanes - 1, in any order, makes a slice or a row. This file includes neither ATen nor CUDA.
#pragma once

#include "nn/fused_functors.h"

namespace opensora::nn {

// Elements from one item, frame or row to the next; a row's W * C elements follow each other.
struct PixelStrides {
  int64_t batch, frame, row;
};

// Which channels and pixels of a row are a lane's.
struct PixelLane {
  static constexpr int kLanes = 256;
  static constexpr int kMostChannels = kLanes * 8;

  int channel;      // the first of eight
  int first, step;  // pixels
  bool has_work;    // false: lanes are left over

  // How many pixels the lanes take at once.
  OPENSORA_KERNEL static int pixels_at_once(int channels) { return kLanes * 8 / channels; }

  OPENSORA_KERNEL static PixelLane of(int lane, int channels) {
    const int eights = channels / 8, pixels = pixels_at_once(channels);
    return {.channel = lane % eights * 8, .first = lane / eights, .step = pixels, .has_work = lane / eights < pixels};
  }
};

// y / (1 + e^-y)
OPENSORA_KERNEL inline float silu_of(float y) { return quotient(y, 1.0F + exponential(-y)); }

// How many values there were, their mean, and the sum of squared differences from it.
struct MomentsOfPart {
  float count, mean, squares;

  // Chan's formula for two sets of the same size.
  OPENSORA_KERNEL void merge_equal(float other_mean, float other_squares) {
    const float delta = other_mean - mean;
    mean += 0.5F * delta;
    squares += other_squares + 0.5F * count * delta * delta;
    count *= 2;
  }
};

// The moments of parts of x, which the caller joins: parts[b][slice][pixels][part of C].
//
// A slice has `rows_a_slice` of the T * H rows of an item. A part is a lane's `part_width` neighbouring channels, all
// of one group: 1, 2, 4 or 8.
template <typename T>
struct PartMoments {
  const T* x;
  MomentsOfPart* parts;
  PixelStrides strides;
  int64_t items;                   // B
  int channels, width, height;     // C, W, H
  int rows, rows_a_slice, slices;  // T * H
  int part_width;

  OPENSORA_KERNEL void operator()(int64_t b, int slice, int lane) const {
    const PixelLane mine = PixelLane::of(lane, channels);
    if (!mine.has_work) return;
    constexpr int kCount = Eight<T>::kCount;
    MomentsOfPart moments[kCount] = {};
    float count = 0;
    const int begin = slice * rows_a_slice, end = begin + rows_a_slice < rows ? begin + rows_a_slice : rows;
    for (int i = begin; i < end; ++i) {
      const T* row = x + b * strides.batch + i / height * strides.frame + i % height * strides.row + mine.channel;
      for (int pixel = mine.first; pixel < width; pixel += mine.step) {
        const Eight<T> values = load_eight(row + int64_t{pixel} * channels);
        const float share = quotient(1.0F, ++count);
        OPENSORA_UNROLLED
        for (int e = 0; e < kCount; ++e) add(moments[e], static_cast<float>(values.values[e]), share);
      }
    }
    OPENSORA_UNROLLED
    for (int e = 0; e < kCount; ++e) moments[e].count = count;
    const int64_t place = ((b * slices + slice) * mine.step + mine.first) * (channels / part_width);
    write(moments, parts + place + mine.channel / part_width);
  }

  // Welford's method; `share`: of the value among those so far.
  OPENSORA_KERNEL static void add(MomentsOfPart& moments, float value, float share) {
    const float delta = value - moments.mean;
    moments.mean += delta * share;
    moments.squares += delta * (value - moments.mean);
  }

  // Joins neighbouring channels until there is one a part.
  OPENSORA_KERNEL void write(MomentsOfPart (&moments)[8], MomentsOfPart* to) const {
    OPENSORA_UNROLLED
    for (int joined = 1; joined < 8; joined *= 2) {
      if (joined >= part_width) break;
      OPENSORA_UNROLLED
      for (int e = 0; e < 8; e += 2 * joined)
        moments[e].merge_equal(moments[e + joined].mean, moments[e + joined].squares);
    }
    OPENSORA_UNROLLED
    for (int e = 0; e < 8; ++e) {
      if (e % part_width == 0) to[e / part_width] = moments[e];
    }
  }
};

// out = x * scale + shift, or silu() of it. x and out may be the same, or rows that lie apart.
template <typename T>
struct AffineOfPixels {
  T* out;
  const T* x;
  const float *scale, *shift;  // [B, C]
  PixelStrides out_strides, x_strides;
  int64_t items, frames;        // B, T
  int channels, width, height;  // C, W, H
  bool with_silu;

  // Of the row h of a frame.
  OPENSORA_KERNEL void operator()(int64_t b, int64_t t, int64_t h, int lane) const {
    const PixelLane mine = PixelLane::of(lane, channels);
    if (!mine.has_work) return;
    const Eight<float> scales = load_eight(scale + b * channels + mine.channel);
    const Eight<float> shifts = load_eight(shift + b * channels + mine.channel);
    const T* row = x + b * x_strides.batch + t * x_strides.frame + h * x_strides.row + mine.channel;
    T* result = out + b * out_strides.batch + t * out_strides.frame + h * out_strides.row + mine.channel;
    for (int pixel = mine.first; pixel < width; pixel += mine.step) {
      Eight<T> values = load_eight(row + int64_t{pixel} * channels);
      OPENSORA_UNROLLED
      for (int e = 0; e < Eight<T>::kCount; ++e) {
        const float y = static_cast<float>(values.values[e]) * scales.values[e] + shifts.values[e];
        store(values.values[e], with_silu ? silu_of(y) : y);
      }
      store_eight(result + int64_t{pixel} * channels, values);
    }
  }
};

}  // namespace opensora::nn
