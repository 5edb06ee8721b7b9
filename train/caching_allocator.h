// Host memory for tensors that is kept when freed and handed out again: a training step allocates
// the same sizes over and over, and fresh pages cost more than most operations on them.
// Thread-safe.
#ifndef ADAMOE_TRAIN_CACHING_ALLOCATOR_H_
#define ADAMOE_TRAIN_CACHING_ALLOCATOR_H_

namespace adamoe {

// Makes every CPU tensor of the process from here on use it. Memory is returned to the system at
// exit only. Call once, before other threads start.
void InstallCachingAllocator();

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_CACHING_ALLOCATOR_H_
