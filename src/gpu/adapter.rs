//! Adapters: listing them, describing what they can do, and choosing one.

use super::{Caps, Tier, TuneResult, platform};
use crate::{Error, Result};

/// Limits that every kernel needs: WebGPU's own defaults.
const NEEDED_STORAGE_BUFFERS: u32 = 8;
const NEEDED_WORKGROUP_BYTES: u32 = 16 << 10;
const NEEDED_INVOCATIONS: u32 = 256;
/// 32 KiB of workgroup memory: available on most GPUs; the reduced-precision kernels use it when present.
const MOST_WORKGROUP_BYTES: u32 = 32 << 10;

const COOPERATIVE: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;

/// An adapter's description, as `firelight devices` prints it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdapterInfo {
    /// The adapter's name.
    pub name: String,
    /// Vulkan, Metal, Dx12, Gl or BrowserWebGpu.
    pub backend: String,
    /// Discrete, integrated, virtual, software or unknown.
    pub kind: &'static str,
    /// Driver name and version.
    pub driver: String,
    /// Its capabilities.
    pub caps: Caps,
    /// Why it has no higher exact tier; empty if it has the highest.
    pub why_not_higher: String,
    /// The tuning result that is applied, if there is one.
    pub tuning: Option<TuneResult>,
    /// Why it cannot be used at all, if so.
    pub unusable: Option<String>,
}

impl AdapterInfo {
    /// Whether to tune this adapter when it is opened: it is a real GPU, and the result can be cached.
    pub(crate) fn should_tune(&self) -> bool {
        !self.caps.software && platform::has_cache()
    }

    /// Loads the cached tuning result of this adapter, driver, tier and version of Firelight.
    pub(crate) fn load_tuning(&self) -> Option<TuneResult> {
        serde_json::from_str(&platform::load_cached(&self.cache_key())?).ok()
    }

    /// Caches a tuning result, where there is a cache.
    pub(crate) fn store_tuning(&self, result: &TuneResult) {
        if let Ok(text) = serde_json::to_string(result) {
            platform::store_cached(&self.cache_key(), &text);
        }
    }

    /// Applies a tuning result: sets the kernel parameters, and disables subgroups if their kernels computed wrong
    /// results.
    pub(crate) fn apply_tuning(&mut self, result: TuneResult) {
        let AdapterInfo { caps, why_not_higher, .. } = self;
        // If a lower tier was requested, subgroups were not tested.
        if result.tier < Tier::Subgroups && caps.subgroups() {
            (caps.subgroup, caps.cooperative) = ((0, 0), 0);
            if caps.lacks(caps.tier).is_some() {
                caps.tier = result.tier;
            }
            *why_not_higher = "subgroups: their kernels computed wrong results when this adapter was measured".into();
        }
        (caps.tuned, self.tuning) = (Some(result.config), Some(result));
    }

    /// Selects a tier, by default the highest exact one.
    ///
    /// # Errors
    /// [`Error::Usage`] if it cannot run.
    pub(super) fn in_tier(mut self, tier: Option<Tier>) -> Result<Self> {
        let Some(tier) = tier else { return Ok(self) };
        if let Some(why) = self.caps.lacks(tier) {
            let name = &self.name;
            return Err(Error::Usage(format!("{name} cannot run the tier {tier}: {why}; leave --tier out")));
        }
        self.caps.tier = tier;
        Ok(self)
    }

    fn cache_key(&self) -> String {
        let AdapterInfo { name, backend, driver, caps, .. } = self;
        // With a lower exact tier, tuning tries nothing above it. Reduced-precision tiers are tuned with the highest
        // exact one.
        let tier = caps.tier.min(caps.exact_tier());
        format!("{name}, {backend}, {driver}, {tier}, {}", env!("CARGO_PKG_VERSION"))
    }
}

/// A wgpu adapter, with the properties that wgpu does not report on every platform.
pub(super) struct Adapter {
    pub adapter: wgpu::Adapter,
    pub name: String,
    pub software: bool,
    pub subgroups: bool,
    /// See [`Caps::cooperative`].
    pub cooperative: u32,
    pub memory: Option<u64>,
    /// The browser's own object.
    #[cfg(target_arch = "wasm32")]
    pub js: wasm_bindgen::JsValue,
}

impl Adapter {
    /// Describes a device that has all of the adapter's features and limits.
    pub fn info(&self) -> AdapterInfo {
        self.info_with(self.adapter.features(), &self.adapter.limits())
    }

    /// Describes a device that has these features and limits.
    pub fn info_with(&self, features: wgpu::Features, limits: &wgpu::Limits) -> AdapterInfo {
        let info = self.adapter.get_info();
        let caps = self.caps(&info, features, limits);
        AdapterInfo {
            name: self.name.clone(),
            backend: format!("{:?}", info.backend),
            kind: match info.device_type {
                _ if self.software => "software",
                wgpu::DeviceType::DiscreteGpu => "discrete",
                wgpu::DeviceType::IntegratedGpu => "integrated",
                wgpu::DeviceType::VirtualGpu => "virtual",
                wgpu::DeviceType::Cpu => "software",
                wgpu::DeviceType::Other => "unknown",
            },
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            why_not_higher: caps.lacks(Tier::Subgroups).map(|why| format!("subgroups: {why}")).unwrap_or_default(),
            caps,
            tuning: None,
            unusable: self.unusable(limits),
        }
    }

