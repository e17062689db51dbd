// Numbers of 16 bits.
alias Four = vec4<f16>;
