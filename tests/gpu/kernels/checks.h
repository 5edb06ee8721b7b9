// The checks by name; kernel_checks.cc lists them.
#ifndef ADAMOE_TESTS_GPU_KERNELS_CHECKS_H_
#define ADAMOE_TESTS_GPU_KERNELS_CHECKS_H_

namespace adamoe {

void CheckRoute();
void CheckRouteOfStrangeLogits();
void CheckRouterLogits();
void CheckEmbed();
void CheckRmsNorm();
void CheckRopeAppendKv();
void CheckSummarizeRows();
void CheckFillRandom();
void CheckDecodeAttention();
void CheckPrefillAttention();
void CheckWindowedPrefillAttention();
void CheckMixedAttention();
void CheckDecodeExperts();
void CheckPrefillExpertsWgmma();
void CheckPrefillExpertsMmaSync();
void CheckNothingToDo();

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_KERNELS_CHECKS_H_
