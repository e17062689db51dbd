//! Results of kernels, at every subgroup size and in several orders of execution.

use super::{WIDTHS, bits, floats, run};
use firelight::sim::{Program, SimulationOptions, dispatch};

/// Compares the first buffer of a kernel of one workgroup, at every subgroup size and in four orders of execution.
fn check(text: &str, buffers: &[Vec<u32>], want: &[u32]) {
    for width in WIDTHS {
        for seed in [None, Some(1), Some(2), Some(3)] {
            let mut buffers = buffers.to_vec();
            run((text, width), &mut buffers, [1, 1, 1], SimulationOptions { seed, ..Default::default() });
            assert_eq!(buffers[0], want, "subgroups of {width}, seed {seed:?}");
        }
    }
}

/// A kernel of 64 invocations that sets `y[i]` to the result of `body`.
fn each(body: &str) -> String {
    format!(
        "enable f16;
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        fn f(i: u32) -> u32 {{ {body} }}
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {{ y[i] = f(i); }}"
    )
}

fn check_each(body: &str, want: impl Fn(u32) -> u32) {
    check(&each(body), &[vec![0; 64]], &(0..64).map(want).collect::<Vec<_>>());
}

#[test]
fn branches_and_early_returns() {
    check_each("if (i % 3u == 0u) { return 7u; } if (i > 40u) { return i * 2u; } return i;", |i| match i {
        i if i % 3 == 0 => 7,
        i if i > 40 => 2 * i,
        i => i,
    });
    check_each(
        "var x = i; if (i < 10u) { x += 100u; } else if (i < 20u) { x += 200u; } else { x = 5u; } return x;",
        |i| match i {
            ..10 => i + 100,
            10..20 => i + 200,
            _ => 5,
        },
    );
    check_each(
        "return select(1u, 2u, i > 3u && i < 9u || i == 60u);",
        |i| {
            if i > 3 && i < 9 || i == 60 { 2 } else { 1 }
        },
    );
}

#[test]
fn loops_that_lanes_leave_at_different_times() {
    check_each("var n = 0u; for (var j = 0u; j < i; j += 1u) { n += j; } return n;", |i| i * i.saturating_sub(1) / 2);
    check_each(
        "var n = 0u;
        for (var j = 0u; j < 20u; j += 1u) {
            if (j % 2u == i % 2u) { continue; }
            if (j > i) { break; }
            for (var k = 0u; k < j; k += 1u) { if (k == 5u) { break; } n += k; }
            if (n > 50u) { return n + 1000u; }
        }
        return n;",
        |i| {
            let mut n = 0;
            for j in 0..20 {
                if j % 2 == i % 2 {
                    continue;
                }
                if j > i {
                    break;
                }
                n += (0..j.min(5)).sum::<u32>();
                if n > 50 {
                    return n + 1000;
                }
            }
            n
        },
    );
    check_each(
        "var n = i; var steps = 0u; loop { if (n <= 1u) { break; } steps += 1u; if (n % 2u == 0u) { n /= 2u; continue; } n = 3u * n + 1u; } return steps;",
        |i| {
            let (mut n, mut steps) = (i, 0);
            while n > 1 {
                steps += 1;
                n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
            }
            steps
        },
    );
    check_each("var n = 0u; loop { n += i; continuing { n += 1u; break if n > 30u; } } return n;", |i| {
        let mut n = 0;
        loop {
            n += i + 1;
            if n > 30 {
                return n;
            }
        }
    });
}

