#ifndef QSWEEP_COORDINATOR_ANALYSIS_PLAIN_COLUMNS_H_
#define QSWEEP_COORDINATOR_ANALYSIS_PLAIN_COLUMNS_H_

#include "coordinator/analysis/panel.h"
#include "coordinator/analysis/unit_table.h"

namespace qsweep::analysis {

// What needs no resampling: totals, flags, KL, the earlier work's columns.

// Totals, status and flags of a language over the used units.
LanguageResult SummarizeLanguage(const PanelInput& panel,
                                 const UnitTable& table, int language);

// Fills the flags and plain columns of every cell of a configuration, and of
// the configuration itself. languages: already summarized.
void FillPlainColumns(const PanelInput& panel, const UnitTable& table,
                      const std::vector<LanguageResult>& languages,
                      RefRule ref_rule, int configuration,
                      ConfigurationResult& result);

// Adds a flag once, keeping the list sorted.
void AddFlag(std::vector<std::string>& flags, const std::string& flag);

}  // namespace qsweep::analysis

#endif  // QSWEEP_COORDINATOR_ANALYSIS_PLAIN_COLUMNS_H_
