// What server/structured/ tells whoever counts; metrics/ implements it. Calls come from any thread
// and must not block.
#ifndef ADAMOE_SERVER_REQUEST_GRAMMAR_OBSERVER_H_
#define ADAMOE_SERVER_REQUEST_GRAMMAR_OBSERVER_H_

#include "absl/time/time.h"

namespace adamoe {

class GrammarObserver {
 public:
  virtual ~GrammarObserver() = default;
  // A request's grammar was there already, or was not.
  virtual void OnGrammarLookup(bool hit) = 0;
  // A grammar was compiled, or refused, in this time. Waiting for a place is not part of it.
  virtual void OnGrammarCompiled(absl::Duration duration) = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_GRAMMAR_OBSERVER_H_
