#include "common/job/layer_set.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/did_you_mean.h"
#include "common/job/layer_set_components.h"
#include "common/job/quantizer.h"

namespace qsweep {
namespace {

using Layers = LayerSet::Layers;
using Item = LayerSet::Item;

constexpr size_t kLongestText = 100'000;
constexpr int kLargestIndex = 1'000'000;

absl::Status GrammarError(size_t position, absl::string_view message,
                          absl::string_view hint = "") {
  return MakeError(kBadSelector,
                   absl::StrCat(message, " at position ", position + 1), "",
                   hint);
}

// Reads one item; offsets are into the whole selector.
class ItemParser {
 public:
  ItemParser(absl::string_view text, size_t offset)
      : text_(text), offset_(offset) {}

  absl::StatusOr<Item> Parse() {
    Item item;
    const size_t colon = text_.find(':');
    const absl::string_view target = text_.substr(0, colon);
    if (target.empty()) {
      return GrammarError(offset_, "a layer or a component is missing");
    }
    if (LooksLikeLayers(target)) {
      QSWEEP_ASSIGN_OR_RETURN(item.layers, ParseLayers(0, target));
    } else {
      QSWEEP_RETURN_IF_ERROR(ParseComponentTarget(target, item));
    }
    if (colon != absl::string_view::npos) {
      QSWEEP_RETURN_IF_ERROR(ParsePrecision(colon + 1, item));
    }
    return item;
  }

 private:
  static bool LooksLikeLayers(absl::string_view text) {
    if (text == "even" || text == "odd") {
      return true;
    }
    return text.size() > 1 && (text[0] == 'L' || text[0] == 'l') &&
           (absl::ascii_isdigit(text[1]) || text[1] == '-');
  }

  absl::Status ParseComponentTarget(absl::string_view target, Item& item) {
    const size_t at = target.find('@');
    const absl::string_view name = target.substr(0, at);
    const SelectorComponent* component = FindSelectorComponent(name);
    if (component == nullptr) {
      std::vector<std::string> known = SelectorComponentNames();
      known.insert(known.end(), {"none", "all", "even", "odd"});
      return MakeError(
          kUnknownComponent,
          absl::StrCat("there is no component \"", name, "\" (position ",
                       offset_ + 1, ")"),
          "",
          ClosestMatch(name, known)
              ? DidYouMeanHint(name, known)
              : "Layers are written L0, L0-3, L-1, L75%, even, odd; "
                "components attn, mlp, norm, bias, embed, head; the largest "
                "weights top5%.");
    }
    item.component = component->name;
    if (at == absl::string_view::npos) {
      return absl::OkStatus();
    }
    if (!component->in_blocks) {
      return GrammarError(offset_ + at,
                          absl::StrCat(name, " is outside the layers: \"@\""));
    }
    const absl::string_view layers = target.substr(at + 1);
    if (!LooksLikeLayers(layers)) {
      return GrammarError(offset_ + at + 1, "layers are missing after \"@\"",
                          "Write them like attn@L0 or mlp@L3-5.");
    }
    QSWEEP_ASSIGN_OR_RETURN(item.layers, ParseLayers(at + 1, layers));
    return absl::OkStatus();
  }

  absl::StatusOr<Layers> ParseLayers(size_t start, absl::string_view text) {
    Layers layers;
    if (text == "even" || text == "odd") {
      layers.kind = text == "even" ? Layers::Kind::kEven : Layers::Kind::kOdd;
      return layers;
    }
    if (text[0] == 'l') {
      return GrammarError(offset_ + start, "layers take a capital L",
                          absl::StrCat("Write L", text.substr(1), "."));
    }
    size_t position = 1;
    QSWEEP_ASSIGN_OR_RETURN(layers.first, ParseIndex(start, text, position));
    layers.last = layers.first;
    layers.kind = Layers::Kind::kRange;
    if (position < text.size() && text[position] == '%') {
      if (layers.first < 0 || layers.first > 100) {
        return GrammarError(offset_ + start, "a depth is 0% to 100%:");
      }
      layers.kind = Layers::Kind::kPercent;
      layers.percent = std::exchange(layers.first, 0);
      layers.last = 0;
      ++position;
    } else if (position < text.size() && text[position] == '-') {
      ++position;
      QSWEEP_ASSIGN_OR_RETURN(layers.last, ParseIndex(start, text, position));
      // A range across the sign, "L0--2", is checked once the model is known.
      if ((layers.first < 0) == (layers.last < 0) &&
          layers.first > layers.last) {
        return GrammarError(offset_ + start, "the range runs backwards");
      }
    }
    if (position != text.size()) {
      return GrammarError(
          offset_ + start + position,
          absl::StrCat("\"", text.substr(position), "\" is not expected"),
          "Join items with \"+\".");
    }
    return layers;
  }

  // A number, possibly negative, at text[position]; moves position past it.
  absl::StatusOr<int> ParseIndex(size_t start, absl::string_view text,
                                 size_t& position) {
    size_t end = position;
    if (end < text.size() && text[end] == '-') {
      ++end;
    }
    while (end < text.size() && absl::ascii_isdigit(text[end])) {
      ++end;
    }
    int index = 0;
    if (!absl::SimpleAtoi(text.substr(position, end - position), &index) ||
        index > kLargestIndex || index < -kLargestIndex) {
      return GrammarError(offset_ + start + position,
                          "a layer number is missing or too large");
    }
    position = end;
    return index;
  }

