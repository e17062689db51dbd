//! Figures of GPUs for the roofline. Each entry says where its figures are from, and which of them are estimates.
//!
//! All units look up one cache line and serve one wavefront of workgroup memory per clock: NVIDIA and AMD document 128
//! bytes per clock for the first cache level and for workgroup memory; for the others it is an estimate. Dispatch
//! overheads are estimates from published decode rates of small models, in which dispatches take most of the time.

use crate::caps::{Caps, Tier};

/// Lane operations per unit and clock.
#[derive(Clone, Copy, Debug)]
pub struct OperationRates {
    /// Of all classes together: what the schedulers issue.
    pub issue: u32,
    /// Integers, addresses, packing, comparisons, and dot products of bytes.
    pub integer: u32,
    /// Conversions between types.
    pub convert: u32,
    /// Quotients, roots, exponentials and the like.
    pub transcendental: u32,
    /// f16 multiply-adds of cooperative matrices; without matrix units, those of all lanes.
    pub matrix: u32,
}

/// The figures of a GPU.
#[derive(Clone, Copy, Debug)]
pub struct GpuModel {
    /// The name that `--on` takes.
    pub name: &'static str,
    /// The fewest and the most lanes of a subgroup.
    pub subgroup: (u32, u32),
    /// Whether WebGPU offers f16 arithmetic.
    pub f16: bool,
    /// The side of the cooperative matrices that it offers; 0 for none.
    pub cooperative: u32,
    /// Largest binding in MiB.
    pub max_binding: u64,
    /// GiB of memory; `None` if it is shared with the CPU.
    pub memory: Option<u64>,
    /// Compute units: SMs, CUs, Xe cores, GPU cores, SPs.
    pub units: u32,
    /// What a unit does per clock.
    pub rates: OperationRates,
    /// GHz.
    pub clock: f64,
    /// GB/s.
    pub bandwidth: f64,
    /// Microseconds from the end of a dispatch to the start of the next.
    pub overhead: f64,
    /// The source of each figure.
    pub source: &'static str,
}

