//! Weight types: dequantization on the CPU compared with the `gguf` Python package, and decoding of the packed planes
//! on the GPU compared with the CPU.

use firelight::dtype::{DType, GROUP};
use std::path::PathBuf;
use wgpu::util::DeviceExt;

fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn shader(name: &str) -> String {
    let path = path("shaders").join(name).with_extension("wgsl");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A small generator (splitmix64): the same numbers everywhere.
fn random(mut state: u64) -> impl FnMut() -> u32 {
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 32) as u32
    }
}

fn dequantize(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dtype.dequantize(bytes, &mut out);
    out
}

/// An error names the first weight whose bits differ.
fn same_bits(dtype: DType, got: &[f32], want: &[f32]) -> Result<(), String> {
    assert_eq!(got.len(), want.len(), "{dtype}");
    match got.iter().zip(want).position(|(got, want)| got.to_bits() != want.to_bits()) {
        Some(i) => Err(format!("{dtype}: weight {i} is {:e}, not {:e}", got[i], want[i])),
        None => Ok(()),
    }
}

/// An error names the first group that decodes to other numbers. Types with a min may differ by the rounding that a
/// fused multiply-add omits; subnormal results may be flushed to zero.
fn same_groups(dtype: DType, got: &[f32], want: &[f32]) -> Result<(), String> {
    assert_eq!(got.len(), want.len(), "{dtype}");
    let fused = matches!(dtype, DType::Q4_1 | DType::Q5_1 | DType::Q2K | DType::Q4K | DType::Q5K);
    for (g, (got, want)) in got.chunks(GROUP).zip(want.chunks(GROUP)).enumerate() {
        let largest = want.iter().fold(0f32, |max, x| max.max(x.abs()));
        let tolerance = if fused { largest * 2e-7 } else { 0.0 };
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            // Adapters may flush a subnormal f32 to zero: the weight itself, or MXFP4's scale, which is twelve times
            // smaller.
            let flushed = got == 0.0 && want.abs() < 12.0 * f32::MIN_POSITIVE;
            if !(got == want || flushed || (got - want).abs() <= tolerance) {
                return Err(format!("{dtype}: weight {i} of group {g} is {got:e}, not {want:e}"));
            }
        }
    }
    Ok(())
}

