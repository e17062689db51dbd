//! Mesa's drivers of GPUs that are not here (`scripts/gpu-compilers.sh`) compile the kernels. The test starts itself
//! once per GPU. It fails if a GPU does not compile every kernel of every kind of model, if a kernel spills registers
//! that is not in [`SPILLS`], or if a kernel of the table in `benches/compilers.md` becomes worse. `FIRELIGHT_RECORD=1`
//! writes the table anew.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use firelight::gpu::{Caps, Gpu, GpuOptions, Tier, TuneConfig, Tuning};
use firelight::memory_plan;
use firelight::model::Model;
use firelight::ops::StepSizes;
use firelight::plan::Plan;
use firelight::session::SessionOptions;
use firelight::sim::GpuModel;
use firelight::synth;
use pollster::block_on;

use crate::engine;
use crate::table::{Compiled, Table, summary};

/// GPUs of the script, and their names in the table. The slowest compilers come first.
const GPUS: [(&str, &str); 10] = [
    ("nv174", "RTX 30"),
    ("nv164", "RTX 20"),
    ("dg2", "Arc A770"),
    ("tgl", "Iris Xe"),
    ("navi31", "RX 7900 XTX"),
    ("navi21", "RX 6800"),
    ("gfx1201", "RX 9070"),
    ("fd740", "Adreno 740"),
    ("fd660", "Adreno 660"),
    ("m1", "Apple M1"),
];

/// GPUs of the script that `firelight plan --on` knows, too, by its name.
const PROFILES: [(&str, &str); 3] = [("navi31", "rx7900xtx"), ("dg2", "a770"), ("fd740", "adreno740")];

/// Kernels that spill: the GPU, the file, and why it may.
const SPILLS: [(&str, &str, &str); 5] = [
    ("dg2", "matmul_f16", TOO_MANY_SUMS),
    ("tgl", "matmul_f16", TOO_MANY_SUMS),
    ("dg2", "matmul_int8", TOO_MANY_SUMS),
    ("tgl", "matmul_int8", TOO_MANY_SUMS),
    ("m1", "matmul_int8", TOO_MANY_SUMS),
];
const TOO_MANY_SUMS: &str = "a tier on request only, whose tiles have more sums per thread than this GPU has registers";

/// The model whose kernels are in the table.
const IN_TABLE: &str = "qwen3-0.6b Q4_K_M";

/// The constants in the table: those that decide how much code a kernel has.
const TABLE_CONSTS: [&str; 2] = ["GROUPS", "TILE"];

/// Of other models, kernels are compiled once that differ only in other constants than these.
const STRUCTURE: [&str; 6] = ["HEAD_DIM", "HEAD_DIM4", "ROWS_PER_LANE", "TILE", "TILE_THREADS", "WG"];

/// The script's command; `None` where it cannot run. In CI it must.
pub fn compilers() -> Option<String> {
    let command = std::env::var("GPU_COMPILERS").ok();
    assert!(command.is_some() || std::env::var_os("CI").is_none(), "set GPU_COMPILERS: see scripts/gpu-compilers.sh");
    if command.is_none() {
        eprintln!("skipped: GPU_COMPILERS is not set; see scripts/gpu-compilers.sh");
    }
    command
}

/// All GPUs, or those that FIRELIGHT_GPUS names: `navi31,m1`.
fn gpus() -> Vec<(&'static str, &'static str)> {
    let wanted = std::env::var("FIRELIGHT_GPUS").ok();
    let is_wanted = |gpu: &str| wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|name| name == gpu));
    GPUS.into_iter().filter(|(gpu, _)| is_wanted(gpu)).collect()
}

/// What a GPU's driver compiled.
struct Report {
    mesa: String,
    in_table: Vec<Compiled>,
    others: Vec<Compiled>,
}

/// Where the test's child process leaves its report, and the layer its lines.
struct ReportFiles(PathBuf);

impl ReportFiles {
    fn mesa(&self) -> PathBuf {
        self.0.join("mesa")
    }

    fn in_table(&self) -> PathBuf {
        self.0.join("table.jsonl")
    }

    fn pipelines(&self) -> PathBuf {
        self.0.join("pipelines.jsonl")
    }

    fn read(&self) -> Report {
        let text = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let compiled = |path| {
            let all = text(path).lines().map(parse).collect::<Vec<Compiled>>();
            all.into_iter().filter(|compiled| !compiled.name.starts_with("(wgpu internal)")).collect()
        };
        Report { mesa: text(self.mesa()), in_table: compiled(self.in_table()), others: compiled(self.pipelines()) }
    }
}