#[test]
fn switches() {
    check_each(
        "var n = 0u;
        for (var j = 0u; j < 6u; j += 1u) {
            switch (i + j) % 5u {
                case 0u, 3u: { n += 1u; }
                case 1u: { if (j > i) { break; } n += 10u; }
                case 2u: { if (i > 40u) { continue; } if (i > 30u) { return n; } n += 100u; }
                default: { n += 1000u; }
            }
            n += 10000u;
        }
        return n;",
        |i| {
            let mut n = 0;
            for j in 0..6 {
                match (i + j) % 5 {
                    0 | 3 => n += 1,
                    1 if j > i => {}
                    1 => n += 10,
                    2 if i > 40 => continue,
                    2 if i > 30 => return n,
                    2 => n += 100,
                    _ => n += 1000,
                }
                n += 10000;
            }
            n
        },
    );
    // The default comes first, and the selector is constant or negative.
    check_each("switch i32(i) - 2 { default: { return 7u; } case -1: { return 8u; } }", |i| if i == 1 { 8 } else { 7 });
    check_each("switch 3u { case 3u: { return i; } default: { return 0u; } }", |i| i);
}

#[test]
fn private_variables_and_array_lengths() {
    let text = "
        struct Rows { count: u32, values: array<vec2<u32>> }
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @group(0) @binding(1) var<storage, read> rows: Rows;
        var<private> sum: u32 = 5u;
        var<private> last: array<u32, 2>;
        fn add(n: u32) { sum += n; last[n % 2u] = n; }
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
            add(i);
            add(i + 1u);
            y[i] = sum * 1000000u + last[0] * 10000u + arrayLength(&y) * 100u + arrayLength(&rows.values);
        }";
    let want = |i: u32| (2 * i + 6) * 1_000_000 + (i + i % 2) * 10_000 + 64 * 100 + 3;
    check(text, &[vec![0; 64], vec![0; 8]], &(0..64).map(want).collect::<Vec<_>>());
}

#[test]
fn arrays_of_variables_and_values() {
    check_each(
        "var a: array<vec4<u32>, 3>;
        for (var j = 0u; j < 12u; j += 1u) { a[j / 4u][j % 4u] = j * j; }
        a[i % 3u].y += 1000u;
        let b = a;
        return b[(i + 1u) % 3u][i % 4u] + a[i % 3u].y;",
        |i| {
            let mut a: Vec<u32> = (0..12).map(|j| j * j).collect();
            a[(i % 3 * 4 + 1) as usize] += 1000;
            a[((i + 1) % 3 * 4 + i % 4) as usize] + a[(i % 3 * 4 + 1) as usize]
        },
    );
}

#[test]
fn numbers() {
    check_each("return bitcast<u32>(round(f32(i) * 0.5) - 1.0 / 4.0);", |i| {
        ((i as f32 * 0.5).round_ties_even() - 0.25).to_bits()
    });
    check_each("return u32(i32(i) * -3 / 2 + 200) << (i % 5u);", |i| ((i as i32 * -3 / 2 + 200) as u32) << (i % 5));
    check_each("return pack4xI8(unpack4xI8(i * 0x01234567u)) ^ pack4xU8(unpack4xU8(i * 0x89abcdefu));", |i| {
        i.wrapping_mul(0x01234567) ^ i.wrapping_mul(0x89abcdef)
    });
    check_each("return u32(dot4I8Packed(i * 0x01fe01feu, 0x7f80ff01u) + 100000);", |i| {
        let (a, b) = (i.wrapping_mul(0x01fe01fe).to_le_bytes(), 0x7f80ff01u32.to_le_bytes());
        (a.into_iter().zip(b).map(|(a, b)| i32::from(a as i8) * i32::from(b as i8)).sum::<i32>() + 100_000) as u32
    });
    check_each("return pack2x16float(unpack2x16float(i * 250u + 0x3c00u));", |i| i * 250 + 0x3c00);
    check_each("return countOneBits(i) * 100u + countLeadingZeros(i);", |i| i.count_ones() * 100 + i.leading_zeros());
    // Rounded to 11 bits after each operation.
    check_each("let h = f16(i) * 33.3h; return u32(f32(h * 0.3h) * 1024.0);", |i| {
        let half = |v: f32| half::f16::from_f32(v).to_f32();
        (half(half(i as f32 * half(33.3)) * half(0.3)) * 1024.0) as u32
    });
}

