// A process that holds one compiled grammar and the matchers of all requests that follow it.
//
// A grammar is a program of a client's making, for a library that neither bounds its time, its
// memory and the depth of its recursion nor can be interrupted. In a process of its own it harms
// nobody: too slow, too large or crashed, the process ends, and with it those requests alone that
// brought the same grammar.
#ifndef ADAMOE_SERVER_STRUCTURED_GRAMMAR_PROCESS_H_
#define ADAMOE_SERVER_STRUCTURED_GRAMMAR_PROCESS_H_

#include <xgrammar/tokenizer_info.h>

#include "server/structured/grammar_wire.h"

namespace adamoe {

// Does what comes by `socket` (grammar_wire.h) until the server closes it. Compiling runs at a
// lower priority than the model, within the command's time and memory; afterwards a token may take
// a second of the processor's time. What takes more ends the process by a signal. REQUIRES: called
// in a process that was forked for it, with one thread.
[[noreturn]] void RunGrammarProcess(const Fd& socket, const SharedMemory& memory,
                                    const xgrammar::TokenizerInfo& vocabulary);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_GRAMMAR_PROCESS_H_
