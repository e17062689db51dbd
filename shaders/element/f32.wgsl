// 32-bit floats.
alias Four = vec4<f32>;