fn parse(line: &str) -> Compiled {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

/// Compiles on a GPU's driver, in a process of this test; an error has the process's output.
fn compile_on(command: &str, gpu: &str) -> Result<Report, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let files = ReportFiles(folder.path().into());
    let output = Command::new(command)
        .arg(gpu)
        .arg(std::env::current_exe().expect("this test's path"))
        .args(["--exact", "gpus::child_compiles_on_the_gpu_of_its_driver", "--ignored", "--nocapture"])
        .env("FIRELIGHT_GPUS", gpu)
        .env("PIPELINE_STATS", files.pipelines())
        .env("WGPU_VALIDATION_INDIRECT_CALL", "0")
        .stdin(Stdio::null())
        .output()
        .expect("the script's command runs");
    if output.status.success() {
        return Ok(files.read());
    }
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Err(format!("{gpu}: {}\n{text}", output.status))
}

/// Compiles on each GPU, two at a time: a process uses one core while it opens a model, and all while it compiles.
fn compile_on_all(command: &str, gpus: &[(&str, &str)]) -> Vec<Result<Report, String>> {
    let next = Mutex::new(gpus.iter().enumerate());
    let reports = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let Some((i, (gpu, _))) = next.lock().expect("no panic").next() else { return };
            let report = compile_on(command, gpu);
            reports.lock().expect("no panic").insert(i, report);
        }
    };
    std::thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|worker| worker.join().expect("no panic")));
    reports.into_inner().expect("no panic").into_values().collect()
}

/// Spills that are not in [`SPILLS`], and entries of it that are not needed.
fn unexpected_spills(gpu: &str, report: &Report) -> Vec<String> {
    let mut expected: Vec<&str> = SPILLS.iter().filter(|(on, ..)| *on == gpu).map(|(_, file, _)| *file).collect();
    let mut out = Vec::new();
    let mut spilled = HashSet::new();
    for compiled in report.in_table.iter().chain(&report.others).filter(|compiled| compiled.spills() > 0) {
        let file = compiled.name.split([' ', ',']).next().unwrap_or_default();
        spilled.insert(file);
        if !expected.contains(&file) {
            out.push(format!("{gpu}: {} spills {} registers", compiled.name, compiled.spills()));
        }
    }
    expected.retain(|file| !spilled.contains(file));
    out.extend(expected.into_iter().map(|file| format!("{gpu}: {file} does not spill: remove it from SPILLS")));
    out
}