/// A sum over a workgroup through its memory, as `shaders/lib/reduce.wgsl` does it.
const TREE: &str = "
    @group(0) @binding(0) var<storage, read_write> y: array<u32>;
    var<workgroup> part: array<u32, 64>;
    @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
        part[i] = i * i;
        workgroupBarrier();
        for (var s = 32u; s > 0u; s >>= 1u) {
            if (i < s) { part[i] += part[i + s]; }
            workgroupBarrier();
        }
        y[i] = part[0] + i;
    }";

#[test]
fn workgroup_memory_and_barriers() {
    let sum = (0..64).map(|i| i * i).sum::<u32>();
    check(TREE, &[vec![0; 64]], &(0..64).map(|i| sum + i).collect::<Vec<_>>());
}

#[test]
fn functions_of_floats() {
    let close = |body: &str, want: fn(f32) -> f32| {
        let text = each(&format!("let x = f32(i) / 16.0; return bitcast<u32>({body});"));
        for width in WIDTHS {
            let mut buffers = [vec![0; 64]];
            run((&text, width), &mut buffers, [1, 1, 1], Default::default());
            for (i, got) in floats(&buffers[0]).into_iter().enumerate() {
                let want = want(i as f32 / 16.0);
                assert!((got - want).abs() <= 1e-6 * want.abs().max(1.0), "{body} of {i}: {got}, not {want}");
            }
        }
    };
    close("saturate(x - 1.0)", |x| (x - 1.0).clamp(0.0, 1.0));
    close("fract(x) + step(2.0, x)", |x| x.fract() + if x >= 2.0 { 1.0 } else { 0.0 });
    close("mix(x, 2.0, 0.25)", |x| 0.75 * x + 0.5);
    close("smoothstep(1.0, 3.0, x)", |x| {
        let t = ((x - 1.0) / 2.0).clamp(0.0, 1.0);
        t * t * (3.0 - 2.0 * t)
    });
    close("length(vec2<f32>(x, 3.0))", |x| x.hypot(3.0));
    close("distance(vec3<f32>(x, 1.0, 2.0), vec3<f32>(0.0, 1.0, 0.0))", |x| x.hypot(2.0));
    close("normalize(vec2<f32>(x, 1.0)).x", |x| x / x.hypot(1.0));
    close("dot(cross(vec3<f32>(x, 1.0, 2.0), vec3<f32>(3.0, x, 1.0)), vec3<f32>(1.0, 10.0, 100.0))", |x| {
        (1.0 - 2.0 * x) + 10.0 * (6.0 - x) + 100.0 * (x * x - 3.0)
    });
    close("atan2(x, 2.0) + tan(x / 4.0) + asin(x / 8.0) + acos(x / 8.0) + atan(x)", |x| {
        x.atan2(2.0) + (x / 4.0).tan() + (x / 8.0).asin() + (x / 8.0).acos() + x.atan()
    });
    close("sinh(x) - cosh(x) + degrees(x) * radians(x)", |x| x.sinh() - x.cosh() + x.to_degrees() * x.to_radians());
    close("quantizeToF16(x * 0.3)", |x| half::f16::from_f32(x * 0.3).to_f32());
    check_each("return reverseBits(i) >> 26u;", |i| i.reverse_bits() >> 26);
}

#[test]
fn compare_and_exchange() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<atomic<u32>>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
            // One invocation finds 0.
            let first = atomicCompareExchangeWeak(&y[0], 0u, 7u);
            if (first.exchanged) { atomicAdd(&y[1], first.old_value + 1u); }
            // Each adds 1 in a loop.
            for (;;) {
                let old = atomicLoad(&y[2]);
                if (atomicCompareExchangeWeak(&y[2], old, old + 1u).exchanged) { break; }
            }
        }";
    check(text, &[vec![0; 3]], &[7, 1, 64]);
}

#[test]
fn atomics_and_uniform_loads() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<atomic<u32>>;
        var<workgroup> count: atomic<u32>;
        var<workgroup> whole: u32;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
            if (i == 0u) { atomicStore(&count, 0u); }
            workgroupBarrier();
            let place = atomicAdd(&count, 1u);
            atomicMax(&y[1], place);
            workgroupBarrier();
            if (i == 5u) { whole = atomicLoad(&count); }
            let all = workgroupUniformLoad(&whole);
            if (all == 64u) { atomicAdd(&y[0], all); }
        }";
    check(text, &[vec![0; 2]], &[64 * 64, 63]);
}

