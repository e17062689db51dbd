// Markdown as elements. What a model writes is hostile: its HTML is shown as text, and everything passes DOMPurify.

import { icon, make } from "./dom.js";
import { DOMPurify, Marked, hljs, temml } from "./vendor.js";

/** Characters of a block, and depth of its elements, above which it is shown as plain text. */
const LONGEST = 50_000;
const DEEPEST = 60;
/** Characters of a code block above which it has no colours. */
const COLOURED = 20_000;
/** HTML that is passed on: models write line breaks into tables. */
const HARMLESS = /^<\/?(br|sub|sup|kbd)\s*\/?>$/i;
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text) => text.replace(/[&<>"']/g, (character) => ENTITIES[character]);

const TAGS = `a blockquote br code del em h1 h2 h3 h4 h5 h6 hr kbd li ol p pre span strong sub sup table tbody td th thead tr ul
  math merror mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace msqrt mstyle msub
  msubsup msup mtable mtd mtext mtr munder munderover menclose none`.split(/\s+/);
const MATH_ATTRIBUTES = `accent accentunder columnalign columnspacing depth display displaystyle fence form height
  largeop linethickness lspace mathvariant maxsize minsize movablelimits notation rowspacing rspace scriptlevel separator
  stretchy symmetric voffset width`.split(/\s+/);
const SAFE = ["align", "class", "start", ...MATH_ATTRIBUTES];
const POLICY = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["href", ...SAFE],
  ADD_URI_SAFE_ATTR: SAFE,
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (element) => {
  if (element.nodeName !== "A") return;
  element.target = "_blank";
  element.rel = "noopener noreferrer nofollow";
});

/** Sanitized HTML, as a fragment. */
const clean = (html) => DOMPurify.sanitize(html, POLICY);

// Mathematics: $$...$$, \[...\], \(...\), and $...$ where it cannot be money.

const BLOCK_MATH = /^ {0,3}(?:\$\$([^]+?)\$\$|\\\[([^]+?)\\\])[ \t]*(?:\n|$)/;
const INLINE_MATH = /^(?:\$\$([^$]+?)\$\$|\\\(([^]+?)\\\)|\\\[([^]+?)\\\]|\$(?![\s$])((?:\\.|[^$\\\n])+?)(?<!\s)\$(?![\d$]))/;

function mathToken(match) {
  if (!match) return undefined;
  const [raw, ...forms] = match;
  return { type: "math", raw, text: forms.find((form) => form !== undefined).trim() };
}

/** MathML; the source if it is not mathematics. */
function mathHtml(text, displayMode) {
  try {
    return temml.renderToString(text, { displayMode, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 40] });
  } catch {
    return `<code>${escaped(text)}</code>`;
  }
}

