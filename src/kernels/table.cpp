// One KernelTable per instruction set: this file is compiled once for each. Every name of kernel_list.inc must be defined in
// namespace ocior::OCIOR_ISA by another file of this folder.
#include "kernels/table.h"

#define OCIOR_STR_(x) #x
#define OCIOR_STR(x) OCIOR_STR_(x)

namespace ocior::OCIOR_ISA {

template <class F>
using Fn = F;

#define KERNEL(name, ret, ...) Fn<ret(__VA_ARGS__)> name;
#include "kernels/kernel_list.inc"
#undef KERNEL

extern const KernelTable kTable;
constinit const KernelTable kTable = {
    OCIOR_STR(OCIOR_ISA),
#define KERNEL(name, ret, ...) &name,
#include "kernels/kernel_list.inc"
#undef KERNEL
};

}  // namespace ocior::OCIOR_ISA