fn goldens(dtype: DType) -> (Vec<u8>, Vec<f32>) {
    let file = path(&format!("tests/data/quant/{dtype}.bin"));
    let mut blocks = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let unit = dtype.block_bytes() + 4 * dtype.block_len();
    assert!(!blocks.is_empty() && blocks.len().is_multiple_of(unit), "{dtype}: {} bytes", blocks.len());
    let weights = blocks.split_off(blocks.len() / unit * dtype.block_bytes());
    (blocks, weights.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

#[test]
fn dequantize_equals_the_gguf_package_bit_for_bit() {
    for dtype in DType::ALL {
        let (blocks, want) = goldens(dtype);
        same_bits(dtype, &dequantize(dtype, &blocks), &want).unwrap();
        // Every bit of a block changes a weight in some block, and the comparison detects it. Not in every block: its
        // scale may be zero, and two bytes may encode the same ternary digits.
        for bit in 0..8 * dtype.block_bytes() {
            let seen = (0..blocks.len() / dtype.block_bytes()).any(|block| {
                let mut blocks = blocks.clone();
                blocks[block * dtype.block_bytes() + bit / 8] ^= 1 << (bit % 8);
                same_bits(dtype, &dequantize(dtype, &blocks), &want).is_err()
            });
            assert!(seen, "{dtype}: bit {bit} changes nothing");
        }
    }
}

#[test]
fn the_table_equals_ggufs() {
    let rows = [
        ("F32", 0, 1, 4),
        ("F16", 1, 1, 2),
        ("BF16", 30, 1, 2),
        ("Q4_0", 2, 32, 18),
        ("Q4_1", 3, 32, 20),
        ("Q5_0", 6, 32, 22),
        ("Q5_1", 7, 32, 24),
        ("Q8_0", 8, 32, 34),
        ("Q2_K", 10, 256, 84),
        ("Q3_K", 11, 256, 110),
        ("Q4_K", 12, 256, 144),
        ("Q5_K", 13, 256, 176),
        ("Q6_K", 14, 256, 210),
        ("IQ1_S", 19, 256, 50),
        ("IQ1_M", 29, 256, 56),
        ("IQ2_XXS", 16, 256, 66),
        ("IQ2_XS", 17, 256, 74),
        ("IQ2_S", 22, 256, 82),
        ("IQ3_XXS", 18, 256, 98),
        ("IQ3_S", 21, 256, 110),
        ("IQ4_NL", 20, 32, 18),
        ("IQ4_XS", 23, 256, 136),
        ("MXFP4", 39, 32, 17),
        ("TQ1_0", 34, 256, 54),
        ("TQ2_0", 35, 256, 66),
    ];
    assert_eq!(DType::ALL.len(), rows.len());
    for (dtype, (name, id, len, bytes)) in DType::ALL.into_iter().zip(rows) {
        assert_eq!((dtype.name(), dtype.gguf_id()), (name, id));
        assert_eq!((dtype.block_len(), dtype.block_bytes()), (len, bytes), "{name}");
        assert_eq!(DType::from_gguf_id(id).unwrap(), dtype);
        assert_eq!(DType::from_name(&name.to_lowercase()), Some(dtype));
        assert_eq!(format!("{dtype:>8}"), format!("{name:>8}"));
        assert_eq!(dtype.row_bytes(512), Some((512 / len * bytes) as u64));
        assert_eq!(dtype.row_bytes(511), (len == 1).then_some(511 * bytes as u64));
        assert_eq!(dtype.row_bytes(u64::MAX - 255).is_some(), bytes < len, "{name}");
        // The GPU layout is not larger than the file's, except for two bytes of padding in blocks of 110, and tables.
        let packed: usize = dtype.planes().iter().map(|p| p.size(8 * 16).unwrap() as usize).sum();
        assert_eq!(packed, 16 * 256 / len * bytes + if bytes == 110 { 32 } else { 0 }, "{name}");
        let table = dtype.table().len();
        assert!(table <= 4096 && dtype.gpu_bytes(8, 512) == (packed + table) as u64, "{name}");
    }
    assert_eq!(DType::from_name("Q4_K_M"), None);
    let error = DType::from_gguf_id(40).unwrap_err().to_string();
    assert!(error.contains("40 (NVFP4)") && error.contains("Q4_K"), "{error}");
    assert!(DType::from_gguf_id(u32::MAX).unwrap_err().to_string().contains("4294967295"));
}

/// Byte offsets of a block's f16 fields.
fn f16_fields(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::F16 | DType::BF16 => &[0],
        DType::IQ1S | DType::IQ2XXS | DType::IQ2XS | DType::IQ2S | DType::IQ3XXS | DType::IQ3S => &[0],
        DType::IQ4NL | DType::IQ4XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::F32 => &[2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        DType::TQ1_0 => &[52],
        DType::TQ2_0 => &[64],
        DType::IQ1M | DType::MXFP4 => &[],
        new => panic!("list the f16 fields of {new}"),
    }
}

/// `rows` rows of random bits without infinite or NaN f16 fields (or upper 16 bits of a larger float); one scale in
/// four is subnormal. Exponents of `MXFP4` stay small enough for finite weights.
fn random_rows(dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
    let mut rng = random(7 + u64::from(dtype.gguf_id()));
    let mut bytes: Vec<u8> = (0..rows * dtype.row_bytes(cols as u64).unwrap() as usize).map(|_| rng() as u8).collect();
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for &at in f16_fields(dtype) {
            let exponent = if rng().is_multiple_of(4) { 0x00 } else { 0x3C };
            block[at + 1] = block[at + 1] & 0x83 | (rng() as u8 & exponent);
        }
        match dtype {
            DType::MXFP4 => block[0] = block[0].min(250),
            // The top bits of d are in the last byte.
            DType::IQ1M => block[55] &= if rng().is_multiple_of(4) { 0x8F } else { 0xBF },
            _ => {}
        }
    }
    bytes
}

/// The planes of `rows` in one buffer, and the start of each in vec4 units.
fn packed(dtype: DType, rows: &[u8], cols: usize) -> (Vec<u8>, Vec<usize>) {
    let groups = rows.len() / dtype.row_bytes(cols as u64).unwrap() as usize * cols.div_ceil(GROUP);
    let mut planes = vec![Vec::new(); dtype.planes().len()];
    // Two calls, to test that planes are appended to.
    let half = rows.len() / dtype.row_bytes(cols as u64).unwrap() as usize / 2;
    let (first, second) = rows.split_at(half * dtype.row_bytes(cols as u64).unwrap() as usize);
    dtype.pack_rows(first, cols, &mut planes);
    dtype.pack_rows(second, cols, &mut planes);
    let (mut buffer, mut starts) = (Vec::new(), Vec::new());
    for (bytes, plane) in planes.iter().zip(dtype.planes()) {
        starts.push(buffer.len() / 16);
        assert_eq!(bytes.len(), groups / plane.groups as usize * plane.bytes as usize, "{dtype}");
        buffer.extend_from_slice(bytes);
        buffer.resize(buffer.len().next_multiple_of(16), 0xEE);
        assert_eq!(plane.size(groups as u64), Some((buffer.len() - starts[starts.len() - 1] * 16) as u64), "{dtype}");
    }
    if !dtype.table().is_empty() {
        assert!(dtype.table().len().is_multiple_of(16), "{dtype}");
        starts.push(buffer.len() / 16);
        buffer.extend_from_slice(dtype.table());
    }
    (buffer, starts)
}

/// A kernel that decodes every group.
fn kernel(dtype: DType, starts: &[usize]) -> String {
    let mut source = String::from(
        "@group(0) @binding(0) var<storage, read> weight: array<vec4<u32>>;
         @group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;\n",
    );
    for (i, start) in starts.iter().enumerate().skip(1) {
        source += &format!("const PLANE{i} = {start}u;\n");
    }
    source += &["lib/weight", "lib/iq_grid", dtype.shader()].map(shader).concat();
    source += "@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x * 8u < arrayLength(&out) {
            let block = load_block(id.x);
            for (var i = 0u; i < 8u; i++) {
                out[id.x * 8u + i] = decode4(block, i);
            }
        }
    }";
    source
}

