// Quantizes a row of x to int8 in groups of 32, into workgroup memory.
//#import lib/quantize_x
var<workgroup> x_words: array<u32, 8u * GROUPS>;
var<workgroup> x_steps: array<vec3<f32>, GROUPS>; // see QuantizedGroup

fn quantize_x(row: u32, lid: u32) {
    for (var g = lid; g < GROUPS; g += WG) {
        let rounded = quantize_group(row, g);
        //#unroll i 8
        x_words[8u * g + i] = rounded.words[i];
        //#end
        x_steps[g] = rounded.step;
    }
    workgroupBarrier();
}
