// A Vulkan layer that asks the driver what each compute pipeline became (VK_KHR_pipeline_executable_properties):
// registers, spills, occupancy, instructions. It appends one line of JSON per pipeline to the file $PIPELINE_STATS:
//
//   {"name": "matvec q4_k", "ms": 12.5, "subgroup": 64, "VGPRs": 48, ...}
//
// The names of the statistics are the driver's. wgpu names its pipelines if WGPU_DEBUG=1; others are left out. It
// serves one instance, and one device at a time. It must not change what the driver is given, except for the flag that
// keeps statistics.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

static PFN_vkGetInstanceProcAddr next_instance_proc;
static PFN_vkGetDeviceProcAddr next_device_proc;
static VkInstance the_instance;
static VkDevice the_device;
#define NEXT(name) ((PFN_##name)next_device_proc(the_device, #name))

// How long the latest pipelines took to compile, until they are named.
enum { PENDING = 64 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { VkPipeline pipeline; double ms; } pending[PENDING];
static unsigned next_pending;

static void quote(FILE *file, const char *text) {
  fputc('"', file);
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') fputc('\\', file);
    if ((unsigned char)*text >= ' ') fputc(*text, file);
  }
  fputc('"', file);
}

static void print_statistics(FILE *file, VkPipeline pipeline, uint32_t executable) {
  PFN_vkGetPipelineExecutableStatisticsKHR get = NEXT(vkGetPipelineExecutableStatisticsKHR);
  VkPipelineExecutableInfoKHR info = { VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, NULL, pipeline, executable };
  uint32_t count = 0;
  get(the_device, &info, &count, NULL);
  VkPipelineExecutableStatisticKHR *all = calloc(count + 1, sizeof *all);
  for (uint32_t i = 0; i < count; i++) all[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
  get(the_device, &info, &count, all);
  for (uint32_t i = 0; i < count; i++) {
    fputs(", ", file);
    quote(file, all[i].name);
    switch (all[i].format) {
      case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR:
        fprintf(file, ": %.3f", all[i].value.f64);
        break;
      case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
        fprintf(file, ": %lld", (long long)all[i].value.i64);
        break;
      default:
        fprintf(file, ": %llu", (unsigned long long)all[i].value.u64);
    }
  }
  free(all);
}

static void report(const char *name, double ms, VkPipeline pipeline) {
  PFN_vkGetPipelineExecutablePropertiesKHR get = NEXT(vkGetPipelineExecutablePropertiesKHR);
  FILE *file = fopen(getenv("PIPELINE_STATS"), "a");
  if (!file || !get) abort();
  VkPipelineInfoKHR info = { VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, NULL, pipeline };
  uint32_t count = 0;
  get(the_device, &info, &count, NULL);
  VkPipelineExecutablePropertiesKHR *all = calloc(count + 1, sizeof *all);
  for (uint32_t i = 0; i < count; i++) all[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR;
  get(the_device, &info, &count, all);
  // Intel's driver compiles a kernel for several widths. The last one is the widest, which is dispatched.
  if (count > 0) {
    fputs("{\"name\": ", file);
    quote(file, name);
    fprintf(file, ", \"ms\": %.2f, \"subgroup\": %u", ms, all[count - 1].subgroupSize);
    print_statistics(file, pipeline, count - 1);
    fputs("}\n", file);
  }
  free(all);
  fclose(file);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_compute_pipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
                                                               const VkComputePipelineCreateInfo *infos,
                                                               const VkAllocationCallbacks *allocator,
                                                               VkPipeline *made) {
  (void)cache;  // A cached pipeline has no statistics.
  VkResult worst = VK_SUCCESS;
  for (uint32_t i = 0; i < count; i++) {
    VkComputePipelineCreateInfo info = infos[i];
    info.flags |= VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR;
    struct timespec from, to;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    VkResult result = NEXT(vkCreateComputePipelines)(device, VK_NULL_HANDLE, 1, &info, allocator, &made[i]);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    if (result) {
      worst = result;
      continue;
    }
    pthread_mutex_lock(&lock);
    pending[next_pending].pipeline = made[i];
    pending[next_pending].ms = (to.tv_sec - from.tv_sec) * 1e3 + (to.tv_nsec - from.tv_nsec) / 1e6;
    next_pending = (next_pending + 1) % PENDING;
    pthread_mutex_unlock(&lock);
  }
  return worst;
}

static VKAPI_ATTR VkResult VKAPI_CALL set_object_name(VkDevice device, const VkDebugUtilsObjectNameInfoEXT *info) {
  if (info->objectType == VK_OBJECT_TYPE_PIPELINE && info->pObjectName) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < PENDING; i++) {
      if (!pending[i].pipeline || (uint64_t)pending[i].pipeline != info->objectHandle) continue;
      report(info->pObjectName, pending[i].ms, pending[i].pipeline);
      pending[i].pipeline = VK_NULL_HANDLE;
    }
    pthread_mutex_unlock(&lock);
  }
  PFN_vkSetDebugUtilsObjectNameEXT next = NEXT(vkSetDebugUtilsObjectNameEXT);
  return next ? next(device, info) : VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *given,
                                                    const VkAllocationCallbacks *allocator, VkDevice *device) {
  VkLayerDeviceCreateInfo *link = (void *)given->pNext;
  while (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO)
    link = (void *)link->pNext;
  PFN_vkGetInstanceProcAddr instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  PFN_vkGetDeviceProcAddr device_proc = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;

  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR statistics = {
    VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR, (void *)given->pNext, VK_TRUE };
  VkDeviceCreateInfo info = *given;
  const char **extensions = calloc(info.enabledExtensionCount + 1, sizeof *extensions);
  memcpy(extensions, given->ppEnabledExtensionNames, info.enabledExtensionCount * sizeof *extensions);
  extensions[info.enabledExtensionCount++] = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
  info.ppEnabledExtensionNames = extensions;
  info.pNext = &statistics;
  PFN_vkCreateDevice create = (PFN_vkCreateDevice)instance_proc(the_instance, "vkCreateDevice");
  VkResult result = create(physical, &info, allocator, device);
  free(extensions);
  if (!result) {
    next_device_proc = device_proc;
    the_device = *device;
  }
  return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator, VkInstance *instance) {
  VkLayerInstanceCreateInfo *link = (void *)info->pNext;
  while (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO)
    link = (void *)link->pNext;
  next_instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  VkResult result = ((PFN_vkCreateInstance)next_instance_proc(NULL, "vkCreateInstance"))(info, allocator, instance);
  if (!result) the_instance = *instance;
  return result;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL pipeline_stats_device_proc(VkDevice device, const char *name);

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL pipeline_stats_instance_proc(VkInstance instance, const char *name) {
  static const struct { const char *name; void *function; } replaced[] = {
    { "vkGetInstanceProcAddr", pipeline_stats_instance_proc },
    { "vkGetDeviceProcAddr", pipeline_stats_device_proc },
    { "vkCreateInstance", create_instance },
    { "vkCreateDevice", create_device },
    { "vkCreateComputePipelines", create_compute_pipelines },
    { "vkSetDebugUtilsObjectNameEXT", set_object_name },
  };
  for (size_t i = 0; i < sizeof replaced / sizeof *replaced; i++)
    if (!strcmp(replaced[i].name, name)) return (PFN_vkVoidFunction)replaced[i].function;
  return next_instance_proc ? next_instance_proc(instance, name) : NULL;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL pipeline_stats_device_proc(VkDevice device, const char *name) {
  if (!strcmp(name, "vkCreateComputePipelines") || !strcmp(name, "vkSetDebugUtilsObjectNameEXT"))
    return pipeline_stats_instance_proc(NULL, name);
  return next_device_proc ? next_device_proc(device, name) : NULL;
}