#[test]
fn shaders_validate_without_any_extension() {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    // naga requires this for unpack2x16float, which is part of WGSL.
    let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    for dtype in DType::ALL {
        let starts: Vec<usize> = (0..dtype.planes().len() + usize::from(!dtype.table().is_empty())).collect();
        let source = kernel(dtype, &starts);
        let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
        Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{dtype}: {}", e.emit_to_string(&source)));
    }
}

struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
}

impl Gpu {
    async fn open() -> Option<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.ok()?;
        let limits = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        let (device, queue) = adapter.request_device(&limits).await.ok()?;
        Some(Self { device, queue })
    }

    /// Runs a kernel with `weight` in its first binding, and returns its second.
    fn run(&self, source: &str, weight: &[u8], groups: usize) -> Vec<f32> {
        use wgpu::BufferUsages as Usage;
        let device = &self.device;
        let source = wgpu::ShaderSource::Wgsl(source.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let weight = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: weight,
            usage: Usage::STORAGE,
        });
        let buffer = |usage| {
            let size = (groups * GROUP * 4) as u64;
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let (out, read) = (buffer(Usage::STORAGE | Usage::COPY_SRC), buffer(Usage::MAP_READ | Usage::COPY_DST));
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: weight.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: out.as_entire_binding() },
            ],
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bindings, &[]);
        pass.dispatch_workgroups(groups.div_ceil(64) as u32, 1, 1);
        drop(pass);
        encoder.copy_buffer_to_buffer(&out, 0, &read, 0, out.size());
        self.queue.submit([encoder.finish()]);
        read.map_async(wgpu::MapMode::Read, .., |mapped| mapped.unwrap());
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        bytemuck::cast_slice(&read.get_mapped_range(..).unwrap()).to_vec()
    }
}