    fn caps(&self, info: &wgpu::AdapterInfo, features: wgpu::Features, limits: &wgpu::Limits) -> Caps {
        let mut caps = Caps {
            tier: Tier::Baseline,
            subgroup: if self.has_subgroups(features) {
                (info.subgroup_min_size, info.subgroup_max_size)
            } else {
                (0, 0)
            },
            f16: features.contains(wgpu::Features::SHADER_F16),
            cooperative: if features.contains(COOPERATIVE) { self.cooperative } else { 0 },
            software: self.software,
            tuned: None,
            workgroup_bytes: limits.max_compute_workgroup_storage_size.min(MOST_WORKGROUP_BYTES),
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            memory: self.memory,
        };
        caps.tier = caps.exact_tier();
        // The cooperative kernels use workgroups of four subgroups, and 32 KiB.
        if caps.workgroup_bytes < MOST_WORKGROUP_BYTES || !(1..=NEEDED_INVOCATIONS / 4).contains(&caps.subgroup.1) {
            caps.cooperative = 0;
        }
        caps
    }

    /// wgpu does not know of subgroups in browsers.
    fn has_subgroups(&self, features: wgpu::Features) -> bool {
        let known = self.adapter.get_info().backend != wgpu::Backend::BrowserWebGpu;
        self.subgroups && (!known || features.contains(wgpu::Features::SUBGROUP))
    }

    /// Why no kernel can run with these limits, if so.
    fn unusable(&self, limits: &wgpu::Limits) -> Option<String> {
        let flags = self.adapter.get_downlevel_capabilities().flags;
        if !flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
            Some("it has no compute shaders".to_string())
        } else if limits.max_storage_buffers_per_shader_stage < NEEDED_STORAGE_BUFFERS {
            let have = limits.max_storage_buffers_per_shader_stage;
            Some(format!("it allows {have} storage buffers in a shader, {NEEDED_STORAGE_BUFFERS} are needed"))
        } else if limits.max_compute_workgroup_storage_size < NEEDED_WORKGROUP_BYTES {
            Some(format!("it has less than {NEEDED_WORKGROUP_BYTES} bytes of workgroup memory"))
        } else if limits.max_compute_invocations_per_workgroup < NEEDED_INVOCATIONS {
            Some(format!("it allows fewer than {NEEDED_INVOCATIONS} invocations in a workgroup"))
        } else {
            None
        }
    }
}

/// The index of the adapter to open.
pub(super) fn choose(adapters: &[AdapterInfo], wanted: Option<&str>) -> Result<usize> {
    let names = || adapters.iter().enumerate().map(|(i, a)| format!("{i}: {}", a.name)).collect::<Vec<_>>().join(", ");
    if adapters.is_empty() {
        return Err(Error::Gpu(platform::NO_ADAPTER.into()));
    }
    let index = match wanted {
        None => adapters.iter().position(|a| a.unusable.is_none()).unwrap_or(0),
        Some(wanted) => {
            let by_index = wanted.parse::<usize>().ok().filter(|i| *i < adapters.len());
            let lower = wanted.to_lowercase();
            by_index
                .or_else(|| adapters.iter().position(|a| a.name.to_lowercase().contains(&lower)))
                .ok_or_else(|| Error::Gpu(format!("no adapter is called {wanted:?}; there are {}", names())))?
        }
    };
    match &adapters[index].unusable {
        Some(why) => Err(Error::Gpu(format!("{} cannot be used: {why}", adapters[index].name))),
        None => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{TuneConfig, TuneOutcome};

    fn adapter(name: &str, unusable: Option<&str>) -> AdapterInfo {
        AdapterInfo {
            name: name.into(),
            backend: "Vulkan".into(),
            kind: "software",
            driver: String::new(),
            caps: Caps::baseline(),
            why_not_higher: String::new(),
            tuning: None,
            unusable: unusable.map(str::to_string),
        }
    }

    #[test]
    fn adapters_are_chosen_by_index_by_name_or_best() {
        let adapters =
            [adapter("Old GL", Some("no compute")), adapter("Vulkan One", None), adapter("Vulkan Two", None)];
        assert_eq!(choose(&adapters, None).unwrap(), 1);
        assert_eq!(choose(&adapters, Some("2")).unwrap(), 2);
        assert_eq!(choose(&adapters, Some("two")).unwrap(), 2);
        assert!(choose(&adapters, Some("0")).unwrap_err().to_string().contains("no compute"));
        assert!(choose(&adapters, Some("metal")).unwrap_err().to_string().contains("1: Vulkan One"));
        assert!(choose(&[], None).unwrap_err().to_string().contains("mesa-vulkan-drivers"));
    }

    #[test]
    fn a_tier_that_computes_wrong_results_is_dropped_and_explained() {
        let layout = TuneConfig::untuned(false);
        for (tier, exact, left, dropped) in [
            (Tier::Subgroups, Tier::Subgroups, Tier::Subgroups, false),
            (Tier::Subgroups, Tier::Baseline, Tier::Baseline, true),
            (Tier::Int8, Tier::Baseline, Tier::Int8, true),
            (Tier::F16, Tier::Baseline, Tier::F16, true),
            (Tier::Cooperative, Tier::Baseline, Tier::Baseline, true),
            // A requested tier: no other was tried.
            (Tier::Baseline, Tier::Baseline, Tier::Baseline, false),
        ] {
            let mut adapter = adapter("One", None);
            adapter.caps = Caps { tier, subgroup: (32, 32), cooperative: 16, f16: true, ..adapter.caps };
            let (halves, matrices) = (TuneOutcome::None, TuneOutcome::None);
            adapter.apply_tuning(TuneResult { tier: exact, config: layout, f16: halves, cooperative: matrices });
            assert_eq!((adapter.caps.tier, adapter.caps.tuned), (left, Some(layout)));
            assert_eq!((adapter.caps.subgroup == (0, 0), adapter.caps.cooperative == 0), (dropped, dropped));
            assert_eq!(adapter.why_not_higher.contains("wrong results"), dropped);
        }
    }
}
