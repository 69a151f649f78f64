#include "tests/fuzz/message_mutator.h"

#include <bit>
#include <cstdint>

#include <google/protobuf/descriptor.h>

#include "common/base/check.h"

namespace qsweep::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int kMostDepth = 5;
constexpr int kMostElements = 12;  // a message stays small
constexpr size_t kMostText = 24;

double NewDouble(Input& input) {
  switch (input.Below(8)) {
    case 0:
      return std::bit_cast<double>(input.Below(~uint64_t{0}));
    case 1:
      return -1;
    case 2:
      return 1e308;
    case 3:
      return std::bit_cast<double>(uint64_t{0x7FF8} << 48);  // NaN
    case 4:
      return std::bit_cast<double>(uint64_t{0x7FF0} << 48);  // infinity
    default:
      return static_cast<double>(input.Byte()) / 16;
  }
}

}  // namespace

void MessageMutator::Change(Message& message, int depth) {
  const auto& type = *message.GetDescriptor();
  if (type.field_count() == 0 || depth > kMostDepth) {
    return;
  }
  const FieldDescriptor& field = *type.field(static_cast<int>(
      input_.Below(static_cast<uint64_t>(type.field_count()))));
  if (field.is_repeated()) {
    ChangeRepeated(message, field, depth);
  } else {
    ChangeSingle(message, field, depth);
  }
}

void MessageMutator::ChangeSingle(Message& message,
                                  const FieldDescriptor& field, int depth) {
  const Reflection& reflection = *message.GetReflection();
  if (input_.Below(6) == 0) {
    reflection.ClearField(&message, &field);
  } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    Change(*reflection.MutableMessage(&message, &field), depth + 1);
  } else {
    SetScalar(message, field, kSingle);
  }
}

void MessageMutator::ChangeRepeated(Message& message,
                                    const FieldDescriptor& field, int depth) {
  const Reflection& reflection = *message.GetReflection();
  const bool is_message = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  const int size = reflection.FieldSize(message, &field);
  const uint64_t what = input_.Below(6);
  const int at =
      size == 0 ? 0
                : static_cast<int>(input_.Below(static_cast<uint64_t>(size)));
  if (size == 0 || (what == 0 && size < kMostElements)) {
    if (is_message) {
      Change(*reflection.AddMessage(&message, &field), depth + 1);
    } else {
      SetScalar(message, field, kAppend);
    }
  } else if (what == 1) {
    reflection.RemoveLast(&message, &field);
  } else if (what == 2) {
    reflection.SwapElements(&message, &field, at, size - 1);
  } else if (what == 3 && is_message && size < kMostElements &&
             !field.is_map()) {
    Message* copy = reflection.AddMessage(&message, &field);
    copy->CopyFrom(reflection.GetRepeatedMessage(message, &field, at));
  } else if (is_message) {
    Change(*reflection.MutableRepeatedMessage(&message, &field, at), depth + 1);
  } else {
    SetScalar(message, field, at);
  }
}

std::string MessageMutator::NewText(const std::vector<std::string>& pool) {
  if (pool.empty() || input_.Below(4) == 0) {
    return input_.Text(kMostText);
  }
  return pool[input_.Below(pool.size())];
}

// One case per type of a field; each of set, set an element, append.
#define QSWEEP_FUZZ_SET(kind, value)                              \
  if (index == kSingle) {                                         \
    reflection.Set##kind(&message, &field, value);                \
  } else if (index == kAppend) {                                  \
    reflection.Add##kind(&message, &field, value);                \
  } else {                                                        \
    reflection.SetRepeated##kind(&message, &field, index, value); \
  }                                                               \
  break

void MessageMutator::SetScalar(Message& message, const FieldDescriptor& field,
                               int index) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      QSWEEP_FUZZ_SET(Int32, static_cast<int32_t>(input_.Number()));
    case FieldDescriptor::CPPTYPE_UINT32:
      QSWEEP_FUZZ_SET(UInt32, static_cast<uint32_t>(input_.Number()));
    case FieldDescriptor::CPPTYPE_INT64:
      QSWEEP_FUZZ_SET(Int64, static_cast<int64_t>(input_.Number()));
    case FieldDescriptor::CPPTYPE_UINT64:
      QSWEEP_FUZZ_SET(UInt64, input_.Number());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      QSWEEP_FUZZ_SET(Double, NewDouble(input_));
    case FieldDescriptor::CPPTYPE_BOOL:
      QSWEEP_FUZZ_SET(Bool, input_.Bool());
    case FieldDescriptor::CPPTYPE_ENUM:
      QSWEEP_FUZZ_SET(EnumValue, static_cast<int>(input_.Number()));
    case FieldDescriptor::CPPTYPE_STRING:
      QSWEEP_FUZZ_SET(
          String,
          NewText(field.type() == FieldDescriptor::TYPE_BYTES ? bytes_
                                                              : texts_));
    default:  // a message, which is no scalar; float: the protocol has none
      QSWEEP_CHECK(false);
  }
}
#undef QSWEEP_FUZZ_SET

}  // namespace qsweep::fuzz