/// The adapter. Without one, GPU tests are skipped, except in CI.
fn open_gpu() -> Option<Gpu> {
    let gpu = pollster::block_on(Gpu::open());
    if gpu.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no GPU adapter");
        println!("skipped: no GPU adapter");
    }
    gpu
}

/// The CPU's weights, rows padded to whole groups.
fn padded(dtype: DType, rows: &[u8], cols: usize) -> Vec<f32> {
    let weights = dequantize(dtype, rows);
    weights.chunks(cols).flat_map(|row| [row, &vec![0.0; cols.next_multiple_of(GROUP) - cols]].concat()).collect()
}

/// Compares the GPU's decoding of packed rows with the CPU's.
fn decodes(gpu: &Gpu, dtype: DType, rows: &[u8], cols: usize) -> Result<(), String> {
    let (weight, starts) = packed(dtype, rows, cols);
    let want = padded(dtype, rows, cols);
    same_groups(dtype, &gpu.run(&kernel(dtype, &starts), &weight, want.len() / GROUP), &want)
}

#[test]
fn the_gpu_decodes_like_the_cpu() {
    let Some(gpu) = open_gpu() else { return };
    for dtype in DType::ALL {
        let shapes: &[(usize, usize)] =
            if dtype.block_len() == 1 { &[(96, 512), (33, 33), (7, 100), (2, 1)] } else { &[(96, 512), (3, 256)] };
        for &(rows, cols) in shapes {
            decodes(&gpu, dtype, &random_rows(dtype, rows, cols), cols).unwrap();
        }
    }
}

#[test]
fn the_comparison_detects_one_flipped_bit() {
    let Some(gpu) = open_gpu() else { return };
    for dtype in DType::ALL {
        let rows = random_rows(dtype, 2, 256);
        let (mut weight, starts) = packed(dtype, &rows, 256);
        weight[5] ^= 1;
        let got = gpu.run(&kernel(dtype, &starts), &weight, 2 * 256 / GROUP);
        same_groups(dtype, &got, &padded(dtype, &rows, 256)).unwrap_err();
    }
}

#[test]
fn the_gpu_reads_every_f16_exactly() {
    let Some(gpu) = open_gpu() else { return };
    let finite: Vec<u16> = (0..=u16::MAX).filter(|h| h & 0x7C00 != 0x7C00).collect();
    let weights: Vec<u8> = finite.iter().flat_map(|h| h.to_le_bytes()).collect();
    let scales: Vec<u8> =
        finite.iter().flat_map(|h| [&h.to_le_bytes()[..], &[1, 0xFF, 3, 0x80].repeat(8)].concat()).collect();
    for (dtype, rows) in [(DType::F16, weights), (DType::Q8_0, scales)] {
        decodes(&gpu, dtype, &rows, GROUP).unwrap();
    }
}

#[test]
fn random_blocks_have_the_requested_deviation() {
    for dtype in DType::ALL {
        for scale in [0.002f32, 0.03, 1000.0] {
            let mut bytes = vec![0; (1 << 18) / dtype.block_len() * dtype.block_bytes()];
            dtype.random_blocks(&mut random(1), &mut bytes, scale);
            let weights = dequantize(dtype, &bytes);
            let n = weights.len() as f64;
            let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
            let deviation = (weights.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / n).sqrt();
            let (mean, deviation) = (mean / f64::from(scale), deviation / f64::from(scale));
            assert!(mean.abs() < 0.02 && (0.95..1.05).contains(&deviation), "{dtype} {scale}: {mean} {deviation}");
        }
    }
}