const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  extensions: [
    {
      name: "displayMath",
      level: "block",
      start: (src) => src.match(/\n {0,3}(?:\$\$|\\\[)/)?.index,
      tokenizer: (src) => {
        const token = mathToken(BLOCK_MATH.exec(src));
        return token && { ...token, type: "displayMath" };
      },
      renderer: ({ text }) => `<p class="display">${mathHtml(text, true)}</p>`,
    },
    {
      name: "math",
      level: "inline",
      start: (src) => src.match(/\$|\\[([]/)?.index,
      tokenizer: (src) => mathToken(INLINE_MATH.exec(src)),
      renderer: ({ raw, text }) => mathHtml(text, /^(\$\$|\\\[)/.test(raw)),
    },
  ],
  renderer: {
    html({ text, block }) {
      if (HARMLESS.test(text.trim())) return text;
      return block ? `<p>${escaped(text.trim())}</p>` : escaped(text);
    },
    // Images are not fetched: that would tell their host what is read here.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || "image")}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    code: ({ text, lang }) =>
      `<pre><code class="language-${escaped((lang ?? "").split(/\s/)[0])}">${escaped(text)}</code></pre>`,
  },
});

const depth = (node) => 1 + Math.max(0, ...Array.from(node.children, depth));

function plain(text) {
  return make("div", { className: "plain" }, text);
}

/** The blocks of a Markdown text; one of type "plain" if it cannot be parsed. */
function lex(text) {
  try {
    return marked.lexer(text);
  } catch {
    return [{ type: "plain", raw: text }];
  }
}

/** The elements of a block. `open`: whether it still grows. */
function render(block, open) {
  if (block.type === "plain" || block.raw.length > LONGEST) return [plain(block.raw)];
  try {
    const fragment = clean(marked.parser([block]));
    if (depth(fragment) > DEEPEST) return [plain(block.raw)];
    for (const code of fragment.querySelectorAll("pre > code")) frameCode(code, open);
    for (const table of fragment.querySelectorAll("table")) frameTable(table);
    return [...fragment.childNodes];
  } catch {
    return [plain(block.raw)];
  }
}

/** Adds the language, a button to copy, and colours. */
function frameCode(code, open) {
  const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
  const text = code.textContent;
  const button = make("button", { type: "button", className: "copy-code quiet" }, icon("copy"), "Copy");
  const head = make("div", { className: "code-head" }, make("span", {}, language || "text"), button);
  const frame = make("div", { className: "code" }, head);
  code.parentElement.replaceWith(frame);
  const pre = make("pre", { tabIndex: 0, aria: { label: `${language || "text"} code` } }, code);
  pre.setAttribute("role", "region");
  frame.append(pre);
  if (open || text.length > COLOURED || !hljs.getLanguage(language)) return;
  code.replaceChildren(clean(hljs.highlight(text, { language, ignoreIllegals: true }).value));
}

/** Lets a wide table scroll. */
function frameTable(table) {
  const frame = make("div", { className: "wide", tabIndex: 0, aria: { label: "Table" } });
  frame.setAttribute("role", "region");
  table.replaceWith(frame);
  frame.append(table);
}

/** A whole text. */
export function markdown(text) {
  const fragment = new DocumentFragment();
  for (const block of lex(text.replaceAll("\r\n", "\n"))) if (block.type !== "space") fragment.append(...render(block));
  return fragment;
}

/** A text that grows. It is rendered at most once a frame, and a finished block only once. */
export class MarkdownStream {
  #root;
  #around;
  #text = "";
  /** Characters of the finished blocks. */
  #finished = 0;
  /** The nodes of the block that still grows; of a code block, also its text node. */
  #growing = [];
  #code = null;
  #scheduled = false;
  /** Milliseconds that the last rendering took. */
  #cost = 0;

  /** `around` is called with each change of `root`. */
  constructor(root, around = (change) => change()) {
    this.#root = root;
    this.#around = around;
  }

  append(text) {
    this.#text += text.replaceAll("\r", "");
    if (this.#scheduled) return;
    this.#scheduled = true;
    const draw = () => {
      if (!this.#scheduled) return;
      this.#scheduled = false;
      this.#draw(false);
    };
    // Rendering takes at most a fifth of the time.
    setTimeout(() => requestAnimationFrame(draw), this.#cost > 4 ? 4 * this.#cost : 0);
  }

  /** Renders the rest. */
  end() {
    this.#scheduled = false;
    this.#draw(true);
  }

  #draw(ended) {
    const begun = performance.now();
    const blocks = lex(this.#text.slice(this.#finished));
    const last = ended ? blocks.length : blocks.findLastIndex(({ type }) => type !== "space");
    this.#around(() => {
      if (!ended && last === 0 && this.#growCode(blocks[0])) return;
      for (const node of this.#growing) node.remove();
      [this.#growing, this.#code] = [[], null];
      blocks.slice(0, Math.max(last, 0)).forEach((block) => {
        this.#finished += block.raw.length;
        if (block.type !== "space") this.#root.append(...render(block, false));
      });
      if (ended || last < 0) return;
      this.#growing = render(blocks[last], true);
      this.#root.append(...this.#growing);
      if (blocks[last].type === "code") this.#code = this.#growing[0].querySelector?.("code") ?? null;
    });
    this.#cost = performance.now() - begun;
  }

  /** Appends to a code block that still grows. */
  #growCode(block) {
    const shown = this.#code?.firstChild;
    if (block.type !== "code" || !shown || block.raw.length > LONGEST || !block.text.startsWith(shown.data)) return false;
    shown.appendData(block.text.slice(shown.data.length));
    return true;
  }
}
