//! Each check of the sanitizer: a kernel with the error, and a variant without it.

use super::{WIDTHS, run};
use firelight::sim::{Finding, FindingKind, SimulationOptions};

const DECLARATIONS: &str = "
    @group(0) @binding(0) var<storage, read_write> y: array<u32>;
    @group(0) @binding(1) var<storage, read> x: array<u32>;
    var<workgroup> s: array<u32, 64>;
    var<workgroup> a: array<atomic<u32>, 4>;
    @compute @workgroup_size(64) fn main(
        @builtin(local_invocation_index) i: u32,
        @builtin(workgroup_id) wg: vec3<u32>,
    ) {";

/// The findings in a kernel of two workgroups of 64 invocations; `x[i]` is i, and y is zero.
fn findings(body: &str, width: u32) -> Vec<Finding> {
    let text = format!("{DECLARATIONS}\n{body}\n}}");
    let mut buffers = [vec![0; 256], (0..256).collect()];
    let options =
        SimulationOptions { sanitize: true, seed: Some(1), max_instructions: Some(1 << 16), ..Default::default() };
    run((&text, width), &mut buffers, [2, 1, 1], options).findings
}

/// At every subgroup size, all findings in the first kernel are of this kind, and there are none in the second.
fn check(kind: FindingKind, caught: &str, clean: &str) {
    check_at(&WIDTHS, kind, caught, clean);
}

fn check_at(widths: &[u32], kind: FindingKind, caught: &str, clean: &str) {
    for width in widths {
        let found = findings(caught, *width);
        assert!(!found.is_empty() && found.iter().all(|f| f.kind == kind), "subgroups of {width}: {found:?}");
        let found = findings(clean, *width);
        assert!(found.is_empty(), "subgroups of {width}: {found:?}");
    }
}

#[test]
fn races_in_workgroup_memory() {
    let begin = "s[i] = 0u; workgroupBarrier();";
    let neighbour = |between: &str| format!("{begin} s[i] = i; {between} y[64u * wg.x + i] = s[63u - i];");
    check(FindingKind::DataRace, &neighbour(""), &neighbour("workgroupBarrier();"));
    // A write after a read needs a barrier, too.
    let again =
        |between: &str| format!("s[i] = i; workgroupBarrier(); y[64u * wg.x + i] = s[63u - i]; {between} s[i] = 2u;");
    check(FindingKind::DataRace, &again(""), &again("workgroupBarrier();"));
    check(FindingKind::DataRace, "s[i / 2u] = i;", "if (i % 2u == 0u) { s[i / 2u] = i; }");
    check(FindingKind::DataRace, "s[0] = i;", "atomicStore(&a[0], i); atomicAdd(&a[0], 1u);");
}

#[test]
fn writes_of_the_same_value() {
    check(FindingKind::RedundantWrite, "s[i / 2u] = 7u;", "if (i % 2u == 0u) { s[i / 2u] = 7u; }");
    check(FindingKind::RedundantWrite, "y[i] = i;", "y[64u * wg.x + i] = i;");
}

#[test]
fn races_in_storage_memory() {
    check(
        FindingKind::DataRace,
        "y[64u * wg.x + i] = i; workgroupBarrier(); s[i] = y[64u * wg.x + 63u - i];",
        "y[64u * wg.x + i] = i; storageBarrier(); s[i] = y[64u * wg.x + 63u - i];",
    );
    // Each barrier orders only its own address space.
    check(
        FindingKind::DataRace,
        "s[i] = i; storageBarrier(); y[64u * wg.x + i] = s[63u - i];",
        "s[i] = i; workgroupBarrier(); y[64u * wg.x + i] = s[63u - i];",
    );
    // No barrier orders accesses of two workgroups.
    check(FindingKind::DataRace, "y[i] = i + wg.x;", "y[64u * wg.x + i] = i;");
    check(
        FindingKind::DataRace,
        "s[i] = y[64u * (1u - wg.x) + i]; storageBarrier(); y[64u * wg.x + i] = i;",
        "s[i] = y[64u * wg.x + 63u - i]; storageBarrier(); y[64u * wg.x + i] = i;",
    );
}

#[test]
fn uninitialized_workgroup_memory() {
    check(
        FindingKind::UninitializedRead,
        "if (i < 63u) { s[i] = i; } workgroupBarrier(); y[64u * wg.x + i] = s[i];",
        "s[i] = i; workgroupBarrier(); y[64u * wg.x + i] = s[i];",
    );
    check(
        FindingKind::UninitializedRead,
        "y[64u * wg.x + i] = atomicAdd(&a[1], 1u);",
        "if (i == 0u) { atomicStore(&a[1], 0u); } workgroupBarrier(); y[64u * wg.x + i] = atomicAdd(&a[1], 1u);",
    );
}

#[test]
fn indices_out_of_bounds() {
    check(FindingKind::OutOfBounds, "y[64u * wg.x + i] = x[i * 5u];", "y[64u * wg.x + i] = x[i * 4u];");
    check(FindingKind::OutOfBounds, "if (i > 62u) { s[i + 1u] = i; }", "if (i < 63u) { s[i + 1u] = i; }");
    check(
        FindingKind::OutOfBounds,
        "var v = vec4<u32>(i); v[x[i % 5u]] = 1u; y[64u * wg.x + i] = v.x;",
        "var v = vec4<u32>(i); v[x[i % 4u]] = 1u; y[64u * wg.x + i] = v.x;",
    );
}

#[test]
fn barriers_in_divergent_control_flow() {
    // Whether only some lanes of a subgroup or only some subgroups reach it.
    check(
        FindingKind::DivergentBarrier,
        "if (x[i] < 10u) { workgroupBarrier(); }",
        "if (x[0] < 10u) { workgroupBarrier(); }",
    );
    check(
        FindingKind::DivergentBarrier,
        "for (var n = 0u; n < 1u + x[i] / 32u; n += 1u) { workgroupBarrier(); }",
        "for (var n = 0u; n < 1u + x[32] / 32u; n += 1u) { workgroupBarrier(); }",
    );
    check(
        FindingKind::DivergentBarrier,
        "if (x[i] > 62u) { return; } workgroupBarrier();",
        "if (x[0] > 62u) { return; } workgroupBarrier(); if (x[i] > 62u) { return; } y[64u * wg.x + i] = i;",
    );
}

#[test]
fn subgroup_operations_in_divergent_control_flow() {
    let sum = |condition: &str| format!("if ({condition}) {{ y[64u * wg.x + i] = subgroupAdd(i); }}");
    check(FindingKind::DivergentSubgroupOperation, &sum("x[i] % 4u == 0u"), &sum("x[0] % 4u == 0u"));
    // Some subgroups may skip it as a whole.
    check_at(&[4, 8, 16, 32], FindingKind::DivergentSubgroupOperation, &sum("x[i] < 33u"), &sum("x[i] < 32u"));
}

#[test]
fn shifts_by_32_and_more() {
    check(FindingKind::OversizedShift, "y[64u * wg.x + i] = 1u << x[i];", "y[64u * wg.x + i] = 1u << (x[i] & 31u);");
}

#[test]
fn nans_of_finite_numbers() {
    let root = |of: &str| format!("y[64u * wg.x + i] = bitcast<u32>(sqrt({of}));");
    check(FindingKind::NanFromFinite, &root("f32(x[i]) - 1.0"), &root("f32(x[i])"));
    let quotient = |by: &str| format!("y[64u * wg.x + i] = bitcast<u32>(f32(x[i]) / {by});");
    check(FindingKind::NanFromFinite, &quotient("f32(x[i])"), &quotient("f32(x[i] + 1u)"));
    // A NaN operand is not reported again.
    check(
        FindingKind::NanFromFinite,
        "y[64u * wg.x + i] = bitcast<u32>(log(-1.0 - f32(x[i])));",
        "y[64u * wg.x + i] = bitcast<u32>(bitcast<f32>(x[i] | 0x7fc00000u) + 1.0);",
    );
}

#[test]
fn infinite_loops() {
    let count_to = |step: &str| format!("for (var n = 0u; n < x[i]; n += {step}) {{ s[i] = n; }}");
    check(FindingKind::InfiniteLoop, &count_to("x[0]"), &count_to("x[1]"));
}

#[test]
fn findings_name_the_line() {
    let found = findings("let five = 5u;\n    s[i / 2u] = five;", 32);
    assert_eq!(found.len(), 1);
    let lines = DECLARATIONS.lines().count() as u32;
    assert_eq!((found[0].line, found[0].text.as_str()), (lines + 2, "s[i / 2u] = five;"));
    assert!(found[0].detail.contains("of s") && found[0].count > 32, "{:?}", found[0]);
}
