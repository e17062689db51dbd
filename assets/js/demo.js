// The demo model's address, for programs that are bundled: `import demo from "firelight/demo"`.

export default new URL("./demo.gguf", import.meta.url).href;