  absl::Status ParsePrecision(size_t start, Item& item) {
    const absl::string_view text = text_.substr(start);
    if (text == "fp") {
      return absl::OkStatus();
    }
    int bits = 0;
    if (text.substr(0, 3) != "int" ||
        !absl::SimpleAtoi(text.substr(3), &bits)) {
      return GrammarError(offset_ + start,
                          absl::StrCat("\"", text, "\" is no precision"),
                          "Write :fp, or :int8 for another number of bits.");
    }
    if (bits < 2 || bits > 8) {
      return MakeError(
          kUnsupportedBits,
          absl::StrCat("int", bits, " is not supported (choose int2 to int8)"));
    }
    item.bits = bits;
    return absl::OkStatus();
  }

  absl::string_view text_;
  size_t offset_;
};

// "top5%" and the like, or an attempt at it.
bool LooksLikeTop(absl::string_view text) {
  return text.size() > 3 && text.substr(0, 3) == "top" &&
         (absl::ascii_isdigit(text[3]) || text[3] == '.' || text[3] == '-');
}

// Millionths of "top0.25%".
absl::StatusOr<int> ParseTop(absl::string_view text, size_t offset) {
  constexpr char kHint[] =
      "Write it like top5% or top0.25%: above 0, below 100, with at most four "
      "decimals.";
  const absl::string_view number = text.substr(3);
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(
      number.substr(0, number.find('%')), absl::MaxSplits('.', 1));
  const absl::string_view decimals = parts.second;
  const std::string digits =
      absl::StrCat(parts.first, decimals,
                   std::string(4 - std::min<size_t>(decimals.size(), 4), '0'));
  int millionths = 0;
  if (number.find('%') != number.size() - 1 || decimals.size() > 4 ||
      digits.size() > 8 ||
      !std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(digits, &millionths) || millionths < 1 ||
      millionths >= 1'000'000) {
    return GrammarError(
        offset, absl::StrCat("\"", text, "\" is no share of the weights"),
        kHint);
  }
  return millionths;
}

std::string FormatLayersPart(const Layers& layers) {
  switch (layers.kind) {
    case Layers::Kind::kEvery:
      return "";
    case Layers::Kind::kEven:
      return "even";
    case Layers::Kind::kOdd:
      return "odd";
    case Layers::Kind::kPercent:
      return absl::StrCat("L", layers.percent, "%");
    case Layers::Kind::kRange:
      break;
  }
  return layers.first == layers.last
             ? absl::StrCat("L", layers.first)
             : absl::StrCat("L", layers.first, "-", layers.last);
}

}  // namespace

std::string LayerSet::Item::text() const {
  std::string text = component;
  const std::string where = FormatLayersPart(layers);
  if (!component.empty() && !where.empty()) {
    text += "@";
  }
  text += where;
  if (bits) {
    absl::StrAppend(&text, ":int", *bits);
  }
  return text;
}

absl::StatusOr<LayerSet> LayerSet::Parse(absl::string_view text) {
  LayerSet set;
  if (text.size() > kLongestText) {
    return MakeError(kBadSelector, absl::StrCat("the layer set is longer than ",
                                                kLongestText, " bytes"));
  }
  const absl::string_view stripped = absl::StripAsciiWhitespace(text);
  if (stripped.empty()) {
    return MakeError(kBadSelector, "the layer set is empty", "",
                     "Write \"none\" to protect nothing.");
  }
  if (stripped == "none" || stripped == "all") {
    set.all_ = stripped == "all";
    set.text_ = std::string(stripped);
    return set;
  }
  std::vector<std::string> texts;
  size_t offset = 0;
  for (const absl::string_view part : absl::StrSplit(text, '+')) {
    const absl::string_view item_text = absl::StripAsciiWhitespace(part);
    const size_t start =
        offset + part.size() - absl::StripLeadingAsciiWhitespace(part).size();
    const absl::string_view name = item_text.substr(0, item_text.find(':'));
    if (name == "none" || name == "all") {
      return GrammarError(start, absl::StrCat(name, " stands alone, found"));
    }
    offset += part.size() + 1;
    if (LooksLikeTop(item_text)) {
      if (set.kept_millionths_ != 0) {
        return GrammarError(start, "a second share of the largest weights",
                            "Name one: top5%.");
      }
      QSWEEP_ASSIGN_OR_RETURN(set.kept_millionths_, ParseTop(item_text, start));
      continue;
    }
    QSWEEP_ASSIGN_OR_RETURN(Item item, ItemParser(item_text, start).Parse());
    texts.push_back(item.text());
    set.items_.push_back(std::move(item));
  }
  if (set.kept_millionths_ != 0) {
    texts.push_back(KeptShareText(set.kept_millionths_));
  }
  set.text_ = absl::StrJoin(texts, "+");
  return set;
}

std::string FormatLayers(const std::set<int>& layers) {
  std::vector<std::string> parts;
  for (auto it = layers.begin(); it != layers.end();) {
    const int first = *it;
    int last = first;
    while (++it != layers.end() && *it == last + 1) {
      last = *it;
    }
    parts.push_back(first == last ? absl::StrCat("L", first)
                                  : absl::StrCat("L", first, "-", last));
  }
  return parts.empty() ? "none" : absl::StrJoin(parts, "+");
}

}  // namespace qsweep
