//! What a driver says about its pipelines, and the table of it in `benches/compilers.md`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// The share of instructions, or of spilled registers, that a kernel of the table may gain.
const TOLERANCE: f64 = 0.03;

/// A pipeline, as the layer reports it. The statistics have the driver's names.
#[derive(Deserialize)]
pub struct Compiled {
    pub name: String,
    subgroup: u32,
    #[serde(flatten)]
    statistics: BTreeMap<String, f64>,
}

impl Compiled {
    /// The first of these statistics that the driver has.
    fn first(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| self.statistics.get(*name)).map(|value| *value as u64)
    }

    /// Registers that are stored to memory, plus those that are loaded again.
    pub fn spills(&self) -> u64 {
        let amd = ["Spilled VGPRs", "Spilled SGPRs"];
        let (intel_and_apple, nvidia) = (["Spills", "Fills"], ["Spills to memory", "Fills from memory"]);
        let adreno = ["STP Count", "LDP Count"];
        let names = amd.iter().chain(&intel_and_apple).chain(&nvidia).chain(&adreno);
        names.filter_map(|name| self.statistics.get(*name)).sum::<f64>() as u64
    }

    pub fn cell(&self) -> Cell {
        let threads = self.first(&["Threads"]).map(|threads| threads / u64::from(self.subgroup));
        let registers = ["VGPRs", "Number of GPRs", "Registers used", "Max live registers", "GPRs"];
        let instructions = self.first(&["Instructions", "Instruction count", "Instruction Count"]);
        Cell {
            subgroup: self.subgroup,
            registers: self.first(&registers).unwrap_or_else(|| panic!("no registers: {:?}", self.statistics)),
            occupancy: self.first(&["Subgroups per SIMD", "Max warps/SM", "Max Waves Per Core"]).or(threads),
            instructions: instructions.unwrap_or_else(|| panic!("no instructions: {:?}", self.statistics)),
            spills: self.spills(),
        }
    }
}

/// A kernel's name with some of its constants: `matvec reduce exact q4_k dense GROUPS=96`.
pub fn summary(label: &str, consts: &[&str]) -> String {
    let (name, all) = label.split_once(", ").unwrap_or((label, ""));
    let kept = all.split(", ").filter_map(|c| c.split_once(" = ")).filter(|(name, _)| consts.contains(name));
    name.to_string() + &kept.map(|(name, value)| format!(" {name}={value}")).collect::<String>()
}

/// A cell of the table: `x64 48r 32w 594i`, with `12s` if registers spill.
#[derive(Clone, PartialEq)]
pub struct Cell {
    subgroup: u32,
    registers: u64,
    occupancy: Option<u64>,
    instructions: u64,
    spills: u64,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { subgroup, registers, occupancy, instructions, spills } = self;
        let occupancy = occupancy.map(|waves| format!(" {waves}w")).unwrap_or_default();
        let spills = if *spills > 0 { format!(" {spills}s") } else { String::new() };
        write!(f, "x{subgroup} {registers}r{occupancy} {instructions}i{spills}")
    }
}

impl Cell {
    fn parse(text: &str) -> Option<Cell> {
        let number = |mark: fn(&str) -> Option<&str>| text.split(' ').find_map(|word| mark(word)?.parse().ok());
        Some(Cell {
            subgroup: number(|word| word.strip_prefix('x'))? as u32,
            registers: number(|word| word.strip_suffix('r'))?,
            occupancy: number(|word| word.strip_suffix('w')),
            instructions: number(|word| word.strip_suffix('i'))?,
            spills: number(|word| word.strip_suffix('s')).unwrap_or(0),
        })
    }

    /// What is worse than before.
    fn regression(&self, before: &Cell) -> Option<&'static str> {
        let more = |now: u64, before: u64| now as f64 > before as f64 * (1.0 + TOLERANCE);
        if self.occupancy < before.occupancy {
            Some("lower occupancy")
        } else if self.subgroup < before.subgroup {
            Some("a narrower subgroup")
        } else if more(self.instructions, before.instructions) {
            Some("more instructions")
        } else {
            more(self.spills, before.spills).then_some("more spills")
        }
    }
}

/// Cells by kernel and GPU.
#[derive(Default, PartialEq)]
pub struct Table {
    /// The version of Mesa that compiled the kernels.
    pub mesa: String,
    pub rows: BTreeMap<String, BTreeMap<String, Cell>>,
}

