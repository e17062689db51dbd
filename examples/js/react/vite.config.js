export default {
  base: "./",
  esbuild: { jsx: "automatic" },
  build: { target: "esnext" },
  // The package finds its worker and its wasm next to its modules; pre-bundling would move them.
  optimizeDeps: { exclude: ["firelight"] },
  worker: { format: "es" },
};
