// A conversation: a tree of messages. Editing a message or asking for another answer adds a sibling, and nothing is
// overwritten; the shown messages are the path from the root to the leaf.

/** Characters of a title. */
const TITLE = 60;

let lastTime = 0;

/** The time, never the same twice: it orders messages. */
function now() {
  lastTime = Math.max(Date.now(), lastTime + 1);
  return lastTime;
}

export class Conversation {
  /** Messages `{id, conversation, parent, role, content, reasoning, created, ...}` by id. */
  messages = new Map();

  constructor(facts = {}, messages = []) {
    const time = now();
    /** What the list shows, and the id of the last message shown. */
    this.facts = { id: crypto.randomUUID(), title: "", created: time, updated: time, leaf: null, ...facts };
    for (const message of messages) this.messages.set(message.id, message);
    if (!this.messages.has(this.facts.leaf)) this.facts.leaf = this.#newest();
  }

  get id() {
    return this.facts.id;
  }

  #newest() {
    return [...this.messages.values()].reduce((a, b) => (a && a.created > b.created ? a : b), null)?.id ?? null;
  }

  /** The shown messages. */
  path() {
    const path = [];
    let message = this.messages.get(this.facts.leaf);
    while (message && !path.includes(message)) {
      path.unshift(message);
      message = this.messages.get(message.parent);
    }
    return path;
  }

  /** Adds a message after `parent`, and shows it last. */
  add(role, content, parent = this.facts.leaf) {
    const message = { id: crypto.randomUUID(), conversation: this.id, parent, role, content, created: now() };
    this.messages.set(message.id, message);
    this.facts.leaf = message.id;
    this.facts.updated = message.created;
    if (role === "user" && !this.facts.title) this.facts.title = titleOf(content);
    return message;
  }

  /** The messages in the place of this one, by age. */
  versions({ parent, role }) {
    const same = [...this.messages.values()].filter((other) => other.parent === parent && other.role === role);
    return same.sort((a, b) => a.created - b.created);
  }

  /** Shows a message, and the newest messages after it. */
  show(message) {
    let next = message;
    while (next) {
      this.facts.leaf = next.id;
      next = [...this.messages.values()].filter(({ parent }) => parent === next.id).sort((a, b) => b.created - a.created)[0];
    }
  }

  /** Removes a message without messages after it. */
  remove(message) {
    this.messages.delete(message.id);
    if (this.facts.leaf === message.id) this.facts.leaf = message.parent;
  }

  /** The messages that the model reads: without reasoning. */
  prompt(system) {
    const said = this.path().map(({ role, content }) => ({ role, content }));
    return system ? [{ role: "system", content: system }, ...said] : said;
  }

  /** As Markdown. */
  markdown() {
    const part = ({ role, content, model }) => `## ${role === "user" ? "You" : (model ?? "Model")}\n\n${content}\n`;
    return [`# ${this.facts.title || "Conversation"}\n`, ...this.path().map(part)].join("\n");
  }

  /** As JSON: every message, with those that are not shown. */
  json() {
    return JSON.stringify({ ...this.facts, messages: [...this.messages.values()] }, null, 2);
  }
}

function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length <= TITLE ? line : `${line.slice(0, TITLE - 1).trimEnd()}…`;
}