#[test]
fn subgroup_operations() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;
        @compute @workgroup_size(128) fn main(
            @builtin(local_invocation_index) i: u32,
            @builtin(subgroup_id) subgroup: u32,
            @builtin(subgroup_invocation_id) lane: u32,
        ) {
            y[i] = vec4<u32>(subgroupAdd(i), subgroupMax(i * 3u % 17u), subgroupBroadcast(i, 1u), subgroup * 1000u + lane);
        }";
    for width in WIDTHS {
        let mut buffers = [vec![0; 512]];
        run((text, width), &mut buffers, [1, 1, 1], Default::default());
        for i in 0..128 {
            let (first, lane) = (i / width * width, i % width);
            let all = first..first + width;
            let most = all.clone().map(|i| i * 3 % 17).max().expect("lanes");
            let want = [all.sum::<u32>(), most, first + 1, i / width * 1000 + lane];
            assert_eq!(buffers[0][4 * i as usize..][..4], want, "subgroups of {width}, invocation {i}");
        }
    }
}

#[test]
fn scans_shuffles_and_ballots() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;
        @compute @workgroup_size(128) fn main(
            @builtin(local_invocation_index) i: u32,
            @builtin(subgroup_invocation_id) lane: u32,
        ) {
            let third = subgroupBallot(i % 3u == 0u).x;
            y[i] = vec4<u32>(subgroupInclusiveAdd(i), subgroupShuffleXor(i, 1u), subgroupShuffle(i, lane / 2u), third);
        }";
    for width in WIDTHS {
        let mut buffers = [vec![0; 512]];
        run((text, width), &mut buffers, [1, 1, 1], Default::default());
        for i in 0..128 {
            let (first, lane) = (i / width * width, i % width);
            let third = (0..width.min(32)).map(|lane| u32::from((first + lane) % 3 == 0) << lane).sum();
            let want = [(first..=i).sum(), i ^ 1, first + lane / 2, third];
            assert_eq!(buffers[0][4 * i as usize..][..4], want, "subgroups of {width}, invocation {i}");
        }
    }
}

#[test]
fn exclusive_scans_quads_and_relative_shuffles() {
    let text = "
        @group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;
        @compute @workgroup_size(128) fn main(
            @builtin(local_invocation_index) i: u32,
            @builtin(subgroup_invocation_id) lane: u32,
        ) {
            let up = select(0u, subgroupShuffleUp(i, 1u), lane >= 1u);
            let down = subgroupShuffleDown(i, lane % 2u);
            let quad = quadBroadcast(i, 2u) * 1000u + quadSwapX(i) * 100u + quadSwapDiagonal(i);
            y[i] = vec4<u32>(subgroupExclusiveAdd(i), up * 1000u + subgroupBroadcastFirst(i), quad, 0u);
            if (down < 128u) { y[i].w = subgroupExclusiveMul(select(1u, 3u, lane < 2u)); }
        }";
    for width in WIDTHS {
        let mut buffers = [vec![0; 512]];
        run((text, width), &mut buffers, [1, 1, 1], Default::default());
        for i in 0..128 {
            let (first, lane) = (i / width * width, i % width);
            let up = if lane > 0 { i - 1 } else { 0 };
            let quad = (i / 4 * 4 + 2) * 1000 + (i ^ 1) * 100 + (i ^ 3);
            let want = [(first..i).sum(), up * 1000 + first, quad, [1, 3, 9][lane.min(2) as usize]];
            assert_eq!(buffers[0][4 * i as usize..][..4], want, "subgroups of {width}, invocation {i}");
        }
    }
}