#[test]
fn gpus_compile_every_kernel_as_well_as_before() {
    let Some(command) = compilers() else { return };
    let (mut table, mut compiled, mut faults, mut total) = (Table::default(), Vec::new(), Vec::new(), 0);
    let gpus = gpus();
    for ((gpu, name), report) in gpus.iter().zip(compile_on_all(&command, &gpus)) {
        let report = match report {
            Ok(report) => report,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        let (in_table, others) = (report.in_table.len(), report.others.len());
        assert!(in_table > 50 && others > 100, "{gpu} compiled only {in_table} and {others} kernels");
        total += in_table + others;
        faults.extend(unexpected_spills(gpu, &report));
        for pipeline in &report.in_table {
            let row = table.rows.entry(summary(&pipeline.name, &TABLE_CONSTS)).or_default();
            row.insert((*name).into(), pipeline.cell());
        }
        compiled.push(*name);
        table.mesa = report.mesa;
    }
    println!("{total} pipelines on {} GPUs, Mesa {}", gpus.len(), table.mesa);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compilers.md");
    if std::env::var_os("FIRELIGHT_RECORD").is_some() {
        std::fs::write(&path, table.render(IN_TABLE, &GPUS.map(|(_, name)| name))).expect("the table is written");
    } else {
        let mut before = Table::parse(&std::fs::read_to_string(&path).expect("benches/compilers.md"));
        before.keep(|name| compiled.contains(&name));
        if before.mesa == table.mesa {
            faults.extend(table.regressions(&before));
        } else {
            eprintln!("figures are not compared: benches/compilers.md is of Mesa {}; record it anew", before.mesa);
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// A model, and how it is used.
struct Case {
    shape: &'static str,
    types: &'static str,
    sequences: u32,
    layout: Option<TuneConfig>,
}

/// Opens the GPU of this process's driver.
fn open(tier: Tier) -> Gpu {
    let options = GpuOptions::default().tier(tier).tuning(Tuning::Off);
    block_on(Gpu::open(&options)).expect("the driver opens its device")
}

/// Compiles the kernels of a model whose labels are `new`.
fn compile(tier: Tier, case: &Case, mut new: impl FnMut(&str) -> bool) {
    let Case { shape, types, sequences, layout } = case;
    // A device frees the memory of plans after it has worked, which this one never does.
    let gpu = open(tier);
    let mut caps = gpu.caps().clone().memory(None);
    caps.tuned = *layout;
    let source = synth::without_weights(shape, types).expect("a shape");
    let model = block_on(Model::from_sources(vec![source])).expect("a model");
    let options = SessionOptions::default().context(1024.min(model.spec.context_length)).sequences(*sequences);
    let mut list = memory_plan::plan_memory(&model, &caps, &options).expect("it fits").dispatch_list;
    for (_, kernel) in &list.kernels {
        for sizes in [list.step(1, 0), list.step(*sequences, 0), list.step(list.capacity.rows, 0)] {
            let sizes = StepSizes { filtered: 1, ..sizes };
            let most = kernel.workgroups(&sizes).into_iter().max().unwrap_or(0);
            let label = kernel.source.label();
            assert!(most <= caps.max_workgroups, "{shape} with {sequences} sequences: {most} workgroups of {label}");
        }
    }
    list.kernels.retain(|(_, kernel)| new(&kernel.source.label()));
    block_on(Plan::compile(&gpu, list)).unwrap_or_else(|e| panic!("{shape} {types}, {tier} tier: {e}"));
}

/// Run by [`compile_on`], on the driver of another GPU: the model of the table in every tier, then every kind of model,
/// weight types with kernels of their own, a vocabulary of 262,144 tokens, eight sequences, and tuned layouts.
#[test]
#[ignore = "a part of another test"]
fn child_compiles_on_the_gpu_of_its_driver() {
    let pipelines = PathBuf::from(std::env::var_os("PIPELINE_STATS").expect("set by the test that starts this"));
    let files = ReportFiles(pipelines.parent().expect("a folder").into());
    let (caps, driver) = {
        let gpu = open(Tier::Subgroups);
        (gpu.caps().clone(), gpu.adapter().driver.clone())
    };
    if let Some((_, name)) = PROFILES.iter().find(|(gpu, _)| gpus()[0].0 == *gpu) {
        let profile = GpuModel::find(name).expect("a profile").caps();
        let facts =
            |caps: &Caps| (caps.tier, caps.subgroup, caps.f16, caps.cooperative, caps.max_binding.div_ceil(1 << 20));
        assert_eq!(facts(&profile), facts(&caps), "the profile of {name} is wrong");
    }
    let mesa = driver.rsplit("Mesa ").next().and_then(|rest| rest.split(['-', ' ']).next());
    std::fs::write(files.mesa(), mesa.unwrap_or_default()).expect("the version is written");

    let tiers: Vec<Tier> = Tier::ALL.into_iter().filter(|tier| caps.lacks(*tier).is_none()).collect();
    let (shape, types) = IN_TABLE.split_once(' ').expect("a shape and types");
    let case = |shape, types| Case { shape, types, sequences: 1, layout: None };
    let mut seen = HashSet::new();
    for tier in &tiers {
        compile(*tier, &case(shape, types), |label| seen.insert(summary(label, &TABLE_CONSTS)));
    }
    std::fs::rename(files.pipelines(), files.in_table()).expect("the layer has written pipelines");

    let mut seen = HashSet::new();
    let mut new = |label: &str| seen.insert(summary(label, &STRUCTURE));
    for tier in &tiers {
        compile(*tier, &case("tiny-qwen3moe", "Q4_0"), &mut new);
    }
    let mut cases: Vec<Case> = engine::FEW.iter().map(|shape| case(*shape, "Q4_0")).collect();
    cases.extend(["Q8_0", "IQ4_XS", "MXFP4", "IQ2_XS"].map(|types| case("tiny-llama3", types)));
    for sequences in [1, 8] {
        cases.extend(["qwen3-0.6b", "gemma-3-1b"].map(|shape| Case { sequences, ..case(shape, "Q4_0") }));
    }
    let untuned = TuneConfig::untuned(false);
    let one_row = TuneConfig { rows_per_lane: 1, ..untuned };
    let wide = TuneConfig { threads: 256, rows_per_lane: 4, tile_threads: 16, f16_tile_rows: 128, ..untuned };
    cases.extend([one_row, wide].map(|layout| Case { layout: Some(layout), ..case(shape, types) }));
    for case in &cases {
        compile(caps.exact_tier(), case, &mut new);
    }
}