/// GPUs of five vendors, and two on which others have measured WGSL kernels (`rtx4070`, `m2`).
pub const GPU_MODELS: [GpuModel; 8] = [
    GpuModel {
        name: "rtx4090",
        subgroup: (32, 32),
        f16: true,
        cooperative: 16,
        max_binding: 2048,
        memory: Some(24),
        units: 128,
        rates: ADA,
        clock: 2.52,
        bandwidth: 1008.0,
        overhead: 2.5,
        source: "NVIDIA, Ada architecture 2.01: 128 SMs, 2.52 GHz, 1008 GB/s, 165 f16 TFLOPS with f32 sums; \
                 CUDA programming guide, throughput of compute capability 8.9; overhead: estimate",
    },
    GpuModel {
        name: "rtx4070",
        subgroup: (32, 32),
        f16: true,
        cooperative: 16,
        max_binding: 2048,
        memory: Some(12),
        units: 46,
        rates: ADA,
        clock: 2.475,
        bandwidth: 504.0,
        overhead: 2.5,
        source: "NVIDIA, product page: 5888 lanes (46 SMs), 2.475 GHz, 504 GB/s; \
                 CUDA programming guide, throughput of compute capability 8.9; overhead: estimate",
    },
    GpuModel {
        name: "h200",
        subgroup: (32, 32),
        f16: true,
        cooperative: 16,
        max_binding: 2048,
        memory: Some(131),
        units: 132,
        rates: OperationRates { issue: 128, integer: 64, convert: 64, transcendental: 16, matrix: 2048 },
        clock: 1.98,
        bandwidth: 4800.0,
        overhead: 2.5,
        source: "NVIDIA, H200 data sheet: 141 GB, 4.8 TB/s, 67 f32 TFLOPS (132 SMs at 1.98 GHz), 989 f16 TFLOPS \
                 (at 1.83 GHz); CUDA programming guide, throughput of compute capability 9.0; overhead: estimate",
    },
    GpuModel {
        name: "rx7900xtx",
        subgroup: (32, 64),
        f16: true,
        cooperative: 16,
        max_binding: 2048,
        memory: Some(24),
        units: 96,
        rates: OperationRates { issue: 64, integer: 64, convert: 64, transcendental: 16, matrix: 256 },
        clock: 2.5,
        bandwidth: 960.0,
        overhead: 2.5,
        source: "AMD, product page: 96 CUs, 6144 lanes (dual issue not counted), 2.5 GHz, 960 GB/s, 123 f16 TFLOPS; \
                 RDNA whitepaper: transcendentals at a quarter of the rate; overhead: estimate",
    },
    GpuModel {
        name: "a770",
        subgroup: (8, 32),
        f16: true,
        cooperative: 0,
        max_binding: 2048,
        memory: Some(16),
        units: 32,
        rates: OperationRates { issue: 128, integer: 128, convert: 128, transcendental: 32, matrix: 128 },
        clock: 2.1,
        bandwidth: 560.0,
        overhead: 5.0,
        source: "Intel, product page: 32 Xe cores, 4096 lanes, 2.1 GHz, 560 GB/s; rates of integers, conversions and \
                 transcendentals, and overhead: estimates; WebGPU does not offer the matrix units",
    },
    GpuModel {
        name: "m3max",
        subgroup: (32, 32),
        f16: true,
        cooperative: 8,
        max_binding: 2048,
        memory: None,
        units: 40,
        rates: APPLE,
        clock: 1.398,
        bandwidth: 400.0,
        overhead: 5.0,
        source: "Apple, product page: 40 cores, 400 GB/s; 128 lanes a core at 1.398 GHz as databases report; all \
                 other rates and overhead: estimates from measurements of M1 and M2",
    },
    GpuModel {
        name: "m2",
        subgroup: (32, 32),
        f16: true,
        cooperative: 8,
        max_binding: 2048,
        memory: None,
        units: 10,
        rates: APPLE,
        clock: 1.398,
        bandwidth: 100.0,
        overhead: 5.0,
        source: "Apple, product page: 10 cores, 100 GB/s; 128 lanes a core at 1.398 GHz as databases report; all \
                 other rates and overhead: estimates",
    },
    GpuModel {
        name: "adreno740",
        subgroup: (64, 128),
        f16: false,
        cooperative: 0,
        max_binding: 128,
        memory: None,
        units: 6,
        rates: OperationRates { issue: 256, integer: 128, convert: 128, transcendental: 32, matrix: 256 },
        clock: 0.68,
        bandwidth: 67.2,
        overhead: 10.0,
        source: "Qualcomm, Snapdragon 8 Gen 2: 64 bits of LPDDR5X at 4.2 GHz; 680 MHz as databases report; Mesa's \
                 Turnip: subgroups, bindings, no f16 in WebGPU; Qualcomm publishes no units and rates: estimates, \
                 as is the overhead",
    },
];

const ADA: OperationRates = OperationRates { issue: 128, integer: 64, convert: 16, transcendental: 16, matrix: 256 };

const APPLE: OperationRates = OperationRates { issue: 128, integer: 128, convert: 32, transcendental: 32, matrix: 128 };

impl GpuModel {
    /// The GPU of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        GPU_MODELS.iter().find(|gpu| gpu.name == name)
    }

    /// The capabilities that plans for this GPU assume.
    pub fn caps(&self) -> Caps {
        let caps = Caps::baseline().tier(Tier::Subgroups).subgroup(self.subgroup).f16(self.f16);
        let caps = caps.cooperative(self.cooperative).workgroup_bytes(32 << 10);
        let (max_binding, memory) = (self.max_binding << 20, self.memory.map(|gib| gib << 30));
        caps.max_binding(max_binding).max_buffer(max_binding.max(2 << 30)).memory(memory)
    }
}
