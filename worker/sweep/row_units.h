#ifndef QSWEEP_WORKER_SWEEP_ROW_UNITS_H_
#define QSWEEP_WORKER_SWEEP_ROW_UNITS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qsweep {

// Which documents one thread takes through a layer together. Products take
// `step` rows at a time, so a unit costs its rows rounded up to a multiple of
// that: units are filled, the longest documents first, each into the unit that
// it leaves the least room in.
//
// document_rows: of each document, above 0. capacity: rows of a unit, a
// multiple of step; a longer document has one of its own, which others may
// fill up to the next multiple. Returns indices of document_rows, each once; no
// unit is empty. Pure; takes n log n.
std::vector<std::vector<size_t>> PackUnits(
    std::span<const int64_t> document_rows, int64_t capacity, int64_t step);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_SWEEP_ROW_UNITS_H_
