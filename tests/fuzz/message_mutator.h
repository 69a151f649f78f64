#ifndef QSWEEP_TESTS_FUZZ_MESSAGE_MUTATOR_H_
#define QSWEEP_TESTS_FUZZ_MESSAGE_MUTATOR_H_

#include <string>
#include <vector>

#include <google/protobuf/message.h>

#include "tests/fuzz/input.h"

namespace qsweep::fuzz {

// Spoils messages as their descriptors allow: a field somewhere gets another
// value, one that some field of the protocol could have had, or any; elements
// come, go and are doubled. Single-thread; borrows the input.
class MessageMutator {
 public:
  explicit MessageMutator(Input& input) : input_(input) {}

  // What text and bytes fields are likely to become, besides anything.
  void AddText(std::string text) { texts_.push_back(std::move(text)); }
  void AddBytes(std::string bytes) { bytes_.push_back(std::move(bytes)); }

  // Changes one field of the message, or of one inside it.
  void Mutate(google::protobuf::Message& message) { Change(message, 0); }

 private:
  void Change(google::protobuf::Message& message, int depth);
  void ChangeSingle(google::protobuf::Message& message,
                    const google::protobuf::FieldDescriptor& field, int depth);
  void ChangeRepeated(google::protobuf::Message& message,
                      const google::protobuf::FieldDescriptor& field,
                      int depth);
  // Sets the field, or (index >= 0) one of its elements, or (kAppend) adds one.
  void SetScalar(google::protobuf::Message& message,
                 const google::protobuf::FieldDescriptor& field, int index);
  std::string NewText(const std::vector<std::string>& pool);

  static constexpr int kSingle = -1;
  static constexpr int kAppend = -2;

  Input& input_;
  std::vector<std::string> texts_;
  std::vector<std::string> bytes_;
};

}  // namespace qsweep::fuzz

#endif  // QSWEEP_TESTS_FUZZ_MESSAGE_MUTATOR_H_
