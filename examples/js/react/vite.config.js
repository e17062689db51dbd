export default {
  base: "./",
  // Only for the development server: the package finds its worker and its wasm next to its modules, and pre-bundling
  // would move them.
  optimizeDeps: { exclude: ["firelight"] },
};
