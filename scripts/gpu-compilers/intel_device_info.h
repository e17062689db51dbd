/* The few facts about a GPU that intel_noop_drm_shim.c answers with; Mesa's own table needs its generators. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <stdlib.h>
#include <errno.h>
enum { INTEL_PLATFORM_CHV = 1 };
struct intel_device_info {
   const char *name; uint32_t pci_device_id; int ver; int platform; bool has_local_mem;
   uint64_t timestamp_frequency; unsigned num_slices, max_eus_per_subslice, num_subslices[8];
};
static const struct intel_device_info intel_gpus[] = {
   { "dg2", 0x56a0, 12, 0, true, 19200000, 8, 16, { 4, 4, 4, 4, 4, 4, 4, 4 } },  /* Arc A770 */
   { "mtl", 0x7d55, 12, 0, false, 19200000, 2, 16, { 4, 4 } },                   /* Core Ultra (Meteor Lake) */
   { "tgl", 0x9a49, 12, 0, false, 19200000, 1, 16, { 6 } },                      /* Iris Xe */
};
static inline int intel_device_name_to_pci_device_id(const char *name) {
   for (unsigned i = 0; i < sizeof intel_gpus / sizeof *intel_gpus; i++)
      if (!strcasecmp(intel_gpus[i].name, name)) return intel_gpus[i].pci_device_id;
   return -1;
}
static inline bool intel_get_device_info_from_pci_id(int id, struct intel_device_info *out) {
   for (unsigned i = 0; i < sizeof intel_gpus / sizeof *intel_gpus; i++)
      if ((int)intel_gpus[i].pci_device_id == id) { *out = intel_gpus[i]; return true; }
   return false;
}
struct drm_intel_stub_devinfo { uint64_t addr; uint32_t size; };
