// 16-bit floats.
//#enable f16
alias Four = vec4<f16>;
