// Both sides of the protocol upgrade at different times: a field number that
// was once released is never reused or given another type.
// tests/golden/proto_fields.txt holds every field there ever was; lines are
// only added.

#include <fstream>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/descriptor.h"
#include "gtest/gtest.h"

#include "qsweep/v1/coordinator.pb.h"
#include "qsweep/v1/engine.pb.h"

namespace qsweep {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

constexpr char kGolden[] = QSWEEP_SOURCE_DIR "/tests/golden/proto_fields.txt";

std::string TypeOf(const FieldDescriptor& field) {
  std::string type = field.is_repeated() ? "repeated " : "";
  switch (field.type()) {
    case FieldDescriptor::TYPE_MESSAGE:
      return absl::StrCat(type, field.message_type()->full_name());
    case FieldDescriptor::TYPE_ENUM:
      return absl::StrCat(type, field.enum_type()->full_name());
    default:
      return absl::StrCat(type, field.type_name());
  }
}

// "Message.number" or "Enum.number" -> "name type".
using Fields = std::map<std::string, std::string>;

void AddEnum(const EnumDescriptor& descriptor, Fields& fields) {
  for (int i = 0; i < descriptor.value_count(); ++i) {
    fields[absl::StrCat(descriptor.full_name(), ".",
                        descriptor.value(i)->number())] =
        descriptor.value(i)->name();
  }
}

void AddMessage(const Descriptor& descriptor, Fields& fields) {
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    fields[absl::StrCat(descriptor.full_name(), ".", field.number())] =
        absl::StrCat(field.name(), " ", TypeOf(field));
  }
  for (int i = 0; i < descriptor.nested_type_count(); ++i) {
    AddMessage(*descriptor.nested_type(i), fields);
  }
  for (int i = 0; i < descriptor.enum_type_count(); ++i) {
    AddEnum(*descriptor.enum_type(i), fields);
  }
}

void AddFile(const FileDescriptor& file, Fields& fields,
             std::set<std::string>& seen) {
  if (!seen.insert(file.name()).second) {
    return;
  }
  for (int i = 0; i < file.message_type_count(); ++i) {
    AddMessage(*file.message_type(i), fields);
  }
  for (int i = 0; i < file.enum_type_count(); ++i) {
    AddEnum(*file.enum_type(i), fields);
  }
  for (int i = 0; i < file.dependency_count(); ++i) {
    AddFile(*file.dependency(i), fields, seen);
  }
}

Fields Current() {
  Fields fields;
  std::set<std::string> seen;
  AddFile(*v1::GetStatusRequest::descriptor()->file(), fields, seen);
  AddFile(*v1::EngineRequest::descriptor()->file(), fields, seen);
  return fields;
}

TEST(ProtoFields, KeepNumberAndType_OfEveryReleasedField) {
  Fields released;
  std::ifstream golden(kGolden);
  for (std::string line; std::getline(golden, line);) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    released.insert(parts);
  }
  ASSERT_FALSE(released.empty()) << kGolden;
  const Fields current = Current();
  for (const auto& [key, what] : released) {
    const auto found = current.find(key);
    if (found !=
        current.end()) {  // removed ones are `reserved`, which protoc enforces
      EXPECT_EQ(found->second, what)
          << key << " was released with another name or type";
    }
  }
  std::string missing;
  for (const auto& [key, what] : current) {
    if (released.count(key) == 0) {
      absl::StrAppend(&missing, key, " ", what, "\n");
    }
  }
  EXPECT_EQ(missing, "") << "new fields: add these lines to " << kGolden;
}

}  // namespace
}  // namespace qsweep
