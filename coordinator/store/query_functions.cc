#include "coordinator/store/query_functions.h"

#include <algorithm>
#include <string.h>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"

#include "sqlite3.h"

namespace qsweep {
namespace {

bool AnyNull(int num_args, sqlite3_value** args) {
  return std::any_of(args, args + num_args, [](sqlite3_value* arg) {
    return sqlite3_value_type(arg) == SQLITE_NULL;
  });
}

// Of any type but NULL, as text; valid until the argument is asked for another
// form.
absl::string_view TextOf(sqlite3_value* arg) {
  const unsigned char* text = sqlite3_value_text(arg);
  return text == nullptr
             ? absl::string_view()
             : absl::string_view(
                   static_cast<const char*>(static_cast<const void*>(text)),
                   static_cast<size_t>(sqlite3_value_bytes(arg)));
}

absl::string_view BlobOf(sqlite3_value* arg) {
  const void* bytes = sqlite3_value_blob(arg);
  return bytes == nullptr
             ? absl::string_view()
             : absl::string_view(static_cast<const char*>(bytes),
                                 static_cast<size_t>(sqlite3_value_bytes(arg)));
}

// Linear: glibc's two-way search. npos: not there.
size_t Find(absl::string_view text, absl::string_view part, size_t from) {
  const void* found =
      memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found == nullptr ? absl::string_view::npos
                          : static_cast<size_t>(
                                static_cast<const char*>(found) - text.data());
}

bool Continues(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

void Instr(sqlite3_context* context, int num_args, sqlite3_value** args) {
  if (AnyNull(num_args, args)) {
    return;
  }
  const bool bytes = sqlite3_value_type(args[0]) == SQLITE_BLOB &&
                     sqlite3_value_type(args[1]) == SQLITE_BLOB;
  const absl::string_view text = bytes ? BlobOf(args[0]) : TextOf(args[0]);
  const absl::string_view part = bytes ? BlobOf(args[1]) : TextOf(args[1]);
  const size_t found = part.empty() ? 0 : Find(text, part, 0);
  if (found == absl::string_view::npos) {
    sqlite3_result_int(context, 0);
    return;
  }
  const absl::string_view before = text.substr(0, found);
  const auto units =
      bytes ? static_cast<int64_t>(before.size())
            : static_cast<int64_t>(before.size()) -
                  std::count_if(before.begin(), before.end(), Continues);
  sqlite3_result_int64(context, units + 1);
}

void SetText(sqlite3_context* context, absl::string_view text) {
  sqlite3_result_text64(
      context, text.data() == nullptr ? "" : text.data(), text.size(),
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the documented sentinel
      reinterpret_cast<sqlite3_destructor_type>(intptr_t{-1}), SQLITE_UTF8);
}

void Replace(sqlite3_context* context, int num_args, sqlite3_value** args) {
  if (AnyNull(num_args, args)) {
    return;
  }
  const absl::string_view text = TextOf(args[0]);
  const absl::string_view part = TextOf(args[1]);
  const absl::string_view by = TextOf(args[2]);
  const auto most = static_cast<size_t>(sqlite3_limit(
      sqlite3_context_db_handle(context), SQLITE_LIMIT_LENGTH, -1));
  std::string out;
  size_t from = 0;
  while (!part.empty() && from < text.size()) {
    const size_t found = Find(text, part, from);
    if (found == absl::string_view::npos) {
      break;
    }
    out.append(text.data() + from, found - from);
    out.append(by.data(), by.size());
    from = found + part.size();
    if (out.size() > most) {
      sqlite3_result_error_toobig(context);
      return;
    }
  }
  out.append(text.data() + from, text.size() - from);
  SetText(context, out);
}

enum Side { kLeft = 1, kRight = 2, kBoth = 3 };

template <Side side>
void Trim(sqlite3_context* context, int num_args, sqlite3_value** args) {
  if (AnyNull(num_args, args)) {
    return;
  }
  absl::string_view text = TextOf(args[0]);
  absl::string_view set = TextOf(args[1]);
  const auto first = [](absl::string_view from) {
    size_t size = 1;
    while (size < from.size() && Continues(from[size])) {
      ++size;
    }
    return from.substr(0, size);
  };
  absl::flat_hash_set<absl::string_view> characters;
  while (!set.empty()) {
    characters.insert(first(set));
    set.remove_prefix(first(set).size());
  }
  while ((side & kLeft) != 0 && !text.empty() &&
         characters.contains(first(text))) {
    text.remove_prefix(first(text).size());
  }
  while ((side & kRight) != 0 && !text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && Continues(text[start])) {
      --start;
    }
    if (!characters.contains(text.substr(start))) {
      break;
    }
    text = text.substr(0, start);
  }
  SetText(context, text);
}

}  // namespace

absl::Status InstallLinearFunctions(Database& database) {
  struct Function {
    const char* name;
    int num_args;
    void (*call)(sqlite3_context*, int, sqlite3_value**);
  };
  for (const Function& function :
       {Function{"instr", 2, Instr}, Function{"replace", 3, Replace},
        Function{"trim", 2, Trim<kBoth>}, Function{"ltrim", 2, Trim<kLeft>},
        Function{"rtrim", 2, Trim<kRight>}}) {
    const int result = sqlite3_create_function_v2(
        database.handle(), function.name, function.num_args,
        SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, nullptr,
        function.call, nullptr, nullptr, nullptr);
    if (result != SQLITE_OK) {
      return SqliteError(database.handle(), result, function.name);
    }
  }
  return absl::OkStatus();
}

}  // namespace qsweep