impl Table {
    /// The table as Markdown, with a column for each of the GPUs.
    pub fn render(&self, model: &str, gpus: &[&str]) -> String {
        let mut out = format!(
            "# What GPU compilers make of the kernels\n\n\
             {model}, untuned, in each tier that a GPU has; compiled by Mesa {} without hardware\n\
             (`scripts/gpu-compilers.sh`). x: subgroup size; r: registers (Intel: the most that are live at once); w: \
             subgroups\n\
             that fit, per SIMD (AMD), SM (NVIDIA), or core (Adreno, Apple); i: instructions; s: registers spilled and \
             loaded again.\n\
             GROUPS: groups of 32 weights in a row. NVK is not NVIDIA's own compiler, nor Honeykrisp Apple's.\n\n\
             `FIRELIGHT_RECORD=1 cargo test --features chat-tests --test compilers` writes this file; the same test \
             compares with it.\n\n",
            self.mesa
        );
        out += &format!("| kernel | {} |\n|{}\n", gpus.join(" | "), "---|".repeat(gpus.len() + 1));
        for (kernel, cells) in &self.rows {
            let cells = gpus.iter().map(|name| cells.get(*name).map(Cell::to_string).unwrap_or_default());
            out += &format!("| {kernel} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
        }
        out
    }

    pub fn parse(text: &str) -> Table {
        let mesa = text.split("compiled by Mesa ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
        let mut lines = text.lines().filter(|line| line.starts_with('|')).map(cells);
        let names: Vec<String> = lines.next().expect("the table has a header");
        let row = |cells: Vec<String>| {
            let found = names.iter().zip(&cells).skip(1);
            let found = found.filter_map(|(name, cell)| Some((name.clone(), Cell::parse(cell)?))).collect();
            (cells[0].clone(), found)
        };
        Table { mesa: mesa.into(), rows: lines.skip(1).map(row).collect() }
    }

    /// Keeps some GPUs.
    pub fn keep(&mut self, gpu: impl Fn(&str) -> bool) {
        self.rows.values_mut().for_each(|row| row.retain(|name, _| gpu(name)));
    }

    fn cells(&self) -> impl Iterator<Item = (&str, &str, &Cell)> {
        self.rows.iter().flat_map(|(kernel, row)| row.iter().map(move |(gpu, cell)| (&**kernel, &**gpu, cell)))
    }

    fn get(&self, kernel: &str, gpu: &str) -> Option<&Cell> {
        self.rows.get(kernel)?.get(gpu)
    }

    /// What became worse since `before`, and kernels of which only one table knows.
    pub fn regressions(&self, before: &Table) -> Vec<String> {
        let unknown = before.cells().filter(|(kernel, gpu, _)| self.get(kernel, gpu).is_none());
        let mut out: Vec<String> =
            unknown.map(|(kernel, gpu, _)| format!("{gpu}: {kernel} is not compiled any more")).collect();
        for (kernel, gpu, cell) in self.cells() {
            match before.get(kernel, gpu) {
                None => out.push(format!("{gpu}: {kernel} is new: {cell}")),
                Some(old) => {
                    out.extend(cell.regression(old).map(|what| format!("{gpu}: {kernel}: {what}: {old} -> {cell}")))
                }
            }
        }
        out
    }
}

#[test]
fn regressions_are_detected() {
    let cell = |text: &str| Cell::parse(text).expect("a cell");
    let old = cell("x64 48r 32w 1000i");
    assert_eq!(old.to_string(), "x64 48r 32w 1000i");
    assert_eq!(cell("x64 96r 32w 1030i").regression(&old), None);
    assert_eq!(cell("x64 48r 32w 1031i").regression(&old), Some("more instructions"));
    assert_eq!(cell("x64 49r 28w 900i").regression(&old), Some("lower occupancy"));
    assert_eq!(cell("x32 48r 32w 900i").regression(&old), Some("a narrower subgroup"));
    assert_eq!(cell("x64 48r 32w 900i 1s").regression(&old), Some("more spills"));
    let table = |cell: Cell| {
        let row = [("RX 6800".into(), cell)].into();
        Table { mesa: "26.1.6".into(), rows: [("matvec q4_k GROUPS=32".into(), row)].into() }
    };
    let old = table(old);
    assert!(Table::parse(&old.render("a model", &["RX 6800", "RTX 30"])) == old, "a table is read as it was written");
    assert_eq!(table(cell("x64 48r 16w 1000i")).regressions(&old).len(), 1);
    assert_eq!(old.regressions(&Table::default()).len(), 1);
    assert_eq!(Table::default().regressions(&old).len(), 1);
}

#[test]
fn a_summary_keeps_the_given_constants() {
    let label = "matvec reduce q4_k, WG = 64, GROUPS = 96, TILE = 1";
    assert_eq!(summary(label, &["GROUPS", "TILE"]), "matvec reduce q4_k GROUPS=96 TILE=1");
    assert_eq!(summary("gather", &["TILE"]), "gather");
}