/// Products of cooperative matrices of 8 and 16, compared with sums by hand.
#[test]
fn cooperative_matrices() {
    for side in [8usize, 16] {
        let text = format!(
            "enable f16; enable wgpu_cooperative_matrix;
            alias Left = coop_mat{side}x{side}<f16, A>; alias Right = coop_mat{side}x{side}<f16, B>;
            alias Sum = coop_mat{side}x{side}<f32, C>;
            @group(0) @binding(0) var<storage, read_write> y: array<f32>;
            @group(0) @binding(1) var<storage, read> x: array<f32>;
            var<workgroup> a: array<f16, {0}>; var<workgroup> b: array<f16, {0}>; var<workgroup> c: array<f32, {0}>;
            @compute @workgroup_size(128) fn main(@builtin(local_invocation_index) i: u32) {{
                for (var j = i; j < {0}u; j += 128u) {{
                    a[j] = f16(x[j]);
                    b[j] = f16(x[j] + 0.5);
                }}
                workgroupBarrier();
                let left = coopLoadT<Left>(&a[0], {side}u);
                let right = coopLoad<Right>(&b[0], {side}u);
                var sum: Sum;
                sum = coopMultiplyAdd(left, right, sum);
                sum = coopMultiplyAdd(left, right, sum);
                coopStore(sum, &c[0], {side}u);
                workgroupBarrier();
                for (var j = i; j < {0}u; j += 128u) {{ y[j] = c[j]; }}
            }}",
            side * side
        );
        let n = side * side;
        let x: Vec<f32> = (0..n).map(|i| (i * 7 % 13) as f32 / 4.0 - 1.0).collect();
        // a is row-major, b and what is stored column-major.
        let product = |at: usize| {
            let (row, column) = (at % side, at / side);
            2.0 * (0..side).map(|k| x[row * side + k] * (x[column * side + k] + 0.5)).sum::<f32>()
        };
        let want: Vec<f32> = (0..n).map(product).collect();
        for width in WIDTHS {
            let mut buffers = [vec![0; n], bits(&x)];
            run((&text, width), &mut buffers, [1, 1, 1], Default::default());
            assert_eq!(floats(&buffers[0]), want, "side {side}, subgroups of {width}");
        }
    }
}

#[test]
fn builtins_of_several_workgroups_and_uniforms() {
    let text = "
        struct Sizes { a: u32, b: u32 }
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @group(0) @binding(1) var<uniform> sizes: Sizes;
        @compute @workgroup_size(4, 2, 3) fn main(
            @builtin(global_invocation_id) id: vec3<u32>,
            @builtin(workgroup_id) wg: vec3<u32>,
            @builtin(num_workgroups) count: vec3<u32>,
        ) {
            y[(id.z * 4u + id.y) * 12u + id.x] = id.x + 10u * wg.y + 100u * count.z + sizes.b;
        }";
    for width in WIDTHS {
        let mut buffers = [vec![0; 144], vec![1, 5000]];
        run((text, width), &mut buffers, [3, 2, 1], Default::default());
        let want = |at: u32| at % 12 + 10 * (at / 12 % 4 / 2) + 100 + 5000;
        assert_eq!(buffers[0], (0..144).map(want).collect::<Vec<_>>());
    }
}

#[test]
fn invalid_and_unsupported_texts_are_errors() {
    let error = |text: &str| Program::compile(text, 8).expect_err("an error");
    assert!(error("@compute @workgroup_size(1) fn main() { let x: u32 = 1.0; }").contains("error"));
    let bits = "@group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(1) fn main() { y[1] = extractBits(y[0], 3u, 4u); }";
    assert!(error(bits).contains("does not support ExtractBits"));
}

/// A grid that a device rejects.
#[test]
fn large_grids_are_errors() {
    let text = "@compute @workgroup_size(1) fn main() {}";
    let program = Program::compile(text, 8).expect("it is valid");
    let options = SimulationOptions { max_workgroups: Some(1), ..Default::default() };
    assert!(dispatch(&program, &mut [], &[], [65_535, 65_535, 1], options).is_ok());
    let error = dispatch(&program, &mut [], &[], [1, 65_536, 1], options).expect_err("too large");
    assert!(error.contains("devices allow 65535"), "{error}");
}
