// Numbers of 16 bits.
//#enable f16
alias Four = vec4<f16>;
