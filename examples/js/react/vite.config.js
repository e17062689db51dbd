export default {
  base: "./",
  esbuild: { jsx: "automatic" },
  build: { target: "esnext" },
  // The package finds its worker and its wasm beside its modules, which pre-bundling would move.
  optimizeDeps: { exclude: ["firelight"] },
  worker: { format: "es" },
};
