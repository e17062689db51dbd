// The package's exports.

export { cache } from "./cache.js";
export { FirelightError } from "./errors.js";
export { Firelight } from "./model.js";
export { OpenAI } from "./openai.js";
export { LanguageModel } from "./prompt-api.js";
