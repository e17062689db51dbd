// Numbers of 32 bits.
alias Four = vec4<f32>;
